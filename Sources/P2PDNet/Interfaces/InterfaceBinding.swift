import Glibc

/// Holds a socket to an interface.
public enum InterfaceBinding {
  /// How a socket is held.
  public enum Hold: Hashable, Sendable, CustomStringConvertible {
    /// The kernel sends and takes its packets on that interface only (socket(7), `SO_BINDTODEVICE`).
    case device
    /// It must be bound to this address of the interface. Packets to it arrive by whatever interface, and packets from
    /// it leave by the one that the kernel's route table chooses, which on most hosts is the same.
    case source(IPAddress)

    /// "device" or "source".
    public var description: String { self == .device ? "device" : "source" }
  }

  /// Holds the socket to the interface before it is bound or connected. Where the system does not let this process do so
  /// (Linux before 5.7 wants CAP_NET_RAW; containers may forbid it), the answer is the address the caller must bind to.
  /// A socket held by `.device` cannot reach this host's loopback addresses.
  /// - Parameters:
  ///   - fd: an open socket.
  ///   - source: the address of the interface to fall back to; nil for the one its first route of the family prefers.
  /// - Throws: `.unreachable` where the interface is gone, `.badAddress` where it is not allowed and the interface has no
  ///   address of that family.
  public static func apply(
    fd: CInt, interface: NetworkInterface, family: AddressFamily, source: IPAddress? = nil
  ) throws(NetError) -> Hold {
    try decide(bindToDevice(fd, interface.name), interface: interface, family: family, source: source)
  }

  /// What the kernel's answer (0 or an error number) to `SO_BINDTODEVICE` means.
  static func decide(
    _ number: CInt, interface: NetworkInterface, family: AddressFamily, source: IPAddress?
  ) throws(NetError) -> Hold {
    switch number {
    case 0: return .device
    case EPERM, EACCES, ENOPROTOOPT, ENOSYS:
      guard let source = source ?? interface.route(family)?.nic else {
        throw NetError(.badAddress, "hold a socket to \(interface)", cause: "it has no \(family) address")
      }
      return .source(source)
    case let other: throw NetError(errno: other, "hold a socket to \(interface)")
    }
  }

  private static func bindToDevice(_ fd: CInt, _ name: String) -> CInt {
    var name = name
    let result = name.withUTF8 { setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, $0.baseAddress, socklen_t($0.count)) }
    return result == 0 ? 0 : errno
  }
}
