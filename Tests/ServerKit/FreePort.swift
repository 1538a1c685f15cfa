import Foundation

/// A port of 127.0.0.1 that nobody has at this moment. Another process may take it before it is used: whoever starts a
/// server with it tries again with another.
public enum FreePort {
  public static func tcp() throws -> UInt16 { try find(SOCK_STREAM) }
  public static func udp() throws -> UInt16 { try find(SOCK_DGRAM) }

  private static func find(_ type: __socket_type) throws -> UInt16 {
    let descriptor = socket(AF_INET, Int32(type.rawValue), 0)
    defer { close(descriptor) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let result = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, length) == 0 ? getsockname(descriptor, $0, &length) : -1
      }
    }
    guard descriptor >= 0, result == 0 else { throw POSIXError(.EADDRNOTAVAIL) }
    return UInt16(bigEndian: address.sin_port)
  }
}
