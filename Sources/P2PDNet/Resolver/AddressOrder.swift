/// The order in which the addresses of a host are tried (RFC 8305 §4).
public enum AddressOrder {
  /// The families in turn, each in the order given, so that a family that does not work costs one head start at most.
  /// - Parameter first: the family to begin with; nil for that of the first item, which is the one that the system's
  ///   resolver prefers by RFC 6724 (IPv6 wherever the host has a route for it).
  public static func interleaved<Item>(
    _ items: [Item], first: AddressFamily? = nil, family: (Item) -> AddressFamily
  ) -> [Item] {
    guard let lead = first ?? items.first.map(family) else { return [] }
    let ours = items.filter { family($0) == lead }
    let others = items.filter { family($0) != lead }
    var mixed: [Item] = []
    for index in 0..<max(ours.count, others.count) {
      if index < ours.count { mixed.append(ours[index]) }
      if index < others.count { mixed.append(others[index]) }
    }
    return mixed
  }

  /// A host's addresses with a port, in the order to try them.
  public static func endpoints(_ ips: [IPAddress], port: UInt16, first: AddressFamily? = nil) -> [Endpoint] {
    interleaved(ips, first: first) { $0.family }.map { Endpoint(ip: $0, port: port) }
  }
}

extension NetError {
  /// One failure for several attempts that all failed: it keeps each of them, and takes the code that says most about the
  /// peer (a refusal comes from the peer itself, a timeout from nobody).
  public init(_ what: String, attempts: [NetError]) {
    guard attempts.count != 1, let worst = attempts.min(by: { Self.rank($0.code) < Self.rank($1.code) }) else {
      let only = attempts.first
      self.init(
        only?.code ?? .unreachable, what, cause: only?.cause ?? "there is no address to try", attempts: attempts)
      return
    }
    self.init(worst.code, what, cause: "none of \(attempts.count) attempts succeeded", attempts: attempts)
  }

  private static func rank(_ code: Code) -> Int {
    let order: [Code] = [
      .wrongKey, .noProtocol, .notP2PD, .tls, .refused, .reset, .closed, .timeout, .unreachable, .permission,
    ]
    return order.firstIndex(of: code) ?? order.count
  }
}
