import P2PDNet

/// The user's own names: a text file, a name a line, with what it stands for.
///
///     # name         address, or key (node id)
///     alice          p2pd1AbC...
///     bob.peer       mf2xi4tjmn...
///
/// An address is taken as it is. A key alone says whose the name is: the address is then looked up by the other ways and
/// must be of that key. Bytes to values only: no file is opened here.
public struct NamesFile: Sendable, Equatable {
  public struct Entry: Sendable, Equatable {
    /// The Ed25519 public key, 32 bytes.
    public let key: [UInt8]
    /// nil: the line gives the key only.
    public let address: String?
    /// Where it stands, from 1.
    public let line: Int
  }

  public let path: String
  public let entries: [PeerName: Entry]

  public subscript(name: PeerName) -> Entry? { entries[name] }

  /// No names.
  public init(path: String) {
    self.path = path
    entries = [:]
  }

  /// Reads a file's text.
  /// - Parameters:
  ///   - path: for errors.
  ///   - keyOfAddress: the key of a node's address; throws where the text is none.
  /// - Throws: ``NetError`` that names the file and the line: `badName`, `badAddress`, `tooLarge`.
  public init(text: String, path: String, keyOfAddress: AddressReader) throws(NetError) {
    self.path = path
    guard text.utf8.count <= Self.largest else {
      throw NetError(.tooLarge, "read \(path)", cause: "a file of names has at most \(Self.largest >> 10) KiB")
    }
    var entries: [PeerName: Entry] = [:]
    for (index, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
      let words = line.prefix { $0 != "#" }.split(whereSeparator: \.isWhitespace)
      guard let first = words.first else { continue }
      func wrong(_ code: NetError.Code, _ cause: String) -> NetError {
        NetError(code, "read \(path):\(index + 1)", cause: cause)
      }
      guard words.count == 2 else {
        throw wrong(.badAddress, "a line has a name and an address or a key, this one \(words.count) words")
      }
      let name: PeerName
      do throws(NetError) { name = try PeerName(String(first), tld: PeerName.localTLD) } catch {
        throw wrong(.badName, error.cause)
      }
      let entry: Entry
      if let key = Base32.decode(Array(words[1].utf8)), key.count == 32 {
        entry = Entry(key: key, address: nil, line: index + 1)
      } else {
        do throws(NetError) {
          entry = Entry(key: try keyOfAddress(String(words[1])), address: String(words[1]), line: index + 1)
        } catch {
          throw wrong(.badAddress, "\"\(words[1].prefix(24))\" is neither an address nor a key: \(error.cause)")
        }
      }
      if let before = entries[name] { throw wrong(.badName, "\(name) stands in line \(before.line) already") }
      entries[name] = entry
    }
    self.entries = entries
  }

  /// Bytes: some ten thousand names.
  public static let largest = 4 << 20
}

/// The key of a node's address; throws where the text is no address that its key has signed. What an address is only the
/// node knows.
public typealias AddressReader = @Sendable (String) throws(NetError) -> [UInt8]
