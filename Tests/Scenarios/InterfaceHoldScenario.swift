import Foundation
import Glibc
import P2PDNet
import Testing

/// Where packets go when a socket is held to an interface that the route table would not choose.
@Suite(
  "Held sockets in a namespace",
  .enabled(if: InterfaceNamespace.isAvailable, Comment(rawValue: InterfaceNamespace.whyNot)), .timeLimit(.minutes(1)))
struct InterfaceHoldScenario {
  private static func furnish() throws {
    for name in ["a", "b"] {
      try InterfaceNamespace.ip("link add \(name)0 type veth peer name \(name)1")
      try InterfaceNamespace.ip("link set \(name)1 up")
      try InterfaceNamespace.ip("link set \(name)0 up")
    }
    try InterfaceNamespace.ip("addr add 10.1.0.2/24 dev a0")
    try InterfaceNamespace.ip("addr add 10.2.0.2/24 dev b0")
    try InterfaceNamespace.ip("route add default dev a0 metric 10")
    try InterfaceNamespace.ip("route add default dev b0 metric 20")
    for name in ["a0", "b0"] {
      try InterfaceNamespace.ip("neigh add 198.51.100.1 lladdr 02:00:00:00:00:99 dev \(name)")
    }
  }

  /// Packets that left by the interface.
  private static func sent(_ name: String) throws -> Int {
    let text = try InterfaceNamespace.ip("-j -s link show \(name)")
    let links = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [[String: Any]]
    let statistics = links?.first?["stats64"] as? [String: [String: Any]]
    guard let count = statistics?["tx"]?["packets"] as? Int else {
      throw InterfaceNamespace.Failure(text: "ip(8) shows no statistics: \(text)")
    }
    return count
  }

  private static func send(_ fd: CInt, count: Int) throws {
    guard let to = Endpoint("198.51.100.1:9") else { return }
    for _ in 0..<count {
      let result = to.socketAddress.withSockAddr { address, length in
        sendto(fd, "x", 1, 0, address, socklen_t(length))
      }
      guard result == 1 else { throw InterfaceNamespace.Failure(text: String(cString: strerror(errno))) }
    }
  }

  @Test("packets leave by the interface the socket is held to, against the route table")
  func device() async throws {
    try await InterfaceNamespace.run {
      try Self.furnish()
      let nic = try NetworkInterface.named("b0")
      let fd = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
      defer { close(fd) }
      // More packets than the interfaces send on their own account meanwhile.
      let count = 200
      let free = try Self.sent("a0")
      try Self.send(fd, count: count)
      #expect(try Self.sent("a0") - free >= count, "the route table chooses a0")
      let before = try Self.sent("b0")
      #expect(try InterfaceBinding.apply(fd: fd, interface: nic, family: .v4) == .device)
      try Self.send(fd, count: count)
      #expect(try Self.sent("b0") - before >= count)
    }
  }

  @Test("where the kernel does not allow it, the answer is the address to bind to")
  func notAllowed() async throws {
    try await InterfaceNamespace.run {
      try Self.furnish()
      let fd = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
      defer { close(fd) }
      #expect(try InterfaceBinding.apply(fd: fd, interface: try NetworkInterface.named("a0"), family: .v4) == .device)
      let other = try NetworkInterface.named("b0")
      // Moving a socket that is held already needs CAP_NET_RAW on every kernel. Capabilities are a thread's own.
      try Self.dropCapabilities()
      #expect(try InterfaceBinding.apply(fd: fd, interface: other, family: .v4) == .source(other.addresses[0].ip))
      #expect(throws: NetError.self) {
        try InterfaceBinding.apply(fd: fd, interface: NetworkInterface(name: "b9", index: 99), family: .v6)
      }
    }
  }

  private static func dropCapabilities() throws {
    // capset(2) is not in Swift's Glibc module.
    typealias CapSet = @convention(c) (UnsafeMutableRawPointer, UnsafeMutableRawPointer) -> CInt
    guard let symbol = dlsym(nil, "capset") else { throw InterfaceNamespace.Failure(text: "there is no capset(2)") }
    var header: (UInt32, Int32) = (0x2008_0522, 0)  // _LINUX_CAPABILITY_VERSION_3, this thread
    var none: (UInt32, UInt32, UInt32, UInt32, UInt32, UInt32) = (0, 0, 0, 0, 0, 0)
    guard unsafeBitCast(symbol, to: CapSet.self)(&header, &none) == 0 else {
      throw InterfaceNamespace.Failure(text: "capset: \(String(cString: strerror(errno)))")
    }
  }
}
