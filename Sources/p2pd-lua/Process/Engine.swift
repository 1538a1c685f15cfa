import NIOCore
import NIOPosix

/// The one event loop on which sockets, pipes and scripts live.
enum Engine {
  private static let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
  static let loop: any EventLoop = group.next()
}
