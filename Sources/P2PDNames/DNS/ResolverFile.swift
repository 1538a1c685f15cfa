import Glibc
import P2PDNet

/// The servers that a host's resolv.conf(5) names.
struct ResolverFile: Hashable, Sendable {
  /// In the order to ask them: at most three, as in the C library.
  var servers: [Endpoint] = []

  /// - Parameter text: the file's. Lines that say anything else, or that nobody can read, are passed over.
  init(_ text: String) {
    for line in text.split(whereSeparator: \.isNewline) where servers.count < Self.mostServers {
      let words = line.split(whereSeparator: \.isWhitespace)
      guard words.count >= 2, words[0] == "nameserver", let ip = IPAddress(String(words[1])) else { continue }
      servers.append(Endpoint(ip: ip, port: Self.port))
    }
    // resolv.conf(5): "if no nameserver entries are present, the default is to use the name server on the local machine".
    if servers.isEmpty { servers = [Endpoint(ip: .loopback(.v4), port: Self.port)] }
  }

  /// Reads the file; one that is not there says nothing, like an empty one. Blocks.
  static func read(_ path: String = path) -> ResolverFile {
    let file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard file >= 0 else { return ResolverFile("") }
    defer { close(file) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while bytes.count < longest {
      let count = Glibc.read(file, &buffer, buffer.count)
      guard count > 0 else { break }
      bytes += buffer.prefix(count)
    }
    return ResolverFile(String(decoding: bytes, as: UTF8.self))
  }

  static let path = "/etc/resolv.conf"
  static let port: UInt16 = 53
  /// MAXNS of resolv.h.
  private static let mostServers = 3
  private static let longest = 64 << 10
}
