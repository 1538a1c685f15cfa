import NIOCore
import P2PDNet
import Testing

@testable import P2PDTraversal

@Suite("STUN over one TCP connection")
struct STUNStreamTests {
  /// Accepts one connection and does with each request what the closure says.
  private final class Server: PipeSink, @unchecked Sendable {
    var listener: Pipe?
    private let serve: (STUNMessage, Pipe) -> Void
    private var client: Pipe?

    init(_ serve: @escaping (STUNMessage, Pipe) -> Void) { self.serve = serve }

    func pipeAccepted(_ pipe: Pipe, by server: Pipe) -> (any PipeSink)? {
      client = pipe
      return self
    }

    func pipe(_ pipe: Pipe, message bytes: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
      if let request = try? STUNMessage(decoding: [UInt8](bytes)) { serve(request, pipe) }
      return true
    }
  }

  private func ask(_ serve: @escaping @Sendable (STUNMessage, Pipe) -> Void) async throws -> Result<Bool, NetError> {
    try await onLoop { loop in
      let server = Server(serve)
      return PipeOpener.open(.tcp, bind: loopback, sink: server, on: loop).flatMap { listener in
        server.listener = listener
        return STUNStream.connect(listener.localEndpoint ?? loopback, bind: loopback, on: loop).flatMap { stream in
          let promise = loop.makePromise(of: Result<Bool, NetError>.self)
          stream.bind(schedule: .init(rto: .milliseconds(200), requests: 1, lastWait: 1)) { result in
            promise.succeed(result.map { $0.message.mapped == stream.local })
          }
          return promise.futureResult.always { _ in
            stream.close()
            listener.close(flush: .zero)
          }
        }
      }
    }
  }

  private static func answer(_ request: STUNMessage, _ pipe: Pipe) -> [UInt8] {
    let mapped = pipe.peer?.endpoint ?? loopback
    let answer = STUNMessage(
      .success, .binding, transaction: request.transaction, attributes: [.software("test"), .xorMappedAddress(mapped)])
    return (try? answer.encoded()) ?? []
  }

  @Test("an answer in one piece, in many, and behind another message")
  func pieces() async throws {
    let whole = try await ask { request, pipe in _ = Self.answer(request, pipe).withUnsafeBytes { pipe.send($0) } }
    #expect(try whole.get())
    let bytewise = try await ask { request, pipe in
      for byte in Self.answer(request, pipe) { _ = [byte].withUnsafeBytes { pipe.send($0) } }
    }
    #expect(try bytewise.get())
    let behind = try await ask { request, pipe in
      let indication = (try? STUNMessage(.indication, .connectionAttempt).encoded()) ?? []
      _ = (indication + Self.answer(request, pipe)).withUnsafeBytes { pipe.send($0) }
    }
    #expect(try behind.get())
  }

  @Test("a stream of something else, an end and silence each fail with their own word")
  func failures() async throws {
    func code(_ result: Result<Bool, NetError>) -> NetError.Code? {
      if case .failure(let error) = result { error.code } else { nil }
    }
    let garbage = try await ask { _, pipe in _ = Array("HTTP/1.1 400".utf8).withUnsafeBytes { pipe.send($0) } }
    #expect(code(garbage) == .io)
    let ended = try await ask { _, pipe in pipe.close() }
    #expect(code(ended) == .closed)
    let silent = try await ask { _, _ in }
    #expect(code(silent) == .timeout)
  }
}
