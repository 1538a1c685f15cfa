import P2PDNet

/// Who may know a name, by its ending.
extension PeerName {
  /// Of names on the local network alone, which no name server has: that of multicast DNS (RFC 6762 §3).
  public static let localTLD = "local"
  /// Of names that say no ending, where name servers are configured for it.
  public static let defaultTLD = "peer"

  /// `example` and `example.local`: known to the user's file and to the local network alone.
  public var isLocal: Bool { tld == Self.localTLD }
}
