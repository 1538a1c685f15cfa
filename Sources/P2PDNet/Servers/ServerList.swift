/// The servers a node may contact, in one place: for its address as seen from outside (STUN), for signals (MQTT
/// brokers), as relays (TURN) and for the time (NTP). A value: whoever starts the node makes it from the defaults, a file,
/// the environment and options, in that order, and hands each part to the room that uses it.
///
/// A file has one URL a line (``ServerURL``); `#` begins a comment.
public struct ServerList: Hashable, Sendable {
  public var stun: [ServerURL] = []
  public var turn: [ServerURL] = []
  public var brokers: [ServerURL] = []
  public var ntp: [ServerURL] = []

  /// Empty: what `--offline` means. Contacts nobody.
  public init() {}

  public var isEmpty: Bool { all.isEmpty }
  /// Those that loopback leads to.
  public var onThisMachine: ServerList {
    var list = self
    for group in Group.allCases { list[keyPath: group.path].removeAll { !$0.isOnThisMachine } }
    return list
  }
  public var all: [ServerURL] { stun + turn + brokers + ntp }

  /// Sorts URLs into their groups. A server named twice counts once.
  /// Throws ``NetError`` (`limit`) over ``maximum`` servers in a group.
  public init(_ urls: some Sequence<ServerURL>) throws(NetError) {
    for url in urls { try add(url) }
  }

  /// Reads a configuration's list of URLs. Throws ``NetError`` that names the URL.
  public init(urls: some Sequence<String>) throws(NetError) {
    for text in urls { try add(try ServerURL(text)) }
  }

  /// Reads a file's text. Throws ``NetError`` that names the file and the line.
  public init(text: String, file: String) throws(NetError) {
    for (number, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
      let entry = line.prefix { $0 != "#" }.split(whereSeparator: \.isWhitespace)
      do throws(NetError) {
        for word in entry { try add(try ServerURL(word)) }
      } catch {
        throw NetError(error.code, "read \(file):\(number + 1)", cause: error.description)
      }
    }
  }

  private mutating func add(_ url: ServerURL) throws(NetError) {
    let group = Group(url.scheme)
    guard !self[keyPath: group.path].contains(url) else { return }
    guard self[keyPath: group.path].count < Self.maximum else {
      throw NetError(.limit, "take the server \(url)", cause: "there are \(Self.maximum) of its kind already")
    }
    self[keyPath: group.path].append(url)
  }

  /// Replaces the groups that the environment names: `P2PD_STUN`, `P2PD_TURN`, `P2PD_BROKERS`, `P2PD_NTP`, each a list of
  /// URLs or plain `host:port` set apart by commas or blanks; `none` empties the group.
  public func overridden(by environment: [String: String]) throws(NetError) -> ServerList {
    var result = self
    for group in Group.allCases {
      guard let text = environment[group.variable], !text.isEmpty else { continue }
      let words = text == "none" ? [] : text.split(whereSeparator: { $0 == "," || $0.isWhitespace }).map(String.init)
      do throws(NetError) {
        result = try result.replacing(group, with: words)
      } catch {
        throw NetError(error.code, "read \(group.variable)", cause: error.description)
      }
    }
    return result
  }

  /// The list with other servers in one group: URLs, or plain `host:port`. Throws ``NetError`` that names the URL.
  public func replacing(_ group: Group, with texts: some Sequence<String>) throws(NetError) -> ServerList {
    var result = self
    result[keyPath: group.path] = []
    for text in texts {
      let url = try ServerURL(text, scheme: group.scheme)
      guard Group(url.scheme) == group else {
        throw NetError(.badAddress, "use \(url)", cause: "it is no server for \(group.words)")
      }
      try result.add(url)
    }
    return result
  }

  /// The list as a file: what ``init(text:file:)`` reads back, passwords included.
  public var text: String { all.map { $0.text + "\n" }.joined() }

  /// A line a group, for the log at start; no secrets in it.
  public var summary: [(what: String, servers: String)] {
    Group.allCases.map { group in
      let servers = self[keyPath: group.path]
      return (group.words, servers.isEmpty ? "none" : servers.map(\.description).joined(separator: ", "))
    }
  }

  /// What a server is for, under the names that configurations use.
  public enum Group: String, Sendable, CaseIterable {
    case stun, turn, brokers, ntp

    fileprivate init(_ scheme: ServerURL.Scheme) {
      switch scheme {
      case .stun, .stuns: self = .stun
      case .turn, .turns: self = .turn
      case .mqtt, .mqtts: self = .brokers
      case .ntp: self = .ntp
      }
    }

    fileprivate var path: WritableKeyPath<ServerList, [ServerURL]> {
      switch self {
      case .stun: \.stun
      case .turn: \.turn
      case .brokers: \.brokers
      case .ntp: \.ntp
      }
    }

    fileprivate var scheme: ServerURL.Scheme {
      switch self {
      case .stun: .stun
      case .turn: .turn
      case .brokers: .mqtt
      case .ntp: .ntp
      }
    }

    /// The environment variable that replaces the group.
    public var variable: String {
      switch self {
      case .stun: "P2PD_STUN"
      case .turn: "P2PD_TURN"
      case .brokers: "P2PD_BROKERS"
      case .ntp: "P2PD_NTP"
      }
    }

    fileprivate var words: String {
      switch self {
      case .stun: "STUN"
      case .turn: "relays (TURN)"
      case .brokers: "brokers (MQTT)"
      case .ntp: "time (NTP)"
      }
    }
  }

  /// Of one kind. More would not make a node easier to reach, only slower to start.
  public static let maximum = 32
}
