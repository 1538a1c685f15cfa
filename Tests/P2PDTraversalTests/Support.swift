import NIOCore
import P2PDNet
import Testing

@testable import P2PDTraversal

func ep(_ text: String) -> Endpoint { Endpoint(text) ?? Endpoint(ip: .wildcard(.v4), port: 0) }

/// Bytes written as hexadecimal digits; blanks between them are for the eye.
func hex(_ text: String) -> [UInt8] {
  let digits = text.compactMap(\.hexDigitValue)
  return stride(from: 0, to: digits.count - 1, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
}

/// A time on a clock that a test sets.
func at(_ milliseconds: Int64) -> NIODeadline { .uptimeNanoseconds(0) + .milliseconds(milliseconds) }

/// Runs the body on a loop of its own and waits for what its future has.
func onLoop<T: Sendable>(_ body: @escaping @Sendable (any EventLoop) -> EventLoopFuture<T>) async throws -> T {
  let loop = try KernelLoop.start(name: "traversal")
  do {
    let result = try await loop.flatSubmit { body(loop) }.get()
    try await loop.shutdownGracefully()
    return result
  } catch {
    try? await loop.shutdownGracefully()
    throw error
  }
}

/// A STUN server of the test's own: answers as its closure says, and from which of its sockets. Confined to its loop.
final class FakeServer: PipeSink, @unchecked Sendable {
  /// What comes back for a request from there, and by which socket (an index); nil for silence.
  typealias Behaviour = @Sendable (STUNMessage, _ from: Endpoint, _ at: Int) -> (STUNMessage, by: Int)?

  private(set) var sockets: [Pipe] = []
  private(set) var requests = 0
  private let behaviour: Behaviour

  private init(_ behaviour: @escaping Behaviour) { self.behaviour = behaviour }

  var endpoints: [Endpoint] { sockets.compactMap(\.localEndpoint) }

  /// Binds one socket an address; port 0 for any.
  static func start(
    _ places: [Endpoint], on loop: any EventLoop, _ behaviour: @escaping Behaviour = FakeServer.honest
  ) -> EventLoopFuture<FakeServer> {
    let server = FakeServer(behaviour)
    let opened = places.map { PipeOpener.open(.udp, bind: $0, sink: server, on: loop) }
    return EventLoopFuture.whenAllSucceed(opened, on: loop).map { pipes in
      server.sockets = pipes
      return server
    }
  }

  static let honest: Behaviour = { request, from, index in
    (STUNMessage(.success, .binding, transaction: request.transaction, attributes: [.xorMappedAddress(from)]), index)
  }

  func pipe(_ pipe: Pipe, message bytes: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    guard let request = try? STUNMessage(decoding: [UInt8](bytes)), let source = peer.endpoint,
      let index = sockets.firstIndex(where: { $0 === pipe })
    else { return true }
    requests += 1
    guard let (answer, socket) = behaviour(request, source, index), let bytes = try? answer.encoded() else {
      return true
    }
    _ = bytes.withUnsafeBytes { sockets[socket].send($0, to: sockets[socket].peer(for: source)) }
    return true
  }

  func close() { for socket in sockets { socket.close(flush: .zero) } }
}

let loopback = ep("127.0.0.1:0")
