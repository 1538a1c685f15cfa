extension Pipe {
  /// Gives back a message that was just taken, for whoever asks next. It is the first one again.
  public func putBack(_ message: Message) {
    loop.assertInEventLoop()
    inbox.putBack(message)
    updateFastPath()
  }
}
