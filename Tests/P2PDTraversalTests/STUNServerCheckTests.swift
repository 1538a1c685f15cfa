import NIOCore
import P2PDNet
import Testing

@testable import P2PDTraversal

@Suite("Looking at a STUN server")
struct STUNServerCheckTests {
  private func look(
    _ behaviour: @escaping FakeServer.Behaviour, patience: TimeAmount = .seconds(3)
  ) async throws -> ServerFinding {
    try await onLoop { loop in
      FakeServer.start([loopback], on: loop, behaviour).flatMap { server in
        let url = ServerURL(.stun, host: "127.0.0.1", port: server.endpoints[0].port)
        return STUNServerCheck.run(url, tls: nil, patience: patience, on: loop).always { _ in server.close() }
      }
    }
  }

  @Test("an answer is one round trip")
  func answer() async throws {
    let found = try await look(FakeServer.honest)
    #expect(found.outcome == .answered && found.problem == nil)
    #expect(found.roundTrip.map { $0 > .zero && $0 <= found.setup ?? .zero } == true)
  }

  @Test("silence, a refusal and an answer without an address are told apart")
  func bad() async throws {
    let silent = try await look({ _, _, _ in nil }, patience: .milliseconds(250))
    #expect(silent.outcome == .silent && silent.problem == "no answer in 0.2 s", "\(silent)")
    let refused = try await look { request, _, index in
      (
        STUNMessage(.failure, .binding, transaction: request.transaction, attributes: [.errorCode(500, "no")]),
        index
      )
    }
    #expect(refused.outcome == .rejected && refused.problem == "error 500 no", "\(refused)")
    let empty = try await look { request, _, index in
      (STUNMessage(.success, .binding, transaction: request.transaction), index)
    }
    #expect(empty.outcome == .rejected && empty.problem == "it tells no address")
  }

  @Test("nobody listens over TCP; a name that is none")
  func unreachable() async throws {
    let found = try await onLoop { loop in
      // A port that was free a moment ago.
      PipeOpener.open(.tcp, bind: loopback, on: loop).flatMap { listener in
        let port = listener.localEndpoint?.port ?? 1
        listener.close(flush: .zero)
        let url = ServerURL(.turn, host: "127.0.0.1", port: port, transport: .tcp)
        return listener.ended.flatMap { _ in STUNServerCheck.run(url, tls: nil, patience: .seconds(3), on: loop) }
      }
    }
    #expect(found.outcome == .refused && found.server.hasSuffix("?transport=tcp"), "\(found)")
    let nameless = try await onLoop { loop in
      STUNServerCheck.run(ServerURL(.stun, host: "nowhere.invalid"), tls: nil, patience: .seconds(3), on: loop)
    }
    #expect(nameless.outcome == .noName || nameless.outcome == .silent, "\(nameless)")
  }
}
