import ArgumentParser
import P2PDNames
import P2PDNode

/// What `connect` is pointed at.
enum Target: Equatable, Sendable, ExpressibleByArgument {
  /// A node's address, `p2pd1...`.
  case node(String)
  /// A node's name: `example.peer`, `example.local`, `example`.
  case name(String)
  /// A host and a port: `example.org:7000`, `192.0.2.1:7000`, `[2001:db8::1]:7000`.
  case host(String, UInt16)
  /// A Unix-domain socket: `unix:/run/x.sock`.
  case unix(String)

  init?(argument: String) {
    if NodeAddress.isMeant(argument) {
      self = .node(argument)
    } else if argument.hasPrefix("unix:") {
      let path = String(argument.dropFirst(5))
      guard !path.isEmpty else { return nil }
      self = .unix(path)
    } else if PeerName.isName(argument.contains(".") ? argument : argument + ".x") {
      self = .name(argument)
    } else {
      guard let colon = argument.lastIndex(of: ":"), let port = UInt16(argument[argument.index(after: colon)...]),
        port > 0
      else { return nil }
      var host = argument[..<colon]
      if host.hasPrefix("["), host.hasSuffix("]") {
        host = host.dropFirst().dropLast()
      } else if host.contains(":") {
        return nil  // an IPv6 address without brackets: where the port begins is a guess
      }
      guard !host.isEmpty else { return nil }
      self = .host(String(host), port)
    }
  }

  var defaultValueDescription: String { "" }
}
