import Glibc
import NIOCore

/// A listening socket: it only accepts and closes.
final class NIOListenerTransport: Transport, ChannelInboundHandler, @unchecked Sendable {
  typealias InboundIn = any Channel
  typealias InboundOut = any Channel

  private var channel: (any Channel)?
  private var failure: EndReason?

  func handlerAdded(context: ChannelHandlerContext) { channel = context.channel }

  override public func close(linger: Bool) {
    pipe = nil
    channel?.close(promise: nil)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    guard let error = error as? IOError else { return }
    switch error.errnoCode {
    case EMFILE, ENFILE, ENOBUFS, ENOMEM:
      // Out of descriptors: asking again at once would spin. The kernel's backlog holds the callers meanwhile.
      let channel = context.channel
      _ = channel.setOption(.autoRead, value: false)
      channel.eventLoop.assumeIsolated().scheduleTask(in: .milliseconds(100)) {
        channel.setOption(.autoRead, value: true).whenSuccess { channel.read() }
      }
    case ECONNABORTED, EPERM, EINTR, EAGAIN, EPROTO: break
    default:
      failure = .error(NetError(error, "accept"))
      context.close(promise: nil)
    }
  }

  func channelInactive(context: ChannelHandlerContext) {
    let ended = pipe
    ended?.transportEnded(failure ?? .local)
    pipe = nil
    channel = nil
  }
}
