import NIOCore
import P2PDNet
import Testing

@testable import P2PDTraversal

@Suite("STUN servers that are looked for, and those that speak TLS")
struct STUNSearchTests {
  /// Answers requests over TLS.
  private final class Server: PipeSink, @unchecked Sendable {
    func pipeAccepted(_ pipe: Pipe, by server: Pipe) -> (any PipeSink)? { self }

    func pipe(_ pipe: Pipe, message bytes: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
      guard let request = try? STUNMessage(decoding: [UInt8](bytes)), let mapped = peer.endpoint else { return true }
      // A second address, which nobody is to ask over TLS.
      let answer = STUNMessage(
        .success, .binding, transaction: request.transaction,
        attributes: [.xorMappedAddress(mapped), .otherAddress(ep("127.0.0.2:9"))])
      if let bytes = try? answer.encoded() { _ = bytes.withUnsafeBytes { pipe.send($0) } }
      return true
    }
  }

  private static func fixture(_ name: String) -> String {
    #filePath.split(separator: "/").dropLast(2).map { "/" + $0 }.joined() + "/Fixtures/tls/" + name
  }

  /// A server over TLS on loopback, and a client that asks it by that name.
  private func ask<T: Sendable>(
    _ host: String, trusted: Bool = true, _ question: @escaping @Sendable (STUNClient) -> EventLoopFuture<T>
  ) async throws -> T {
    let ca = trusted ? Self.fixture("ca.pem") : nil
    return try await onLoop { loop in
      do {
        var conf = PipeConf()
        conf.tls = try TLSSetup.server(
          certificateFile: Self.fixture("server.pem"), keyFile: Self.fixture("server.key"))
        let server = Server()
        return PipeOpener.open(.tcp, bind: loopback, conf: conf, sink: server, on: loop).flatMap { listener in
          let place = STUNServer(host: host, port: listener.localEndpoint?.port ?? 0, transport: .tls)
          let client = STUNClient(servers: [place], tls: ServerTLS(caFile: ca, on: loop), on: loop)
          return question(client).always { _ in
            listener.close(flush: .zero)
            _ = server
          }
        }
      } catch {
        return loop.makeFailedFuture(error)
      }
    }
  }

  @Test("over TLS, by a name and by an address", arguments: ["localhost", "127.0.0.1"])
  func tls(_ host: String) async throws {
    let mapping = try await ask(host) { $0.mapping(.tcp) }
    #expect(mapping.mapped == mapping.local && mapping.proto == .tcp)
    #expect(try await ask(host) { $0.wanIP() } == .loopback(.v4), "UDP cannot be asked, so TCP is")
  }

  @Test("what was measured over TLS alone says nothing of UDP")
  func report() async throws {
    let report = try await ask("localhost") { $0.nat() }
    #expect(report.tcp.mapping == NATBehaviour.Mapping.none && report.tcp.reach == .answered)
    #expect(report.udp == NATBehaviour() && report.p2pdType == 0, "unknown is not blocked")
    #expect(report.servers.map(\.means) == ["tls"], "no second address was asked")
    #expect(PunchSource(report) == .untranslated)
  }

  @Test("a certificate that nobody trusts is no answer; UDP cannot be asked")
  func distrust() async throws {
    await #expect(throws: NetError.self) { try await ask("localhost", trusted: false) { $0.mapping(.tcp) } }
    do {
      _ = try await ask("localhost") { $0.mapping(.udp) }
      Issue.record("UDP was answered")
    } catch let error as NetError {
      #expect(error.code == .timeout && error.cause.contains("can be asked that way"))
    }
  }

  @Test("nobody answers: that is an error with what each met, and no report")
  func silence() async throws {
    let result: Result<NATReport, any Error> = try await onLoop { loop in
      FakeServer.start([loopback], on: loop) { _, _, _ in nil }.flatMap { server in
        let client = STUNClient(
          servers: server.endpoints.map { STUNServer($0) },
          schedule: .init(rto: .milliseconds(20), requests: 2, lastWait: 2), on: loop)
        return client.nat().map { .success($0) }.flatMapErrorThrowing { .failure($0) }.always { _ in server.close() }
      }
    }
    guard case .failure(let error as NetError) = result else {
      Issue.record("a report of nothing")
      return
    }
    #expect(error.code == .timeout && error.attempts.count == 2, "over UDP and TCP: \(error)")
  }

  @Test("the same place by two names is asked once; what is no name is passed over")
  func same() async throws {
    let places: [STUNPlace] = try await onLoop { loop in
      let servers = ["127.0.0.1:9", "localhost:9", "::1", "127.0.0.1:10"].compactMap { STUNServer($0) }
      let search = STUNSearch(servers, .v4, patience: .seconds(2), on: loop)
      let promise = loop.makePromise(of: [STUNPlace].self)
      search.follow { event in if case .over = event { promise.succeed(search.places) } }
      return promise.futureResult
    }
    #expect(places.map(\.endpoint) == [ep("127.0.0.1:9"), ep("127.0.0.1:10")])
  }
}
