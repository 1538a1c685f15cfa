import P2PDNet

/// An address of this host, as the plan needs it.
struct LocalAddress: Hashable, Sendable {
  var ip: IPAddress
  /// Bits that the addresses of its network share.
  var prefix: Int
  /// The kernel's index of its interface: the scope of the link-local addresses there.
  var interface: UInt32
}

/// What kind of way a pipe took; `raw` is what `pipe.path` says.
public enum DialPath: String, Sendable {
  case sameMachine = "same machine"
  case lan
  case linkLocal = "link-local"
  case ipv6
  case ipv4
}

/// One endpoint worth dialling.
struct DialCandidate: Hashable, Sendable {
  let endpoint: Endpoint
  let path: DialPath
}

/// Which of a peer's routes to dial from here, best first, and why the others are left out. Pure.
///
/// A stranger's private address is dialled only where this host has an address in the same network: elsewhere the
/// packets would reach nobody, or somebody else's machine of that number. (Even there it may be; the key check finds
/// out.)
struct DialPlan {
  private(set) var candidates: [DialCandidate] = []
  /// Routes that no connection attempt was made for, with the reason.
  private(set) var skipped: [NetError] = []

  init(to routes: [NodeRoute], from own: [LocalAddress]) {
    let ownAddresses = Set(own.map { $0.ip.unscoped })
    // All hosts share 127.0.0.1: only another address in common says that it is the same machine.
    let isThisMachine = routes.contains { !$0.nic.isLoopback && ownAddresses.contains($0.nic) }
    let isLoopbackOnly = routes.allSatisfy { $0.nic.isLoopback }
    let sharesNetwork = routes.contains { route in own.contains { $0.isNeighbour(of: route.nic) } }
    let public4 = own.contains { $0.ip.family == .v4 && !$0.ip.isLoopback && !$0.ip.isLinkLocal }
    let public6 = own.contains { $0.ip.family == .v6 && !$0.ip.isPrivate }

    var ranked: [(rank: Int, candidate: DialCandidate)] = []
    func offer(_ rank: Int, _ ip: IPAddress, _ port: UInt16, _ path: DialPath) {
      let candidate = DialCandidate(endpoint: Endpoint(ip: ip, port: port), path: path)
      if !ranked.contains(where: { $0.candidate.endpoint == candidate.endpoint }) { ranked.append((rank, candidate)) }
    }
    func skip(_ ip: IPAddress, _ port: UInt16, _ cause: String) {
      skipped.append(NetError(.unreachable, "skip \(Endpoint(ip: ip, port: port))", cause: cause))
    }
    func offerRouted(_ ip: IPAddress, _ port: UInt16, rank: Int) {
      if own.contains(where: { $0.isNeighbour(of: ip) }) {
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

    for route in routes {
      let nic = route.nic
      if nic.isLoopback {
        if isThisMachine || isLoopbackOnly {
          offer(0, nic, route.port, .sameMachine)
        } else {
          skip(nic, route.port, "a loopback address of another machine")
        }
        continue
      }
      if ownAddresses.contains(nic) {
        let scoped = own.first { $0.ip.unscoped == nic }
        offer(0, nic.scoped(nic.needsScope ? scoped?.interface : nil), route.port, .sameMachine)
        continue
      }
      if nic.isLinkLocal {
        // Which of our links is the peer's, nobody knows: try them all, late unless another route says that we are
        // neighbours.
        let links = own.filter { $0.ip.isLinkLocal && $0.ip.family == nic.family }.map(\.interface).unique.prefix(
          Self.maximumLinks)
        if links.isEmpty { skip(nic, route.port, "this machine has no link-local address of that family") }
        for link in links {
          offer(sharesNetwork ? 2 : 5, nic.scoped(nic.needsScope ? link : nil), route.port, .linkLocal)
        }
        continue
      }
      offerRouted(nic, route.port, rank: 3)
      if case .at(let seen) = route.external, seen.ip != nic {
        // Where only the address is known, the listening port may have been forwarded under its own number.
        offerRouted(seen.ip, seen.port == 0 ? route.port : seen.port, rank: seen.port == 0 ? 4 : 3)
      }
    }
    let best = [0, 1, 2].flatMap { rank in ranked.filter { $0.rank == rank }.map(\.candidate) }
    let far = [3, 4].flatMap { rank in Self.interleaved(ranked.filter { $0.rank == rank }.map(\.candidate)) }
    let last = ranked.filter { $0.rank == 5 }.map(\.candidate)
    let all = best + far + last
    candidates = Array(all.prefix(Self.maximumCandidates))
    for dropped in all.dropFirst(Self.maximumCandidates) {
      skip(dropped.endpoint.ip, dropped.endpoint.port, "more than \(Self.maximumCandidates) ways to try")
    }
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
}

extension LocalAddress {
  fileprivate func isNeighbour(of other: IPAddress) -> Bool {
    // A prefix of 0 or a point-to-point /32, /128 says nothing about who is near.
    !ip.isLoopback && !ip.isLinkLocal && prefix > 0 && prefix < (ip.family == .v4 ? 32 : 128)
      && ip.unscoped.sharesPrefix(prefix, with: other)
  }
}

extension IPAddress {
  fileprivate var unscoped: IPAddress { IPAddress(family: family, high: high, low: low) }
  fileprivate var needsScope: Bool { family == .v6 && isLinkLocal }
  fileprivate func scoped(_ scope: UInt32?) -> IPAddress {
    IPAddress(family: family, high: high, low: low, scopeID: scope ?? 0)
  }
}

extension [UInt32] {
  fileprivate var unique: [UInt32] { reduce(into: []) { if !$0.contains($1) { $0.append($1) } } }
}
