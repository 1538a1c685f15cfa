extension Transport {
  /// The pipe a channel's transport reports to.
  var pipe: Pipe? {
    get { owner as? Pipe }
    set { owner = newValue }
  }
}
