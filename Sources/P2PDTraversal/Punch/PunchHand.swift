import NIOCore
import P2PDNet

/// The ports taken from the pool for one punch, and what the peer is told of them. Whoever took it hands it to a
/// ``TCPPunch``, or back to the pool (``PunchPorts/giveBack(_:)``).
///
/// Confined to its loop.
public final class PunchHand: @unchecked Sendable {
  public let side: PunchSide
  /// By the places of ways and ports in ``side``.
  let ports: [[TCPPort]]
  /// The place of the way that each port belongs to in the pool.
  let counter: PunchCounter?
  /// A punch has dialled from its ports, or listened on them: they are not used again.
  var isUsed = false

  init(_ side: PunchSide, _ ports: [[TCPPort]], counter: PunchCounter? = nil) {
    self.side = side
    self.ports = ports
    self.counter = counter
  }

  func port(_ path: Int, _ port: Int) -> TCPPort? {
    guard ports.indices.contains(path), ports[path].indices.contains(port) else { return nil }
    return ports[path][port]
  }

  /// Closes the connections that hold the mappings.
  public func close() { for port in ports.joined() { port.close() } }
}

/// How far a router that gives its ports one after the other has come since a prediction.
final class PunchCounter {
  private let path: NetworkKnowledge.Path
  private let server: Endpoint
  private let last: UInt16
  private let step: Int
  /// How long the first measuring took; another takes as long.
  let time: TimeAmount
  private let loop: any EventLoop
  private var port: TCPPort?

  /// - Parameter last: the port that the predicted ones follow.
  init(
    _ path: NetworkKnowledge.Path, _ server: Endpoint, last: UInt16, step: Int, time: TimeAmount,
    on loop: any EventLoop
  ) {
    self.path = path
    self.server = server
    self.last = last
    self.step = step
    self.time = time
    self.loop = loop
  }

  /// Opens one more connection and tells how many of the predicted ports are gone, its own among them; nil where that
  /// cannot be told.
  func count(_ done: @escaping (Int?) -> Void) {
    let port = TCPPort(ip: path.local, interface: path.hold, on: loop)
    self.port = port
    port.ask(server) { [self] result in
      guard let now = (try? result.get())?.message.mapped?.port else { return done(nil) }
      done(Self.steps(from: last, to: now, step))
    }
  }

  func close() {
    port?.close()
    port = nil
  }

  /// The ports that follow, over the end of the range as well.
  static func following(_ port: UInt16, _ step: Int, count: Int) -> [UInt16] {
    (1...count).map { wrap(Int(port) + step * $0) }
  }

  static func steps(from first: UInt16, to last: UInt16, _ step: Int) -> Int? {
    (1...PunchSide.mostEndpoints * 2).first { wrap(Int(first) + step * $0) == last }
  }

  private static func wrap(_ port: Int) -> UInt16 {
    UInt16(clamping: (((port - lowest) % span) + span) % span + lowest)
  }

  /// Routers leave the lower ones alone.
  private static let lowest = 1024
  private static let span = 65_536 - 1024
}

extension NetworkKnowledge.Path {
  /// The interface to hold sockets to; this host's own servers are reached by loopback only.
  var hold: String? { local.isLoopback || interface.isEmpty ? nil : interface }
}
