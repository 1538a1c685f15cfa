import P2PDNet

/// With what a race begins.
public struct RacePlan: Sendable {
  /// What is wanted.
  public var strategies: Set<ConnectStrategy>
  public var direct: DirectPlan
  /// Why nothing can be arranged with the peer: this node is offline, the address names no broker. nil: it can.
  public var noSignalling: NetError?
  /// This side can be dialled from outside, as far as it knows: the peer's dials are worth waiting for.
  public var expectsReverse = false
  /// This side's router leaves little hope for a punch: the relay is opened together with the offer.
  public var opensRelayEarly = false
  /// There is a relayed pipe, and a better way is looked for.
  public var isRelayed: Bool

  public init(
    _ strategies: Set<ConnectStrategy>, _ direct: DirectPlan, noSignalling: NetError? = nil, isRelayed: Bool = false
  ) {
    self.strategies = isRelayed ? strategies.subtracting([.relay]) : strategies
    self.direct = direct
    self.noSignalling = noSignalling
    self.isRelayed = isRelayed
  }

  /// Those that need the peer to take part, in the order of preference.
  var signalled: [ConnectStrategy] { ConnectStrategy.allCases.filter { $0 != .direct && strategies.contains($0) } }
}
