import NIOCore

extension Pipe {
  /// Makes a pipe of a connected stream channel whose handlers so far (TLS included) are done, for those who dial and
  /// accept themselves. Call it on the channel's loop; bytes read from now on reach the pipe. The channel must have
  /// been made with `allowRemoteHalfClosure`.
  /// - Parameters:
  ///   - encrypted: a handler stands in the pipeline, so bytes must go through it.
  ///   - prepare: sets what the sink shall find on the pipe when it hears of it.
  public static func adopt(
    _ channel: any Channel, encrypted: Bool, conf: PipeConf, sink: (any PipeSink)?, prepare: (Pipe) -> Void = { _ in }
  ) throws -> Pipe {
    SocketOptions.closeOnExec(channel)
    let transport = NIOStreamTransport(isTLS: encrypted, opening: nil)
    let pipe = Pipe(proto: .tcp, isServer: false, loop: channel.eventLoop, conf: conf, transport: transport)
    pipe.peer = channel.remoteAddress.flatMap { Endpoint($0) }.map { Peer($0) } ?? Peer(unixPath: "")
    pipe.localEndpoint = channel.localAddress.flatMap { Endpoint($0) }
    pipe.family = pipe.localEndpoint?.ip.family
    prepare(pipe)
    pipe.sink = sink
    try channel.pipeline.syncOperations.addHandler(transport)
    pipe.opened()
    return pipe
  }
}
