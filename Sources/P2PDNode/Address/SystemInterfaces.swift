import NIOCore
import P2PDNet
import P2PDTraversal

/// Where the node learns of its machine's interfaces; tests put their own in its place.
protocol InterfaceSource: AnyObject, Sendable {
  /// Reads them and goes on watching; `changed` comes on the loop after each change. A machine that does not tell has
  /// none.
  func start(on loop: any EventLoop, changed: @escaping @Sendable (NetworkSnapshot) -> Void) -> EventLoopFuture<
    NetworkSnapshot
  >
  /// No change is reported after this.
  func stop() -> EventLoopFuture<Void>
}

/// The machine's own, read and watched through ``InterfaceMonitor``. Confined to the node's loop.
final class SystemInterfaces: InterfaceSource, @unchecked Sendable {
  private let loop: any EventLoop
  private var monitor: InterfaceMonitor?

  init(on loop: any EventLoop) { self.loop = loop }

  func start(on loop: any EventLoop, changed: @escaping @Sendable (NetworkSnapshot) -> Void) -> EventLoopFuture<
    NetworkSnapshot
  > {
    InterfaceMonitor.start(on: loop) { _, now in changed(now) }.map { monitor in
      self.monitor = monitor
      return monitor.snapshot
    }
  }

  func stop() -> EventLoopFuture<Void> {
    // Let go, and its descriptors with it: a script may hold a closed node for long.
    let ending = monitor
    monitor = nil
    return ending?.stop() ?? loop.makeSucceededVoidFuture()
  }
}

/// Those of a simulated host, which stay as they are.
final class MemoryInterfaces: InterfaceSource {
  private let loop: VirtualLoop

  init(on loop: VirtualLoop) { self.loop = loop }

  func start(on loop: any EventLoop, changed: @escaping @Sendable (NetworkSnapshot) -> Void) -> EventLoopFuture<
    NetworkSnapshot
  > {
    loop.makeCompletedFuture { try self.loop.network.interfaces() }
  }

  func stop() -> EventLoopFuture<Void> { loop.makeSucceededVoidFuture() }
}

extension LocalAddress {
  /// The addresses a connection can start from now.
  static func all(of interfaces: [NetworkInterface]) -> [LocalAddress] {
    interfaces.filter(\.isUp).flatMap { interface in
      interface.addresses.filter(\.isUsable).map {
        LocalAddress(ip: $0.ip, prefix: $0.prefixLength, interface: interface.index)
      }
    }
  }
}
