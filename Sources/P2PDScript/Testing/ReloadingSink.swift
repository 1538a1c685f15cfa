import P2PDNet

/// Stands between a pipe and the script that serves it, and has the script reloaded before each message: whatever a
/// handler keeps outside of `p2pd.state` and `pipe.data` shows as a difference.
final class ReloadingSink: PipeSink, @unchecked Sendable {
  private let face: PipeFace
  private unowned let host: ScriptHost
  private var isReloading = false
  /// The reload for the next message is done.
  private var isFresh = false

  init(_ face: PipeFace, _ host: ScriptHost) {
    self.face = face
    self.host = host
  }

  func pipe(_ pipe: Pipe, message: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    if isFresh {
      guard face.pipe(pipe, message: message, from: peer) else { return false }
      isFresh = false
      return true
    }
    reload(pipe)
    return false
  }

  private func reload(_ pipe: Pipe) {
    guard !isReloading else { return }
    isReloading = true
    host.whenIdle {
      guard let hosted = self.host.hosted.first(where: { $0.slot === self.face.slot }), !self.host.isShuttingDown else {
        return self.reloaded(pipe)
      }
      hosted.reload(ReloadRequest(trigger: "api", isForced: true) { _ in self.reloaded(pipe) })
    }
  }

  private func reloaded(_ pipe: Pipe) {
    (isReloading, isFresh) = (false, true)
    // Never before this message was kept: a reload may be over at once.
    host.loop.execute { self.host.whenIdle { if pipe.isOpen { pipe.ready() } } }
  }

  func pipeOpened(_ pipe: Pipe) { face.pipeOpened(pipe) }
  func pipeMoved(_ pipe: Pipe) { face.pipeMoved(pipe) }
  func pipeEnded(_ pipe: Pipe, reason: EndReason) { face.pipeEnded(pipe, reason: reason) }
}
