import NIOCore

/// An event loop whose pipes live in some network: the kernel's sockets (``KernelLoop``), or one in memory with a clock of
/// its own. All that opens sockets, resolves names or lists interfaces asks the network of its loop, and all that needs
/// the time asks `now` and `scheduleTask` of the loop, so the whole engine can run in a network that a test makes up.
public protocol NetworkLoop: EventLoop {
  var network: any Network { get }
}

extension EventLoop {
  /// The network that pipes of this loop live in.
  /// - Throws: `unsupported` for a loop of another maker.
  public func requireNetwork(_ what: String) throws(NetError) -> any Network {
    if let network = (self as? any NetworkLoop)?.network { return network }
    throw NetError(.unsupported, what, cause: "the event loop \(type(of: self)) has no network; use a KernelLoop")
  }
}
