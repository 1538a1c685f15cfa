import P2PDNet

/// The order of preference.
enum Rank: Int, Comparable {
  case near, ipv6, ipv4, punched, relayed

  init(_ way: PathRace.Way) {
    switch (way.strategy, way.path) {
    case (.relay, _), (_, .relay): self = .relayed
    case (.punch, _): self = .punched
    case (_, .sameMachine), (_, .lan), (_, .linkLocal): self = .near
    case (_, .ipv6): self = .ipv6
    case (_, .ipv4): self = .ipv4
    }
  }

  static func < (a: Rank, b: Rank) -> Bool { a.rawValue < b.rawValue }
}

extension Rendezvous.Refusal {
  var code: NetError.Code {
    switch self {
    case .noProtocol: .noProtocol
    case .notAllowed: .permission
    case .busy: .limit
    case .off: .unsupported
    case .closing: .closed
    case .other: .io
    }
  }
}
