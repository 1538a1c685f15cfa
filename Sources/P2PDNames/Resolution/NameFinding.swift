import NIOCore
import P2PDNet

/// The ways a name is looked up, in the order in which they decide.
public enum LookupSource: String, Sendable, CaseIterable, Comparable {
  /// The user's own file.
  case file
  /// Multicast DNS on the local network.
  case lan
  case servers
  /// A TXT record.
  case dns

  public static func < (a: Self, b: Self) -> Bool { a.rank < b.rank }
  private var rank: Int { Self.allCases.firstIndex(of: self) ?? Self.allCases.count }

  /// For people.
  public var words: String {
    switch self {
    case .file: "names file"
    case .lan: "local network"
    case .servers: "name servers"
    case .dns: "DNS"
    }
  }
}

/// What one source said of a name.
public struct NameFinding: Sendable {
  public enum Outcome: Sendable {
    /// The key, and the address's text; nil where the source knows the key only.
    case found(key: [UInt8], address: String?)
    case absent
    case failed(NetError)
    /// Why it was not asked.
    case notAsked(String)

    /// For programs.
    public var word: String {
      switch self {
      case .found: "found"
      case .absent: "absent"
      case .failed: "failed"
      case .notAsked: "not_asked"
      }
    }
  }

  public let source: LookupSource
  public var outcome: Outcome
  /// Who said it: a file and line, a host, how many of the servers.
  public var teller: String
  public var took: TimeAmount
  /// What each of several that were asked said.
  public var parts: [Part]

  /// One that was asked: a server, a host.
  public struct Part: Sendable {
    public var teller: String
    public var words: String
    public var took: TimeAmount?

    public init(_ teller: String, _ words: String, took: TimeAmount? = nil) {
      self.teller = teller
      self.words = words
      self.took = took
    }
  }

  public init(
    _ source: LookupSource, _ outcome: Outcome, by teller: String = "", took: TimeAmount = .zero, parts: [Part] = []
  ) {
    self.source = source
    self.outcome = outcome
    self.teller = teller
    self.took = took
    self.parts = parts
  }

  public var key: [UInt8]? { if case .found(let key, _) = outcome { key } else { nil } }
  public var address: String? { if case .found(_, let address) = outcome { address } else { nil } }
}

/// What a name stands for.
public struct ResolvedName: Sendable {
  public let name: PeerName
  /// 32 bytes, Ed25519.
  public let key: [UInt8]
  /// The node's address, as text.
  public let address: String
  public let source: LookupSource
}

/// How a lookup went: what every source said, and what came of it.
public struct NameReport: Sendable {
  public let name: PeerName
  /// In the order in which they decide.
  public let findings: [NameFinding]
  public let result: Result<ResolvedName, NetError>
  public let took: TimeAmount

  public init(_ name: PeerName, _ findings: [NameFinding], _ result: Result<ResolvedName, NetError>, took: TimeAmount) {
    self.name = name
    self.findings = findings
    self.result = result
    self.took = took
  }
}
