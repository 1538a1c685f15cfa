// Bare swift-nio's echo: standard bootstraps and handlers, one event loop, TCP and UDP on one port of 127.0.0.1.
//
//   nio-echo PORT          prints READY and serves until it is ended
//
// No Lua and no tuning: what the library itself takes for a read, a write and a flush per message.
import NIOCore
import NIOPosix

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

final class StreamEcho: ChannelInboundHandler, Sendable {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    context.write(data, promise: nil)
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    context.flush()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    context.close(promise: nil)
  }
}

final class DatagramEcho: ChannelInboundHandler, Sendable {
  typealias InboundIn = AddressedEnvelope<ByteBuffer>
  typealias OutboundOut = AddressedEnvelope<ByteBuffer>

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    context.write(data, promise: nil)
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    context.flush()
  }
}

/// Straight to the descriptor: `print` to a file would wait in a buffer.
func say(_ line: String, to descriptor: CInt) {
  let bytes = Array(line.utf8)
  _ = write(descriptor, bytes, bytes.count)
}

guard CommandLine.arguments.count == 2, let port = Int(CommandLine.arguments[1]) else {
  say("usage: nio-echo PORT\n", to: 2)
  exit(2)
}

let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)

let streams = try ServerBootstrap(group: group)
  .serverChannelOption(.backlog, value: 1024)
  .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
  .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
  .childChannelInitializer { channel in
    channel.eventLoop.makeCompletedFuture {
      try channel.pipeline.syncOperations.addHandler(StreamEcho())
    }
  }
  .bind(host: "127.0.0.1", port: port).wait()

_ = try DatagramBootstrap(group: group)
  .channelOption(.socketOption(.so_rcvbuf), value: 1 << 20)
  .channelOption(.socketOption(.so_sndbuf), value: 1 << 20)
  .channelInitializer { channel in
    channel.eventLoop.makeCompletedFuture {
      try channel.pipeline.syncOperations.addHandler(DatagramEcho())
    }
  }
  .bind(host: "127.0.0.1", port: port).wait()

say("READY\n", to: 1)
try streams.closeFuture.wait()
