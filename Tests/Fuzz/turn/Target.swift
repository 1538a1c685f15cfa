import NIOCore
import P2PDNet

@testable import P2PDTraversal

/// What a TURN server sends on a stream: nothing in it may trap, frames come apart as they were put together, and whatever
/// answers a session gets, it keeps to its bounds and ends once.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzTURN(_ data: UnsafePointer<UInt8>, _ size: Int) -> Int32 {
  let bytes = [UInt8](UnsafeBufferPointer(start: data, count: size))
  var session = TURNSession(
    bytes.first.map { $0 & 1 == 0 } == true ? .tcp : .udp, at: Endpoint(ip: .loopback(.v4), port: 3478),
    login: TURNLogin(user: "ann", password: "secret"))
  var now = NIODeadline.uptimeNanoseconds(0)
  var open: [Int] = []
  var ends = 0

  func tell(_ event: TURNSession.Event) {
    for action in session.handle(event, now: now) {
      precondition(ends == 0, "it goes on after its end")
      switch action {
      case .ask(let number, let message, let signature):
        open.append(number)
        precondition(open.count < 400, "questions without bound")
        guard let written = try? message.encoded(signature: signature) else { continue }
        guard let read = try? STUNMessage(decoding: written) else { preconditionFailure("a request nobody can read") }
        precondition(read.attributes.starts(with: message.attributes), "a request that changes on its way")
      case .wait(let time): precondition(time > now, "woken without pause")
      case .allocated(let address): precondition(!address.relayed.ip.isMulticast && address.relayed.port != 0)
      case .ended, .redirected, .needsAnotherPort: ends += 1
      default: break
      }
    }
  }

  tell(.start)
  tell(.permit(.loopback(.v4)))
  var rest = bytes.dropFirst()
  while let (frame, length) = try? TURNFrame.next(in: rest) {
    precondition(length > 0 && length <= rest.count && length % 4 == 0, "a frame longer than the stream")
    switch frame {
    case .channelData(let channel, let data):
      guard let again = TURNFrame.channelData(channel, data, padded: true) else { preconditionFailure("too long") }
      precondition(again.count == length && again.prefix(4 + data.count).elementsEqual(rest.prefix(4 + data.count)))
      // Between two answers: time passes, somebody is let through.
      now = now + .seconds(Int64(channel))
      tell(.timer)
      tell(.permit(IPAddress(family: .v4, high: UInt64(channel) << 32, low: 0)))
      tell(.bind(Endpoint(ip: .loopback(.v4), port: channel)))
    case .message(let message):
      guard !open.isEmpty else { break }
      tell(.answered(open.removeFirst(), message))
    }
    rest = rest.dropFirst(length)
  }
  _ = TURNFrame(datagram: bytes[...])
  tell(.close)
  for number in open { tell(.unanswered(number, NetError(.timeout, "ask"))) }
  return 0
}
