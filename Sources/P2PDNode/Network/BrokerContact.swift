import P2PDSignaling

/// What the node's brokers tell of the world outside, though nothing changed on this machine: one that was lost and is back
/// means that the way there was interrupted. A router that got another address drops its connections, but not all brokers
/// notice at once, so each counts for itself.
struct BrokerContact {
  enum Sign {
    case none
    /// The first one is there.
    case first
    /// One is back.
    case back
  }

  private var there: Set<Broker> = []
  private var lost: Set<Broker> = []

  /// - Parameter up: those that are there now.
  mutating func look(up: Set<Broker>) -> Sign {
    lost.formUnion(there.subtracting(up))
    let isBack = !lost.isDisjoint(with: up)
    let isFirst = there.isEmpty && lost.isEmpty && !up.isEmpty
    lost.subtract(up)
    there = up
    return isBack ? .back : isFirst ? .first : .none
  }
}
