import NIOCore
import P2PDNet
import Testing

@testable import P2PDTraversal

@Suite("STUN over one UDP socket")
struct STUNSocketTests {
  private static let hasty = STUNTransaction.Schedule(rto: .milliseconds(20), requests: 3, lastWait: 2)

  private static func code(_ result: Result<STUNAnswer, NetError>) -> NetError.Code? {
    if case .failure(let error) = result { error.code } else { nil }
  }

  /// A socket and a server, both on loopback; the body's promise ends the test.
  private func play<T: Sendable>(
    _ behaviour: @escaping FakeServer.Behaviour = FakeServer.honest,
    _ body: @escaping @Sendable (STUNSocket, FakeServer, EventLoopPromise<T>) -> Void
  ) async throws -> T {
    try await onLoop { loop in
      FakeServer.start([loopback, loopback], on: loop, behaviour).flatMap { server in
        STUNSocket.open(bind: loopback, on: loop).flatMap { socket in
          let promise = loop.makePromise(of: T.self)
          body(socket, server, promise)
          return promise.futureResult.always { _ in
            socket.close()
            server.close()
          }
        }
      }
    }
  }

  @Test("an answer tells our address, from whom and how fast")
  func answer() async throws {
    let (isOurs, isFromServer, isRoundTrip): (Bool, Bool, Bool) = try await play { socket, server, promise in
      let place = server.endpoints[0]
      socket.bind(place) { result in
        promise.completeWith(
          result.map { ($0.message.mapped == socket.local, $0.source == place, $0.isRoundTrip) }.mapError { $0 })
      }
    }
    #expect(isOurs && isFromServer && isRoundTrip)
  }

  @Test("a lost request is sent again, and its answer is no round trip")
  func lost() async throws {
    let first = Counter()
    let isRoundTrip: Bool = try await play({ request, from, index in
      first.next() == 1 ? nil : FakeServer.honest(request, from, index)
    }) { socket, server, promise in
      socket.bind(server.endpoints[0], schedule: Self.hasty) {
        promise.completeWith($0.map(\.isRoundTrip).mapError { $0 })
      }
    }
    #expect(!isRoundTrip)
  }

  @Test(
    "silence, and answers from elsewhere, with another id or with what must be understood and is not, are a timeout")
  func timeout() async throws {
    let lies: [FakeServer.Behaviour] = [
      { _, _, _ in nil },
      { request, from, _ in FakeServer.honest(request, from, 1) },
      { _, from, index in FakeServer.honest(STUNMessage(.request, .binding), from, index) },
      { request, _, index in
        (STUNMessage(.success, .binding, transaction: request.transaction, attributes: [.other(0x7777, [])]), index)
      },
      { request, _, index in (STUNMessage(.indication, .binding, transaction: request.transaction), index) },
    ]
    for lie in lies {
      let met: String = try await play(lie) { socket, server, promise in
        socket.bind(server.endpoints[0], schedule: Self.hasty) { result in
          promise.succeed("\(Self.code(result)?.rawValue ?? "answered") after \(server.requests)")
        }
      }
      #expect(met == "timeout after 3")
    }
  }

  @Test("a change of the answer's source is taken from there alone")
  func change() async throws {
    let source: Bool = try await play({ request, from, _ in FakeServer.honest(request, from, 1) }) {
      socket, server, promise in
      let other = server.endpoints[1]
      socket.bind(server.endpoints[0], change: .port, from: other) {
        promise.completeWith($0.map { $0.source == other }.mapError { $0 })
      }
    }
    #expect(source)
  }

  @Test("what is no answer goes to the owner; a closed socket tells whoever waits")
  func others() async throws {
    let (text, code): (String, NetError.Code) = try await play({ _, _, _ in nil }) { socket, server, promise in
      var heard = ""
      socket.onDatagram = { bytes, _ in
        heard = String(decoding: bytes, as: UTF8.self)
        socket.close()
      }
      socket.bind(server.endpoints[0]) { result in
        guard case .failure(let error) = result else { return }
        // `heard` is set by the time the socket is closed.
        promise.succeed((heard, error.code))
      }
      let peer = server.sockets[0].peer(for: socket.local)
      _ = Array("hello".utf8).withUnsafeBytes { server.sockets[0].send($0, to: peer) }
    }
    #expect(text == "hello" && code == .cancelled)
  }

  @Test("an answer must be signed where the question was")
  func signed() async throws {
    let key = STUNKey.shortTerm(password: "secret")
    let code: NetError.Code? = try await play { socket, server, promise in
      socket.ask(
        STUNMessage(.request, .binding), server.endpoints[0], signed: STUNSignature(key: key), schedule: Self.hasty
      ) { result in
        promise.succeed(Self.code(result))
      }
    }
    #expect(code == .timeout)
  }
}

/// Counts on one loop.
private final class Counter: @unchecked Sendable {
  private var count = 0
  func next() -> Int {
    count += 1
    return count
  }
}
