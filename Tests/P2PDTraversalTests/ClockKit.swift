import NIOCore
import P2PDNet

@testable import P2PDTraversal

/// A time server of the test's own: right by `offset`, or as its closure spoils the answer. Confined to its loop.
final class FakeTimeServer: PipeSink, @unchecked Sendable {
  typealias Spoil = @Sendable (inout NTPPacket, _ count: Int) -> Void

  private(set) var requests: [NTPPacket] = []
  private let clock: @Sendable () -> NTPTimestamp
  private let spoil: Spoil?
  private(set) var pipe: Pipe?

  private init(_ clock: @escaping @Sendable () -> NTPTimestamp, _ spoil: Spoil?) {
    self.clock = clock
    self.spoil = spoil
  }

  /// - Parameter clock: what the server's clock says.
  static func start(
    _ place: Endpoint, on loop: any EventLoop, clock: @escaping @Sendable () -> NTPTimestamp, _ spoil: Spoil? = nil
  ) -> EventLoopFuture<FakeTimeServer> {
    let server = FakeTimeServer(clock, spoil)
    return PipeOpener.open(.udp, bind: place, sink: server, on: loop).map {
      server.pipe = $0
      return server
    }
  }

  /// A good answer to the question, by this clock.
  static func answer(to question: NTPPacket, at now: NTPTimestamp) -> NTPPacket {
    var answer = NTPPacket(.server)
    (answer.stratum, answer.precision) = (2, -20)
    answer.rootDelay = NTPShort(bits: 655)  // 10 ms
    answer.rootDispersion = NTPShort(bits: 65)  // 1 ms
    answer.reference = now.advanced(by: .seconds(-100))
    (answer.origin, answer.receive, answer.transmit) = (question.transmit, now, now)
    return answer
  }

  func pipe(_ pipe: Pipe, message bytes: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    guard let question = NTPPacket(decoding: [UInt8](bytes)) else { return true }
    requests.append(question)
    var answer = Self.answer(to: question, at: clock())
    spoil?(&answer, requests.count)
    _ = answer.encoded.withUnsafeBytes { pipe.send($0, to: peer) }
    return true
  }

  func close() { pipe?.close(flush: .zero) }
}

extension TimeAmount {
  static func ms(_ count: Int64) -> TimeAmount { .milliseconds(count) }
}
