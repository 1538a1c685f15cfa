import NIOCore

extension Pipe {
  /// Makes a pipe of a connected stream (TLS done) that nobody reads yet, for those who dial and accept themselves. Call it
  /// on the stream's loop; everything read from now on reaches the pipe.
  /// - Parameter prepare: sets what the sink shall find on the pipe when it hears of it.
  public static func adopt(
    _ stream: Transport, conf: PipeConf, sink: (any PipeSink)?, on loop: any EventLoop,
    prepare: (Pipe) -> Void = { _ in }
  ) -> Pipe {
    let pipe = Pipe(proto: .tcp, isServer: false, loop: loop, conf: conf, transport: stream)
    pipe.peer = stream.remoteEndpoint.map { Peer($0) } ?? Peer(unixPath: "")
    prepare(pipe)
    pipe.sink = sink
    pipe.opened()
    return pipe
  }

  /// Makes a UDP pipe that hears everybody of datagrams that something other than a socket carries.
  public static func adopt(datagrams: CarriedDatagrams, conf: PipeConf, on loop: any EventLoop) -> Pipe {
    let pipe = Pipe(proto: .udp, isServer: true, loop: loop, conf: conf, transport: datagrams)
    pipe.opened()
    return pipe
  }
}
