import P2PDNet

/// Whether two sides can meet by a TCP hole punch, and by which part each gets through. Held against every pair of router
/// kinds in the laboratory without an exception: it works where either side lets everybody in, where the ports of both
/// are known beforehand, or where the unknown side meets a known one that filters by address only.
public struct PunchRule: Hashable, Sendable {
  public enum Verdict: Hashable, Sendable {
    case possible
    /// Something it depends on was not found out.
    case uncertain(String)
    case impossible(String)

    public var isImpossible: Bool { if case .impossible = self { true } else { false } }

    /// Why not, or why perhaps not.
    public var reason: String? {
      switch self {
      case .possible: nil
      case .uncertain(let text), .impossible(let text): text
      }
    }
  }

  public let verdict: Verdict
  /// Our SYN gets in at the peer's, or opens our own router for the peer's.
  public let dials: Bool
  /// The peer may come from a port that we do not dial, so that no connecting socket of ours would answer.
  public let listens: Bool

  /// What two ways out can do together.
  public init(own: PunchSide.Path, peer: PunchSide.Path) {
    if let reason = Self.obstacle(own, peer) {
      verdict = .impossible(reason)
      dials = false
      listens = false
      return
    }
    let ours = Traits(own)
    let theirs = Traits(peer)
    if ours.surely(reach: theirs) || theirs.surely(reach: ours) {
      let isOnFaith = Self.isSameOutside(own, peer) && own.hairpin == nil && peer.hairpin == nil
      verdict = isOnFaith ? .uncertain("both are behind one router, and its hairpin was not found out") : .possible
    } else if ours.perhaps(reach: theirs) || theirs.perhaps(reach: ours) {
      verdict = .uncertain(Self.doubt(own, peer))
    } else {
      verdict = .impossible(Self.why(own, peer))
      dials = false
      listens = false
      return
    }
    let opensOurs = ours.isOpen != true && theirs.perhaps(reach: ours)
    // From a port that nobody can foresee, dialling on a mere chance harms where the peer surely gets in here: our router
    // would take the peer's SYN for a part of that other connection, and lose it.
    let isLeftToThem = ours.isKnown == false && theirs.surely(reach: ours)
    dials = (isLeftToThem ? ours.surely(reach: theirs) : ours.perhaps(reach: theirs)) || opensOurs
    let mayBeSurprised = own.filtering != .addressAndPortDependent && peer.mapping?.isPredictable != true
    let isPublic = own.mapping == NATBehaviour.Mapping.none && ours.isOpen == true
    // Elsewhere a listener only harms: the peer's SYN that finds our connecting socket gone would be answered by it with
    // another sequence number, which our own router drops for a minute.
    listens = mayBeSurprised || isPublic || !dials || own.hairpin == .internalSource && Self.isSameOutside(own, peer)
  }

  /// Whether the sides can meet by any of their ways.
  public static func verdict(own: PunchSide, peer: PunchSide) -> Verdict {
    let found = pairs(own, peer).map { PunchRule(own: own.paths[$0.own], peer: peer.paths[$0.peer]).verdict }
    guard !found.isEmpty else { return .impossible(noCommonFamily(own, peer)) }
    if found.contains(.possible) { return .possible }
    return found.first { !$0.isImpossible } ?? found[0]
  }

  /// Which ways are tried together, by their places in the two lists. The same for both sides: of each family the first
  /// few by the sum of their ranks.
  static func pairs(_ own: PunchSide, _ peer: PunchSide) -> [(own: Int, peer: Int)] {
    var found: [(own: Int, peer: Int)] = []
    for family in AddressFamily.allCases {
      let ours = own.paths.indices.filter { own.paths[$0].family == family }
      let theirs = peer.paths.indices.filter { peer.paths[$0].family == family }
      for rank in 0...highestRank {
        for first in 0...rank where first < ours.count && rank - first < theirs.count {
          found.append((ours[first], theirs[rank - first]))
        }
      }
    }
    return found
  }

  // MARK: Reasons

  private static func obstacle(_ own: PunchSide.Path, _ peer: PunchSide.Path) -> String? {
    if own.ports.isEmpty { return "no port of ours is ready" }
    if peer.ports.isEmpty { return "the peer has no port ready" }
    guard isSameOutside(own, peer) else { return nil }
    if own.mapping == NATBehaviour.Mapping.none { return "the peer is this host" }
    guard own.hairpin == .no || peer.hairpin == .no else { return nil }
    return "both are behind one router, which turns no connection back to its inside (no hairpin)"
  }

  private static func isSameOutside(_ own: PunchSide.Path, _ peer: PunchSide.Path) -> Bool {
    let outside = Set(own.endpoints.map(\.ip))
    return peer.endpoints.contains { outside.contains($0.ip) }
  }

  private static func noCommonFamily(_ own: PunchSide, _ peer: PunchSide) -> String {
    if own.paths.isEmpty { return "our addresses as others see them are not known" }
    if peer.paths.isEmpty { return "the peer does not know its addresses as others see them" }
    return "we have \(own.paths[0].family) only and the peer has \(peer.paths[0].family) only"
  }

  private static func why(_ own: PunchSide.Path, _ peer: PunchSide.Path) -> String {
    switch (own.isKnown == false, peer.isKnown == false) {
    case (true, true): "both routers use another port for each peer (symmetric NAT), so neither port is known"
    case (true, false):
      "our router uses another port for each peer (symmetric NAT), and the peer's lets in none that it did not send to"
    case (false, true):
      "the peer's router uses another port for each peer (symmetric NAT), and ours lets in none that we did not send to"
    case (false, false): "it is not known where the \(own.endpoints.isEmpty ? "own side" : "peer") is seen"
    }
  }

  private static func doubt(_ own: PunchSide.Path, _ peer: PunchSide.Path) -> String {
    for (path, name) in [(own, "our"), (peer, "the peer's")] {
      if path.isKnown == nil { return "how \(name) router maps ports was not found out" }
    }
    return "whom \(own.isKnown == false ? "the peer's" : "our") router lets in was not found out"
  }

  /// Three ways of one host with three of another are six pairs.
  private static let highestRank = 2
}

/// What the rule asks of one side.
private struct Traits {
  let isKnown: Bool?
  let isOpen: Bool?
  let filtering: NATBehaviour.Filtering?
  let hasPlace: Bool

  init(_ path: PunchSide.Path) {
    isKnown = path.isKnown
    isOpen = path.isOpen
    filtering = path.filtering
    hasPlace = !path.endpoints.isEmpty
  }

  /// Our SYN, sent to where the other is said to be, gets in there; the other one dials us too.
  func surely(reach other: Traits) -> Bool {
    guard other.hasPlace else { return false }
    if other.isOpen == true { return true }
    return other.isKnown == true && hasPlace && (isKnown == true || other.filtering == .addressDependent)
  }

  /// The same with what is unknown for the better, within reason: hardly any router lets everybody in.
  func perhaps(reach other: Traits) -> Bool {
    guard other.hasPlace else { return false }
    if other.isOpen == true { return true }
    guard other.isKnown != false, hasPlace else { return false }
    return isKnown != false || other.filtering != .addressAndPortDependent
  }
}
