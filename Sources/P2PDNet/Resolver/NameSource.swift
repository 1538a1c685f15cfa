import CNet
import Glibc

/// Who knows the addresses of a name.
public protocol NameSource: Sendable {
  /// The addresses of `name` in the families asked for, in the order they should be tried. Called on a thread of its own, so
  /// it may block.
  /// - Throws: `.dns` with the reason.
  func addresses(of name: String, _ families: [AddressFamily]) throws(NetError) -> [IPAddress]
}

/// The system's resolver (getaddrinfo(3)): /etc/hosts, DNS, mDNS, whatever nsswitch.conf(5) says.
public struct SystemNames: NameSource {
  public init() {}

  public func addresses(of name: String, _ families: [AddressFamily]) throws(NetError) -> [IPAddress] {
    var hints = addrinfo()
    // Without AI_ADDRCONFIG: what a host has at the moment of the question is no reason to hide an answer from it, and
    // an address without a route fails at once.
    hints.ai_flags = name.utf8.allSatisfy { $0 < 0x80 } ? 0 : cnet_ai_idn()
    hints.ai_family = families.count == 1 ? families[0].raw : AF_UNSPEC
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var list: UnsafeMutablePointer<addrinfo>?
    let code = getaddrinfo(name, nil, &hints, &list)
    defer { if let list { freeaddrinfo(list) } }
    guard code == 0 else {
      let reason = code == EAI_SYSTEM ? String(cString: strerror(errno)) : String(cString: gai_strerror(code))
      throw NetError(.dns, "look up \(name)", cause: reason)
    }
    var found: [IPAddress] = []
    var entry = list
    while let current = entry {
      entry = current.pointee.ai_next
      guard let address = current.pointee.ai_addr else { continue }
      switch current.pointee.ai_family {
      case AF_INET:
        found.append(address.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { IPAddress($0.pointee.sin_addr) })
      case AF_INET6:
        found.append(
          address.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) {
            IPAddress($0.pointee.sin6_addr, scopeID: $0.pointee.sin6_scope_id)
          })
      default: continue
      }
    }
    return found
  }
}
