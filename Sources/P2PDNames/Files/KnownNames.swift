import P2PDNet

/// The keys that names had when they were first used. A name keeps its key from then on, until the user says otherwise.
///
/// A file has a name and a key (node id) a line. Bytes to values only.
public struct KnownNames: Sendable, Equatable {
  public private(set) var keys: [PeerName: [UInt8]] = [:]

  public init() {}

  /// Throws ``NetError`` `io` that names the file and the line: a pin that cannot be read must not be taken for none.
  public init(text: String, path: String) throws(NetError) {
    for (index, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
      let words = line.prefix { $0 != "#" }.split(whereSeparator: \.isWhitespace)
      guard !words.isEmpty else { continue }
      guard words.count == 2, let key = Base32.decode(Array(words[1].utf8)), key.count == 32,
        let name = try? PeerName(String(words[0]), tld: PeerName.localTLD)
      else {
        throw NetError(
          .io, "read \(path):\(index + 1)", cause: "a line has a name and a key; this one is damaged",
          remedy: "Correct the line, or take it out: then the name's key is remembered anew at its next use.")
      }
      keys[name] = key
    }
  }

  /// The file.
  public var text: String {
    let lines = keys.map { "\($0.key) \(Base32.encode($0.value))\n" }.sorted()
    return "# The keys of names, remembered at their first use. p2pd-lua names forget NAME takes one out.\n"
      + lines.joined()
  }

  public subscript(name: PeerName) -> [UInt8]? { keys[name] }

  /// False: there is no room for another name.
  public mutating func pin(_ name: PeerName, _ key: [UInt8]) -> Bool {
    guard keys[name] != nil || keys.count < Self.most else { return false }
    keys[name] = key
    return true
  }

  /// False: it was not there.
  public mutating func forget(_ name: PeerName) -> Bool { keys.removeValue(forKey: name) != nil }

  /// Bytes a file may have: more than ``most`` names take.
  public static let largest = 4 << 20
  public static let most = 20_000
}

extension NetError {
  /// A name has another key than the one known for it.
  /// - Parameters:
  ///   - known: whence the key is known: "it was remembered at its first use".
  ///   - told: by whom the other one was told.
  ///   - remedy: how to take the new one.
  static func keyChanged(
    _ name: PeerName, from old: [UInt8], _ known: String, to new: [UInt8], _ told: String, remedy: String
  ) -> NetError {
    NetError(
      .keyChanged, "find \(name)",
      cause: """
        THE KEY OF \(name) IS ANOTHER ONE NOW. Its owner may have a new key, or somebody else poses as it.
          known: \(Base32.encode(old)) (\(known))
          now:   \(Base32.encode(new)) (told by \(told))
        """,
      remedy: remedy)
  }
}
