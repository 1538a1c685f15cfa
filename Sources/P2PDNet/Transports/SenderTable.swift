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
  private var all: [Endpoint: Peer] = [:]
  /// Unowned: every one of them is in `all`, and both are emptied together.
  private var lately: ContiguousArray<Unmanaged<Peer>?> = []

  init(isDualStack: Bool) { self.isDualStack = isDualStack }

  /// The object for an address, made if it is not known.
  mutating func peer(for endpoint: Endpoint) -> Peer {
    if let known = all[endpoint] { return known }
    if all.count >= Self.most { removeAll() }
    let peer = Peer(endpoint, mapped: isDualStack)
    all[endpoint] = peer
    return peer
  }

  /// The sender that recvmmsg(2) filled in; nil for addresses that are not IP.
  @inline(__always)
  mutating func sender(_ address: UnsafePointer<sockaddr_storage>) -> Peer? {
    let place = Self.place(UnsafeRawPointer(address))
    if lately.isEmpty { lately = ContiguousArray(repeating: nil, count: Self.places) }
    if let known = lately[place]?.takeUnretainedValue(), Self.isSame(known, address) { return known }
    guard let endpoint = Endpoint(address.pointee) else { return nil }
    let peer = peer(for: endpoint)
    if lately.isEmpty { lately = ContiguousArray(repeating: nil, count: Self.places) }
    lately[place] = Unmanaged.passUnretained(peer)
    return peer
  }

  mutating func removeAll() {
    lately = []
    all.removeAll(keepingCapacity: true)
  }

  /// Family, port and address; what else an IPv6 address has (its flow, RFC 6437) changes between datagrams of one sender.
  @inline(__always)
  private static func isSame(_ peer: Peer, _ address: UnsafePointer<sockaddr_storage>) -> Bool {
    withUnsafePointer(to: peer.storage) { known in
      let (a, b) = (UnsafeRawPointer(known), UnsafeRawPointer(address))
      guard a.load(as: UInt32.self) == b.load(as: UInt32.self) else { return false }
      if CInt(address.pointee.ss_family) == AF_INET {
        return a.load(fromByteOffset: 4, as: UInt32.self) == b.load(fromByteOffset: 4, as: UInt32.self)
      }
      return a.load(fromByteOffset: 8, as: UInt64.self) == b.load(fromByteOffset: 8, as: UInt64.self)
        && a.load(fromByteOffset: 16, as: UInt64.self) == b.load(fromByteOffset: 16, as: UInt64.self)
        && a.load(fromByteOffset: 24, as: UInt32.self) == b.load(fromByteOffset: 24, as: UInt32.self)
    }
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
