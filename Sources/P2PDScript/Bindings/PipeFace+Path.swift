import LuaVM
import P2PDNet

/// `path_cb`: what a script hears of a pipe that moved.
extension PipeFace {
  func pipeMoved(_ pipe: Pipe) {
    host.whenIdle {
      guard self.endReason == nil, !self.host.isClosed, let ref = self.pipeRef else { return }
      // Like a message, it is told to the code that serves now.
      self.follow()
      for callback in self.handlers.path + (self.own?.path ?? []) { self.call(callback, [.ref(ref)], place: "path_cb") }
    }
  }
}
