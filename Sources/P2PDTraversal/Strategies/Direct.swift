import P2PDNet

/// An address of this host, as the plan needs it.
public struct LocalAddress: Hashable, Sendable {
  public var ip: IPAddress
  /// Bits that the addresses of its network share.
  public var prefix: Int
  /// The kernel's index of its interface: the scope of the link-local addresses there.
  public var interface: UInt32

  public init(ip: IPAddress, prefix: Int, interface: UInt32) {
    self.ip = ip
    self.prefix = prefix
    self.interface = interface
  }
}

/// What kind of way a pipe took; `raw` is what `pipe.path` says.
public enum DialPath: String, Hashable, Sendable {
  case sameMachine = "same machine"
  case lan
  case linkLocal = "link-local"
  case ipv6
  case ipv4
  /// Over a relay.
  case relay
}

/// One endpoint worth dialling.
public struct DialCandidate: Hashable, Sendable {
  public let endpoint: Endpoint
  public let path: DialPath
  /// There is a reason to think that the peer is there; link-local addresses of strangers and ports that may have been
  /// forwarded are tried without one.
  public var isLikely = true
}

/// Which of a peer's paths to dial from here, best first, and why the others are left out. Pure.
///
/// A private address is dialled only where this host has an address in the same network: elsewhere the packets would reach
/// nobody, or somebody else's machine of that number. (Even there it may be; the key check finds out.)
public struct DirectPlan: Sendable {
  /// Whose wish it is.
  public enum Trust: Sendable {
    /// Of whoever runs this node: it connects to an address it was given.
    case own
    /// A stranger's, who wants to be dialled. Nothing on this machine is dialled for it, nothing in this network unless
    /// both are seen from outside under one address, and little in all.
    case stranger
  }

  public private(set) var candidates: [DialCandidate] = []
  /// What no connection attempt is made for, with the reason.
  public private(set) var skipped: [PathAttempt] = []

  /// - Parameters:
  ///   - outside: the outside addresses of the routers before this host, as far as known.
  ///   - strategy: what the skipped ones are skipped for.
  public init(
    to paths: [PeerPath], from own: [LocalAddress], outside: [IPAddress] = [], trust: Trust = .own,
    for strategy: ConnectStrategy = .direct
  ) {
    let ownAddresses = Set(own.map { $0.ip.unscoped })
    // All hosts share 127.0.0.1: only another address in common says that it is the same machine.
    let isThisMachine = paths.contains { !$0.local.ip.isLoopback && ownAddresses.contains($0.local.ip) }
    let isLoopbackOnly = paths.allSatisfy { $0.local.ip.isLoopback }
    let sharesNetwork = paths.contains { path in own.contains { $0.isNeighbour(of: path.local.ip) } }
    let public4 = own.contains { $0.ip.family == .v4 && !$0.ip.isLoopback && !$0.ip.isLinkLocal }
    let public6 = own.contains { $0.ip.family == .v6 && !$0.ip.isPrivate }
    let isElsewhere = trust == .stranger && Self.areApart(paths, outside)

    var ranked: [(rank: Int, candidate: DialCandidate)] = []
    func offer(_ rank: Int, _ ip: IPAddress, _ port: UInt16, _ path: DialPath) {
      let candidate = DialCandidate(endpoint: Endpoint(ip: ip, port: port), path: path, isLikely: rank < 4)
      if !ranked.contains(where: { $0.candidate.endpoint == candidate.endpoint }) { ranked.append((rank, candidate)) }
    }
    func skip(_ ip: IPAddress, _ port: UInt16, _ cause: String) {
      let endpoint = Endpoint(ip: ip, port: port)
      guard !skipped.contains(where: { $0.remote == endpoint }) else { return }
      skipped.append(PathAttempt(strategy, remote: endpoint, .unreachable, "not tried: \(cause)"))
    }
    func offerRouted(_ ip: IPAddress, _ port: UInt16, rank: Int) {
      if let neighbour = own.first(where: { $0.isNeighbour(of: ip) }) {
        if neighbour.isForAll(ip) { return skip(ip, port, "it is the address of all hosts of a network") }
        if isElsewhere, ip.isPrivate { return skip(ip, port, "its network is seen from outside at another address") }
        offer(1, ip, port, .lan)
      } else if ip.isPrivate {
        skip(ip, port, "a private address of a network this machine is not in")
      } else if ip.family == .v6 {
        if public6 { offer(rank, ip, port, .ipv6) } else { skip(ip, port, "this machine has no public IPv6 address") }
      } else {
        if public4 {
          offer(rank, ip, port, .ipv4)
        } else {
          skip(ip, port, "this machine has no IPv4 address but loopback's")
        }
      }
    }

    func offerOutside(_ ip: IPAddress, _ port: UInt16, rank: Int) {
      if !ip.canBeDialled || ip.isLoopback || ip.isLinkLocal {
        return skip(ip, port, "no host is seen from outside at such an address")
      }
      // One router before both: it would have to turn the packets round, and the way inside is known.
      if trust == .stranger, ownAddresses.contains(ip) { return skip(ip, port, "this machine has that address") }
      offerRouted(ip, port, rank: rank)
    }

    for path in paths {
      let (nic, port) = (path.local.ip, path.local.port)
      if !nic.canBeDialled {
        skip(nic, port, "no host has such an address")
        continue
      }
      if nic.isLoopback {
        if trust == .own, isThisMachine || isLoopbackOnly {
          offer(0, nic, port, .sameMachine)
        } else {
          skip(nic, port, "a loopback address of another machine")
        }
        continue
      }
      if ownAddresses.contains(nic) {
        let scoped = own.first { $0.ip.unscoped == nic }
        if trust == .own {
          offer(0, nic.scoped(nic.needsScope ? scoped?.interface : nil), port, .sameMachine)
        } else {
          skip(nic, port, "this machine has that address")
        }
        continue
      }
      if nic.isLinkLocal {
        // Which of our links is the peer's, nobody knows: try them all, late unless another path says that we are
        // neighbours.
        let links = own.filter { $0.ip.isLinkLocal && $0.ip.family == nic.family }.map(\.interface).unique.prefix(
          Self.maximumLinks)
        if links.isEmpty {
          skip(nic, port, "this machine has no link-local address of that family")
        } else if isElsewhere {
          skip(nic, port, "its network is seen from outside at another address")
        } else {
          for link in links {
            offer(sharesNetwork ? 2 : 5, nic.scoped(nic.needsScope ? link : nil), port, .linkLocal)
          }
        }
      } else {
        offerRouted(nic, port, rank: 3)
      }
      if let mapped = path.mapped, mapped.ip != nic { offerOutside(mapped.ip, mapped.port, rank: 3) }
      if let seen = path.external, seen.ip != nic {
        // Where only the address is known, the listening port may have been forwarded under its own number.
        offerOutside(seen.ip, seen.port == 0 ? port : seen.port, rank: seen.port == 0 ? 4 : 3)
      }
    }
    let best = [0, 1, 2].flatMap { rank in ranked.filter { $0.rank == rank }.map(\.candidate) }
    let far = [3, 4].flatMap { rank in Self.interleaved(ranked.filter { $0.rank == rank }.map(\.candidate)) }
    let last = ranked.filter { $0.rank == 5 }.map(\.candidate)
    let all = best + far + last
    let most = trust == .own ? Self.maximumCandidates : Self.maximumForStrangers
    candidates = Array(all.prefix(most))
    for dropped in all.dropFirst(most) {
      skip(dropped.endpoint.ip, dropped.endpoint.port, "more than \(most) ways to try")
    }
  }

