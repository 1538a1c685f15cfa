import CNet
import Glibc

/// The senders that a datagram socket has heard: one object for one address, found by the kernel's form of it.
///
/// A table of the addresses heard most lately stands in front, so that a datagram of a known sender costs a few
/// comparisons and neither an ``Endpoint`` nor a hash that is safe against attackers: two senders who are made to share a
/// place there only lose the short cut.
struct SenderTable {
  /// An IPv6 socket that takes IPv4 too.
  let isDualStack: Bool
  private var all = Known()
  /// Unowned: every one of them is in `all`, and both are emptied together.
  private var lately: ContiguousArray<Unmanaged<Peer>?> = []

  private final class Known {
    var peers: [Endpoint: Peer] = [:]
  }

  init(isDualStack: Bool) { self.isDualStack = isDualStack }

  /// The object for an address, made if it is not known.
  /// - Parameter keep: gets the objects that had to go to make room: whoever called may be in the middle of a datagram of
  ///   one of them.
  mutating func peer(for endpoint: Endpoint, _ keep: (AnyObject) -> Void) -> Peer {
    if let known = all.peers[endpoint] { return known }
    if all.peers.count >= Self.most { removeAll(keep) }
    let peer = Peer(endpoint, mapped: isDualStack)
    all.peers[endpoint] = peer
    return peer
  }

  /// The sender that the kernel filled in, if it was heard lately. Not counted: it lives until it is given to a `keep`, and
  /// as long as that keeps it.
  @inline(__always)
  func known(_ address: UnsafePointer<sockaddr_storage>) -> Unmanaged<Peer>? {
    let place = Self.place(UnsafeRawPointer(address))
    guard place < lately.count, let known = lately[place],
      known._withUnsafeGuaranteedRef({ Self.isSame($0, address) })
    else { return nil }
    return known
  }

  /// The same for one that was not; nil for addresses that are not IP.
  mutating func sender(_ address: UnsafePointer<sockaddr_storage>, _ keep: (AnyObject) -> Void) -> Unmanaged<Peer>? {
    guard let endpoint = Endpoint(address.pointee) else { return nil }
    let peer = Unmanaged.passUnretained(peer(for: endpoint, keep))
    if lately.isEmpty { lately = ContiguousArray(repeating: nil, count: Self.places) }
    lately[Self.place(UnsafeRawPointer(address))] = peer
    return peer
  }

  mutating func removeAll(_ keep: (AnyObject) -> Void) {
    lately = []
    keep(all)
    all = Known()
  }

  /// Family, port and address; what else an IPv6 address has (its flow, RFC 6437) changes between datagrams of one sender.
  @inline(__always)
  private static func isSame(_ peer: Peer, _ address: UnsafePointer<sockaddr_storage>) -> Bool {
    let (a, b) = (UnsafeRawPointer(peer.kernelForm), UnsafeRawPointer(address))
    guard a.load(as: UInt32.self) == b.load(as: UInt32.self) else { return false }
    if CInt(b.load(as: sa_family_t.self)) == AF_INET {
      return a.load(fromByteOffset: 4, as: UInt32.self) == b.load(fromByteOffset: 4, as: UInt32.self)
    }
    return a.load(fromByteOffset: 8, as: UInt64.self) == b.load(fromByteOffset: 8, as: UInt64.self)
      && a.load(fromByteOffset: 16, as: UInt64.self) == b.load(fromByteOffset: 16, as: UInt64.self)
      && a.load(fromByteOffset: 24, as: UInt32.self) == b.load(fromByteOffset: 24, as: UInt32.self)
  }

  /// sockaddr_in: family 0, port 2, address 4. sockaddr_in6: family 0, port 2, flow 4, address 8, scope 24.
  @inline(__always)
  private static func place(_ address: UnsafeRawPointer) -> Int {
    var mixed = address.load(as: UInt32.self)
    if CInt(address.load(as: sa_family_t.self)) == AF_INET {
      mixed ^= address.load(fromByteOffset: 4, as: UInt32.self)
    } else {
      mixed ^= address.load(fromByteOffset: 12, as: UInt32.self) ^ address.load(fromByteOffset: 20, as: UInt32.self)
    }
    return Int((mixed &* 0x9e37_79b1) >> 24)
  }

  /// Places in front: the upper eight bits of the mixed word.
  private static let places = 256
  /// Senders remembered with their objects; over it all are forgotten, since any can be made anew.
  private static let most = 4096
}
