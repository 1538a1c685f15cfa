import NIOCore

@testable import P2PDNet
@testable import P2PDTraversal

/// PCP and NAT-PMP: nothing that a router sends may trap; what was read can be written and read again. The same bytes, in
/// pieces with times between, are fed to a lease: whatever a router does, the lease asks at a bounded rate, goes on
/// by itself, and comes to an end when it is told to.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzPCP(_ data: UnsafePointer<UInt8>, _ size: Int) -> Int32 {
  let bytes = [UInt8](UnsafeBufferPointer(start: data, count: size))
  if let request = PCPCodec.request(bytes) {
    precondition(PCPCodec.request(PCPCodec.encode(request)) == request, "a request changes")
  }
  if let response = PCPCodec.response(bytes), bytes[0] == 2 {
    let again = PCPCodec.response(PCPCodec.encode(response))
    precondition(again == response, "a response changes")
  }
  if let request = NATPMPRequest(bytes) { precondition(NATPMPRequest(request.bytes) == request, "a request changes") }
  if let response = NATPMPResponse(decoding: bytes) {
    precondition(NATPMPResponse(decoding: response.bytes) == response, "a response changes")
  }
  let text = String(decoding: bytes, as: UTF8.self)
  let memory = PortMappingMemory(text: text)
  precondition(PortMappingMemory(text: memory.text) == memory, "the memory changes")
  live(bytes)
  return 0
}

/// A lease whose router does what the bytes say. One byte chooses what happens, one how much later (in 1/8 s), the next ones
/// fill an answer in.
private func live(_ bytes: [UInt8]) {
  guard let nonce = PCPNonce((0..<12).map { UInt8($0) }), let local = IPAddress("192.168.1.10"),
    let outside = IPAddress("203.0.113.5")
  else { return }
  var lease = MappingLease(.init(local: local, transport: .tcp, port: 4000), nonce: nonce, random: { 0.5 })
  var reader = ByteReader(bytes)
  var now = NIODeadline.uptimeNanoseconds(0)
  var due: NIODeadline?
  var asked = 0
  func step(_ event: MappingLease.Event) {
    for action in lease.handle(event, now: now) {
      switch action {
      case .pcp, .natpmp, .search, .addUPnP: asked += 1
      case .wait(let until): due = until
      default: break
      }
    }
  }
  step(.start)
  var events = 1
  while events < 64, let kind = reader.byte(), let delay = reader.byte() {
    events += 1
    now = now + .milliseconds(Int64(delay) * 125)
    let number = reader.uint16() ?? 7200
    let epoch = UInt32(now.uptimeNanoseconds / 1_000_000_000) &+ UInt32(delay & 3)
    let map = PCPMap(
      nonce: nonce, transport: 6, internalPort: 4000, external: Endpoint(ip: outside, port: number))
    switch kind % 12 {
    case 0: step(.pcp(PCPResponse(.success, lifetime: UInt32(number), epoch: epoch, operation: .map(map))))
    case 1: step(.pcp(PCPResponse(PCPResult(delay), lifetime: UInt32(number), epoch: epoch, operation: .map(map))))
    case 2: step(.pcp(PCPResponse(.success, lifetime: 0, epoch: UInt32(number), operation: .announce)))
    case 3: step(.natpmp(NATPMPResponse(.success, epoch: epoch, content: .address(outside))))
    case 4:
      step(
        .natpmp(
          NATPMPResponse(
            .success, epoch: UInt32(number),
            content: .map(.tcp, internalPort: 4000, externalPort: number, lifetime: UInt32(number)))))
    case 5: step(.natpmp(NATPMPResponse(NATPMPResult(number), epoch: nil, content: .refused(delay & 3))))
    case 6: step(.upnpReady)
    case 7: step(.upnpUnfit(""))
    case 8:
      let life = delay == 0 ? nil : TimeAmount.seconds(Int64(number))
      step(.upnpGranted(.init(by: .upnp, external: Endpoint(ip: outside, port: number), lifetime: life)))
    case 9: step(.upnpRefused("", isFinal: delay & 1 == 0))
    case 10: step(.announced)
    default: if let due, due > now { now = due }
    }
    step(.timer)
    precondition(lease.isOver || (due.map { $0 > now } ?? false), "it sleeps for ever")
  }
  // Each event may begin a race, and each race repeats a bounded number of requests.
  precondition(asked <= events * 32, "\(asked) requests after \(events) events")
  step(.stop)
  for _ in 0..<8 where !lease.isOver {
    if let due, due > now { now = due }
    step(.timer)
  }
  precondition(lease.isOver && lease.grant == nil, "it does not end")
}
