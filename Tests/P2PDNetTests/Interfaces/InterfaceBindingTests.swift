import Glibc
import Testing

@testable import P2PDNet

@Suite("Holding a socket to an interface")
struct InterfaceBindingTests {
  private let nic = NetworkInterface(
    name: "eth0", index: 2,
    addresses: [.init(ip: ip("10.0.0.2"), prefixLength: 24), .init(ip: ip("fe80::1", scope: 2), prefixLength: 64)])

  @Test("what the kernel's answer means")
  func decisions() throws {
    func decide(_ number: CInt, _ family: AddressFamily = .v4, _ source: IPAddress? = nil) throws
      -> InterfaceBinding.Hold
    {
      try InterfaceBinding.decide(number, interface: nic, family: family, source: source)
    }
    #expect(try decide(0) == .device)
    #expect(try decide(EPERM) == .source(ip("10.0.0.2")))
    #expect(try decide(EPERM, .v6) == .source(ip("fe80::1", scope: 2)))
    #expect(try decide(ENOPROTOOPT, .v4, ip("10.0.0.3")) == .source(ip("10.0.0.3")))
    #expect(#expect(throws: NetError.self) { try decide(ENODEV) }?.code == .unreachable)
    #expect(#expect(throws: NetError.self) { try decide(EBADF) }?.code == .closed)
    let bare = NetworkInterface(name: "eth1", index: 3)
    let error = #expect(throws: NetError.self) {
      try InterfaceBinding.decide(EPERM, interface: bare, family: .v4, source: nil)
    }
    #expect(error?.code == .badAddress)
  }

  @Test("a socket is held to loopback, or told its source where that is not allowed; a gone interface is an error")
  func live() throws {
    let loopback = try #require(try NetworkInterface.list().first { $0.isLoopback })
    let fd = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
    #expect(fd >= 0)
    defer { close(fd) }
    switch try InterfaceBinding.apply(fd: fd, interface: loopback, family: .v4) {
    case .device:
      var name = [CChar](repeating: 0, count: Int(IF_NAMESIZE))
      var length = socklen_t(name.count)
      #expect(getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, &name, &length) == 0)
      #expect(name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) } == Array(loopback.name.utf8))
    case .source(let address): #expect(address.isLoopback)
    }
    let gone = NetworkInterface(name: "nosuchif0", index: 4_000_000)
    #expect(
      #expect(throws: NetError.self) { try InterfaceBinding.apply(fd: fd, interface: gone, family: .v4) }?.code
        == .unreachable)
  }
}
