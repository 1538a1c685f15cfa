import P2PDNet

@testable import P2PDTraversal

/// What a node tells another one on the way to a pipe: nothing in it may trap; what was read can be written, fits a
/// signal, and reads the same again; and no plan made of it leads to an address that a stranger may not have dialled.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzRendezvous(_ data: UnsafePointer<UInt8>, _ size: Int) -> Int32 {
  guard let read = Rendezvous([UInt8](UnsafeBufferPointer(start: data, count: size))) else { return 0 }
  let bytes = read.bytes
  precondition(bytes.count <= Rendezvous.longest, "longer than a signal carries")
  guard let again = Rendezvous(bytes) else { preconditionFailure("written, but not readable") }
  precondition(again.bytes == bytes, "it changed on its way")
  let side: Rendezvous.Side
  switch read.message {
  case .offer(let offer): side = offer.side
  case .answer(let answer): side = answer.side
  case .report(let attempts):
    for attempt in attempts { precondition(attempt.error.description.utf8.allSatisfy { $0 >= 0x20 || $0 == 0x0a }) }
    return 0
  case .here(let address):
    precondition(
      address.utf8.count <= Rendezvous.longestAddress && address.utf8.allSatisfy { (0x21...0x7e).contains($0) })
    return 0
  default: return 0
  }
  _ = side.outside
  let plan = DirectPlan(to: side.paths, from: own, trust: .stranger)
  precondition(plan.candidates.count <= 8, "too much is dialled for a stranger")
  for candidate in plan.candidates {
    let ip = candidate.endpoint.ip
    precondition(!ip.isLoopback && !ip.isMulticast && !ip.isWildcard && !ip.isBroadcast && candidate.endpoint.port != 0)
    precondition(!own.contains { $0.ip == ip }, "this machine is dialled for a stranger")
  }
  return 0
}

private let own = [("127.0.0.1", 8), ("192.168.1.5", 24), ("2001:db8::5", 64), ("fe80::5", 64)].compactMap {
  text, prefix in IPAddress(text).map { LocalAddress(ip: $0, prefix: prefix, interface: 2) }
}
