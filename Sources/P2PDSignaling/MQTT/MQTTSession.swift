import NIOCore
import P2PDNet

/// What to do next on the way to and with one broker, step by step: connect, subscribe, publish, ping, wait, try again. It
/// owns no socket and no clock; ``BrokerLink`` performs its actions and tells it what happened.
///
/// CONNECT, SUBSCRIBE and what waits to be published leave together: §3.1.4 lets a client go on without waiting for
/// CONNACK, which saves a round trip each time a broker of somebody else is spoken to. If the broker refuses, nothing is
/// lost: what has no PUBACK yet is published again on the next connection.
struct MQTTSession {
  enum Event {
    case start
    /// The pipe is open (TLS done).
    case opened
    /// No pipe could be opened, or it ended.
    case closed(NetError)
    case packet(MQTTPacket)
    case publish(Outgoing)
    case wake
    /// The machine's network is another one now: whatever was given up may work.
    case networkChanged
    case stop
  }

  enum Action {
    case connect
    case send([MQTTPacket])
    /// Closes the pipe once what was sent is out.
    case close
    case deliver(MQTTPublish)
    case done(token: UInt64, Result<Void, NetError>)
    case up
    case down(NetError)
  }

  /// A message to publish.
  struct Outgoing {
    let token: UInt64
    let topic: String
    let payload: [UInt8]
    let qos: UInt8
    /// It is worth nothing any more after this.
    let expires: NIODeadline
  }

  struct Settings {
    var name: String
    var connect: MQTTConnect
    var topics: [String]
    var subscribeQoS: UInt8 = 0
    var pingEvery: TimeAmount = .seconds(25)
    var answerTimeout: TimeAmount = .seconds(10)
    var firstRetry: TimeAmount = .milliseconds(500)
    var longestRetry: TimeAmount = .seconds(60)
  }

  /// `greeting`: CONNACK is to come; `joining`: SUBACK is.
  enum Phase: Equatable { case idle, connecting, greeting, joining, up, waiting, stopped }

  let settings: Settings
  private(set) var phase = Phase.idle
  private(set) var roundTrip: RoundTrip?
  /// Why it is not up; nil while it never was down.
  private(set) var lastError: NetError?
  var queue: CircularBuffer<Outgoing> = []
  /// `sent` only where PUBACK will measure the way: what leaves with the greeting waits for the log-in too.
  var inFlight: [(id: UInt16, message: Outgoing, sent: NIODeadline?)] = []
  private var backoff: Backoff
  private var chance: () -> Double
  var nextID: UInt16 = 0
  private var subscribing: UInt16?
  private var pingSent: NIODeadline?
  /// Something came from the broker since the last ping.
  private var heard = false
  private var greetingEnds: NIODeadline?
  private var nextPing: NIODeadline?
  private var retryAt: NIODeadline?
  private var upSince: NIODeadline?
  private var earlyPings = 0
  var actions: [Action] = []

  /// - Parameter chance: evenly from 0 up to 1, anew at each call.
  init(_ settings: Settings, chance: @escaping () -> Double) {
    self.settings = settings
    self.chance = chance
    backoff = Backoff(first: settings.firstRetry, longest: settings.longestRetry)
  }

  private var isConnected: Bool { phase == .greeting || phase == .joining || phase == .up }

  /// Messages that wait or have not been acknowledged.
  var pending: Int { queue.count + inFlight.count }

  /// When to send ``Event/wake`` if nothing happens before.
  var nextWake: NIODeadline? {
    var times: [NIODeadline] = []
    switch phase {
    case .greeting, .joining: if let greetingEnds { times.append(greetingEnds) }
    case .up:
      if let pingSent { times.append(pingSent + settings.answerTimeout) }
      if pingSent == nil, let nextPing { times.append(nextPing) }
    case .waiting: if let retryAt { times.append(retryAt) }
    case .idle, .connecting, .stopped: break
    }
    if phase != .stopped {
      times += inFlight.map(\.message.expires)
      if let first = queue.lazy.map(\.expires).min() { times.append(first) }
    }
    return times.min()
  }

  mutating func handle(_ event: Event, now: NIODeadline) -> [Action] {
    actions = []
    switch event {
    case .start: if phase == .idle { connect() }
    case .opened: if phase == .connecting { greet(now) }
    case .closed(let error): lost(error, now)
    case .packet(let packet): if isConnected { received(packet, now) }
    case .publish(let message): publish(message, now)
    case .wake: wake(now)
    case .networkChanged:
      backoff.reset()
      if phase == .waiting { connect() }
      // An old connection may be dead without knowing it.
      if phase == .up, pingSent == nil { ping(now) }
    case .stop: stop()
    }
    return actions
  }

  // MARK: Connecting

  mutating func connect() {
    phase = .connecting
    retryAt = nil
    actions.append(.connect)
  }

  private mutating func greet(_ now: NIODeadline) {
    phase = .greeting
    greetingEnds = now + settings.answerTimeout
    earlyPings = 0
    var packets: [MQTTPacket] = [.connect(settings.connect)]
    if !settings.topics.isEmpty {
      let id = makeID()
      subscribing = id
      packets.append(
        .subscribe(id: id, filters: settings.topics.map { MQTTFilter(topic: $0, qos: settings.subscribeQoS) }))
    }
    actions.append(.send(packets))
    flush(now)
  }

