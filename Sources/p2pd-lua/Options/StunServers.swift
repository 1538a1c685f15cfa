import ArgumentParser
import P2PDTraversal

/// STUN servers as the user names them.
enum StunServers {
  /// P2PD_STUN, separated by commas; nil where it is unset or empty.
  static func fromEnvironment() throws -> [STUNServer]? {
    let texts = (Environment.value("P2PD_STUN") ?? "").split(separator: ",").map(String.init)
    return texts.isEmpty ? nil : try read(texts)
  }

  static func read(_ texts: [String]) throws -> [STUNServer] {
    try texts.map { text in
      guard let server = STUNServer(text) else {
        throw ValidationError("\"\(text)\" is no STUN server; give HOST or HOST:PORT.")
      }
      return server
    }
  }
}