  /// Leaves the first ones only.
  public mutating func limit(to count: Int) {
    for dropped in candidates.dropFirst(count) {
      skipped.append(
        PathAttempt(
          .reverse, remote: dropped.endpoint, .limit, "not tried: this node dials for others already too often"))
    }
    candidates = Array(candidates.prefix(count))
  }

  /// Both are behind routers, whose outside addresses are known, and have none in common.
  private static func areApart(_ paths: [PeerPath], _ outside: [IPAddress]) -> Bool {
    let theirs = paths.translated
    return !theirs.isEmpty && !outside.isEmpty && Set(theirs).isDisjoint(with: outside)
  }

  /// IPv6 first, then turn about (RFC 8305 §4), so that a broken family costs one delay and not many.
  private static func interleaved(_ candidates: [DialCandidate]) -> [DialCandidate] {
    let six = candidates.filter { $0.endpoint.ip.family == .v6 }
    let four = candidates.filter { $0.endpoint.ip.family == .v4 }
    var mixed: [DialCandidate] = []
    for index in 0..<max(six.count, four.count) {
      if index < six.count { mixed.append(six[index]) }
      if index < four.count { mixed.append(four[index]) }
    }
    return mixed
  }

  /// Links a link-local address is tried on; each costs an attempt, and hosts with dozens of virtual links exist.
  private static let maximumLinks = 4
  private static let maximumCandidates = 24
  /// What one message of a stranger makes this host dial: both families of a few interfaces.
  private static let maximumForStrangers = 8
}

extension [PeerPath] {
  /// The outside addresses of IPv4 routers on these paths.
  public var translated: [IPAddress] {
    compactMap { $0.family == .v4 && $0.external?.ip != $0.local.ip ? $0.external?.ip : nil }
  }
}

extension LocalAddress {
  fileprivate func isNeighbour(of other: IPAddress) -> Bool {
    // A prefix of 0 or a point-to-point /32, /128 says nothing about who is near.
    !ip.isLoopback && !ip.isLinkLocal && prefix > 0 && prefix < (ip.family == .v4 ? 32 : 128)
      && ip.unscoped.sharesPrefix(prefix, with: other)
  }

  /// The network's own address or its broadcast address (RFC 1122 §3.2.1.3); RFC 3021 networks of two have neither.
  fileprivate func isForAll(_ other: IPAddress) -> Bool {
    guard ip.family == .v4, prefix < 31 else { return false }
    let mask = UInt64.max << (64 - UInt64(prefix)) & 0xffff_ffff_0000_0000
    let host = other.high & ~mask
    return host == 0 || host == ~mask & 0xffff_ffff_0000_0000
  }
}

extension IPAddress {
  /// One host can have it. Not 0.0.0.0/8 (RFC 1122 §3.2.1.3), 240.0.0.0/4 (RFC 1112 §4), a group, or IPv4 in IPv6's
  /// clothes, which rules for IPv4 would not see.
  var canBeDialled: Bool {
    if isWildcard || isMulticast || isBroadcast || unmapped != self { return false }
    return family == .v6 || (high >> 56 != 0 && high >> 60 != 0xf)
  }

  fileprivate var needsScope: Bool { family == .v6 && isLinkLocal }
  fileprivate func scoped(_ scope: UInt32?) -> IPAddress {
    IPAddress(family: family, high: high, low: low, scopeID: scope ?? 0)
  }
}

extension [UInt32] {
  fileprivate var unique: [UInt32] { reduce(into: []) { if !$0.contains($1) { $0.append($1) } } }
}