  /// Up is: greeted, and subscribed where there is something to subscribe to.
  private mutating func becameUp(_ now: NIODeadline) {
    guard phase == .greeting || phase == .joining else { return }
    phase = .up
    greetingEnds = nil
    upSince = now
    lastError = nil
    nextPing = now + Self.earlyPing
    actions.append(.up)
  }

  private mutating func lost(_ error: NetError, _ now: NIODeadline) {
    guard phase != .stopped, phase != .waiting, phase != .idle else { return }
    if let upSince, now - upSince >= Self.steady { backoff.reset() }
    if phase == .up || lastError == nil { actions.append(.down(error)) }
    lastError = error
    phase = .waiting
    upSince = nil
    greetingEnds = nil
    pingSent = nil
    nextPing = nil
    subscribing = nil
    // A clean session has forgotten them: they go out again as new ones, in their order.
    for entry in inFlight.reversed() { queue.prepend(entry.message) }
    inFlight = []
    retryAt = now + backoff.next(chance: chance())
    expire(now)
  }

  /// The broker broke a rule or fell silent: this side ends it.
  mutating func fail(_ error: NetError, _ now: NIODeadline) {
    actions.append(.close)
    lost(error, now)
  }

  private mutating func stop() {
    guard phase != .stopped else { return }
    if isConnected { actions.append(.send([.disconnect])) }
    actions.append(.close)
    phase = .stopped
    let error = NetError(.cancelled, "publish at \(settings.name)", cause: "signalling was stopped")
    for message in inFlight.map(\.message) + queue { actions.append(.done(token: message.token, .failure(error))) }
    inFlight = []
    queue = []
  }

  // MARK: Packets

  private mutating func received(_ packet: MQTTPacket, _ now: NIODeadline) {
    heard = true
    if phase == .greeting {
      // §3.2: CONNACK is the first thing a broker says.
      guard case .connack(_, let code) = packet else {
        return fail(error(.io, "the broker spoke before it greeted"), now)
      }
      return greeted(code, now)
    }
    switch packet {
    case .publish(let publish):
      if let id = publish.id { actions.append(.send([.puback(id: id)])) }
      actions.append(.deliver(publish))
    case .puback(let id):
      guard let index = inFlight.firstIndex(where: { $0.id == id }) else { return }
      let entry = inFlight.remove(at: index)
      if let sent = entry.sent { measured(now - sent) }
      actions.append(.done(token: entry.message.token, .success(())))
      flush(now)
    case .suback(let id, let codes):
      guard subscribing == id else { return }
      subscribing = nil
      guard codes.count == settings.topics.count, codes.allSatisfy({ $0 != 0x80 }) else {
        backoff.giveUp()
        return fail(error(.permission, "the broker refuses to let this node listen"), now)
      }
      becameUp(now)
    case .pingresp:
      if let sent = pingSent { measured(now - sent) }
      pingSent = nil
    case .unsuback: break
    case .connack, .connect, .subscribe, .unsubscribe, .pingreq, .disconnect:
      fail(error(.io, "the broker sent what only a client may send, or greeted twice"), now)
    }
  }

  private mutating func greeted(_ code: UInt8, _ now: NIODeadline) {
    guard code == 0 else {
      if MQTTRefusal.isLasting(code) { backoff.giveUp() }
      return fail(error(code == 4 || code == 5 ? .permission : .refused, MQTTRefusal.words(code)), now)
    }
    if settings.topics.isEmpty { becameUp(now) } else { phase = .joining }
  }

  mutating func measured(_ sample: TimeAmount) {
    if roundTrip == nil { roundTrip = RoundTrip(first: sample) } else { roundTrip?.add(sample) }
  }

  func error(_ code: NetError.Code, _ cause: String) -> NetError {
    NetError(code, "use the broker \(settings.name)", cause: cause)
  }

  // MARK: Time

  private mutating func wake(_ now: NIODeadline) {
    expire(now)
    switch phase {
    case .waiting: if let retryAt, now >= retryAt { connect() }
    case .greeting, .joining:
      guard let greetingEnds, now >= greetingEnds else { return }
      let cause =
        phase == .greeting ? "the broker does not greet" : "the broker does not say whether this node may listen"
      fail(error(.timeout, cause), now)
    case .up:
      if let sent = pingSent {
        guard now >= sent + settings.answerTimeout else { return }
        // A flood delays the answer; a dead connection brings nothing at all.
        if heard { pingSent = nil } else { return fail(error(.timeout, "the broker is silent"), now) }
      }
      if pingSent == nil, let nextPing, now >= nextPing { ping(now) }
    case .idle, .connecting, .stopped: break
    }
  }

  private mutating func ping(_ now: NIODeadline) {
    pingSent = now
    heard = false
    // The first few come soon, so that the round trip is known before somebody needs it.
    earlyPings += 1
    nextPing = now + (earlyPings < Self.earlyPings ? Self.earlyPing : settings.pingEvery)
    actions.append(.send([.pingreq]))
  }

  /// Up for so long, a connection counts as good: the next failure begins with the shortest wait again.
  private static let steady = TimeAmount.seconds(30)
  private static let earlyPing = TimeAmount.seconds(1)
  private static let earlyPings = 3
}
