import P2PDNet

/// What a server's answers mean for whoever wanted a relay.
extension TURNSession {
  /// A relayed address that no peer could use, or that points where the server has no business.
  /// - Returns: nil for a good one.
  static func problem(_ relayed: Endpoint, of server: Endpoint) -> NetError? {
    let what = "use the relay \(server)"
    let ip = relayed.ip
    if relayed.port == 0 || ip.isWildcard || ip.isMulticast || ip.isBroadcast {
      return NetError(.badAddress, what, cause: "it gave the address \(relayed), which nobody can reach")
    }
    // A relay at home may have an address of the home. One on the Internet that names such an address sits behind a router
    // it was not told of, and the peer would dial into its own network.
    if ip.isLoopback && !server.ip.isLoopback || ip.isPrivate && !server.ip.isPrivate {
      return NetError(
        .badAddress, what,
        cause: "it gave the private address \(relayed)",
        remedy: "Tell the relay its public address (coturn: external-ip=PUBLIC/PRIVATE).")
    }
    return nil
  }

  /// May a server at one address send us to another (300)? Not from outside into a private network.
  static func mayRedirect(from server: Endpoint, to other: Endpoint) -> Bool {
    other.port != 0 && !other.ip.isWildcard && !other.ip.isMulticast && !other.ip.isBroadcast
      && (!other.ip.isLoopback || server.ip.isLoopback) && (!other.ip.isPrivate || server.ip.isPrivate)
  }

  /// RFC 8656 §19, RFC 6062 §6.3, RFC 8489 §14.8.
  static func error(_ number: Int, _ reason: String, _ what: String) -> NetError {
    let said = reason.isEmpty ? "error \(number)" : "error \(number), \(reason.prefix(100))"
    func error(_ code: NetError.Code, _ meaning: String, _ remedy: String = "") -> NetError {
      NetError(code, what, cause: "the server says \(said): \(meaning)", remedy: remedy)
    }
    return switch number {
    case 403:
      error(
        .permission, "it does not relay to that peer", "Allow the peer there (coturn: allowed-peer-ip, denied-peer-ip)."
      )
    case 437: error(.closed, "it does not know the allocation any more")
    case 440, 443: error(.unsupported, "it has no address of that family")
    case 441: error(.permission, "the allocation belongs to another user")
    case 442:
      error(
        .unsupported, "it does not relay what was asked for",
        "Allow it there (coturn: without no-tcp-relay), or use another server.")
    case 446: error(.inUse, "there is a connection to that peer already")
    case 447: error(.refused, "the peer cannot be reached from there")
    case 486:
      error(.limit, "the user has as many allocations as it may", "Wait, or raise the limit (coturn: user-quota).")
    case 508:
      error(.limit, "it has no port or bandwidth left", "Give it more (coturn: min-port, max-port, total-quota).")
    case 400, 420: error(.unsupported, "it does not understand the request")
    default: error(.io, "try another server")
    }
  }
}
