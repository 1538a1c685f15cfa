import Crypto
import NIOCore

/// Which of the configured brokers this node listens at. Every node orders them by a hash of its key and the broker, so
/// that nodes with one list spread over it; it uses the first few and goes on to the next while too few are up. Stepped by
/// hand.
struct BrokerChoice {
  enum Event {
    case start
    case up(Broker)
    case down(Broker)
    case wake
  }

  enum Action: Equatable {
    case open(Broker)
    case close(Broker)
  }

  private struct Place {
    let broker: Broker
    var isUp = false
    var since: NIODeadline
    /// It is up, or may be any moment: until its first failure at the start, and for the grace after it was up.
    var isExpected = false
    var hasBeenUp = false
  }

  private let inUse: Int
  private let wanted: Int
  private var unused: [Broker]
  private var places: [Place] = []
  private var growAt: NIODeadline?

  init(_ brokers: [Broker], key: SignalKey, inUse: Int, wanted: Int) {
    var order: [(hash: [UInt8], broker: Broker)] = []
    for broker in brokers where !order.contains(where: { $0.broker == broker }) {
      order.append((Array(SHA256.hash(data: key.bytes + Array(broker.description.utf8))), broker))
    }
    unused = order.sorted { $0.hash.lexicographicallyPrecedes($1.hash) }.map(\.broker)
    self.inUse = max(1, inUse)
    self.wanted = max(1, wanted)
  }

  /// What an address names: brokers that are up, those that were and may be back any moment, and at the start those that
  /// were called first: an address that is handed on at once must lead here.
  func advertised(at now: NIODeadline) -> [Broker] {
    places.filter { $0.isUp || ($0.isExpected && now - $0.since < Self.grace) }.map(\.broker)
  }

  var active: [Broker] { places.map(\.broker) }

  var nextWake: NIODeadline? {
    let graces = places.filter { !$0.isUp && $0.isExpected }.map { $0.since + Self.grace }
    return (graces + [canGrow ? growAt : nil].compactMap { $0 }).min()
  }

  private var canGrow: Bool {
    !unused.isEmpty && places.filter(\.isUp).count < min(wanted, places.count + unused.count)
  }

  mutating func handle(_ event: Event, now: NIODeadline) -> [Action] {
    switch event {
    case .start:
      guard places.isEmpty else { return [] }
      places = unused.prefix(inUse).map { Place(broker: $0, since: now, isExpected: true) }
      unused.removeFirst(places.count)
      growAt = now + Self.patience
      return places.map { .open($0.broker) }
    case .up(let broker): note(broker, isUp: true, now)
    case .down(let broker):
      forgetUnproven(broker)
      note(broker, isUp: false, now)
    case .wake:
      for index in places.indices where !places[index].isUp && now - places[index].since >= Self.grace {
        places[index].isExpected = false
      }
    }
    return grow(now)
  }

  private mutating func forgetUnproven(_ broker: Broker) {
    guard let index = places.firstIndex(where: { $0.broker == broker }), !places[index].isUp, !places[index].hasBeenUp
    else { return }
    places[index].isExpected = false
  }

  private mutating func note(_ broker: Broker, isUp: Bool, _ now: NIODeadline) {
    guard let index = places.firstIndex(where: { $0.broker == broker }), places[index].isUp != isUp else { return }
    places[index].isUp = isUp
    places[index].since = now
    if isUp { (places[index].isExpected, places[index].hasBeenUp) = (true, true) }
    // Time for the others to come back before more are asked.
    if !isUp { growAt = now + Self.patience }
  }

  private mutating func grow(_ now: NIODeadline) -> [Action] {
    guard canGrow, let due = growAt, now >= due else { return [] }
    var actions: [Action] = []
    if places.count >= inUse + Self.extra,
      let worst = places.indices.filter({ !places[$0].isUp }).min(by: { places[$0].since < places[$1].since })
    {
      let gone = places.remove(at: worst).broker
      unused.append(gone)
      actions.append(.close(gone))
    }
    let next = unused.removeFirst()
    places.append(Place(broker: next, since: now))
    actions.append(.open(next))
    growAt = now + Self.patience
    return actions
  }

  /// How long too few brokers are borne before another one is asked.
  static let patience = TimeAmount.seconds(5)
  /// How long an address goes on naming a broker that went away: restarts take less.
  static let grace = TimeAmount.seconds(300)
  /// Brokers tried beside those in use before one of them is let go.
  private static let extra = 2
}
