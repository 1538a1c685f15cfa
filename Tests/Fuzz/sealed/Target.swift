import NIOCore

@testable import P2PDSignaling

private let sender = SignalIdentity(seed: [UInt8](repeating: 1, count: 32))
private let receiver = SignalIdentity(seed: [UInt8](repeating: 2, count: 32))
private let start = NIODeadline.uptimeNanoseconds(1 << 40)
private let clock: UInt32 = 1_000_000

/// Messages of strangers. The first byte says how far in the rest begins: what a broker carries, what stands behind the
/// gate, or what stands behind seal and signature, which random bytes never reach.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzSealed(_ data: UnsafePointer<UInt8>, _ size: Int) -> Int32 {
  guard size >= 1, let sender, let receiver else { return 0 }
  let input = [UInt8](UnsafeBufferPointer(start: data, count: size))
  let rest = Array(input[1...])
  let gate = Gate(of: receiver.key)
  var inbox = Inbox(receiver, SignalingConf(), at: start)
  switch input[0] % 3 {
  case 0:
    let verdict = inbox.receive(rest, now: start, clock: clock)
    guard case .refused = verdict else { preconditionFailure("a message out of nothing") }
  case 1:
    guard let inner = fitted(rest, Gate.overhead), let message = try? gate.close(inner) else { return 0 }
    let verdict = inbox.receive(message, now: start, clock: clock)
    guard case .refused = verdict else { preconditionFailure("a message without its sender") }
  default:
    guard let body = fitted(rest, SealedMessage.overhead),
      let message = try? SealedMessage.seal(
        body: body, from: sender, to: receiver.key, issued: clock, lifetime: 30, gate: gate)
    else { return 0 }
    let verdict = inbox.receive(message, now: start, clock: clock)
    let content = SignalContent(body[...])
    if let content { precondition(content.bytes(paddedTo: body.count) == body, "content changes when it is written") }
    switch (verdict, content?.kind) {
    case (.message(let from, let payload), .message?):
      precondition(from == sender.key && payload == content?.payload, "another message than was sent")
    case (.request(_, _, let secret, _), .request(let sent)?): precondition(secret == sent, "another secret")
    case (.refused(.unasked), .answer?), (.refused(.forged), nil): break
    default: preconditionFailure("\(verdict) for \(String(describing: content))")
    }
    guard case .repeated = inbox.receive(message, now: start, clock: clock) else {
      preconditionFailure("the same message twice")
    }
  }
  precondition(inbox.kept.seen <= 1 && inbox.kept.senders <= 1, "kept more than came")
  return 0
}

/// Zeros behind the bytes, so that with `around` more a message has one of its lengths. nil: too many.
private func fitted(_ bytes: [UInt8], _ around: Int) -> [UInt8]? {
  guard let size = Gate.sizes.first(where: { $0 >= bytes.count + around }) else { return nil }
  return bytes + [UInt8](repeating: 0, count: size - around - bytes.count)
}
