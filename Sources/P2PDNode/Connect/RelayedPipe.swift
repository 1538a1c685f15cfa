import P2PDNet
import P2PDTraversal

/// A pipe over a relay, which moves to a better way once there is one. Confined to its event loop; it lives as long as the
/// pipe.
final class RelayedPipe: @unchecked Sendable {
  private let moving: MovingTransport
  private weak var pipe: Pipe?
  private var next: PathRace.Way?

  /// - Parameter stream: what the pipe stands on.
  init(_ pipe: Pipe, over stream: MovingTransport) {
    self.pipe = pipe
    moving = stream
    // Holds this until the stream ends.
    moving.moved = { self.moved() }
  }

  /// Begins to move to a stream that both sides have agreed on. One that comes too late is closed.
  func move(to stream: TLSTransport, _ way: PathRace.Way) {
    guard moving.canMove else { return stream.abort() }
    next = way
    moving.move(to: stream)
  }

  private func moved() {
    guard let next else { return }
    pipe?.moved(strategy: next.strategy.rawValue, path: next.path.rawValue)
  }
}
