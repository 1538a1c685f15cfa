/// The numbers of multicast DNS.
enum LocalNetwork {
  /// RFC 6762 §3.
  static let port: UInt16 = 5353
  /// RFC 6762 §11: 255 hops, so that receivers can tell who is no neighbour.
  static let hops = 255
  /// RFC 6762 §17: the most a message may have, headers included.
  static let longest = 9000
}
