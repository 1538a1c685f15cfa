import Glibc
import NIOCore
import P2PDNet

/// The one event loop on which sockets, pipes and scripts live.
enum Engine {
  static let loop: any EventLoop = {
    do {
      return try KernelLoop.start(name: "p2pd-loop")
    } catch {
      // No descriptors or no threads are left: there is nothing this program could do.
      let text = Array("p2pd-lua: \(error)\n".utf8)
      _ = text.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
      exit(1)
    }
  }()
}
