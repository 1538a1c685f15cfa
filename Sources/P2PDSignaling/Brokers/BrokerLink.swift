// Why this is our own MQTT client and not libmosquitto:
// - Binding: a node with several interfaces signals over each of them. libmosquitto binds to a source address
//   (mosquitto_connect_bind), which holds no socket to an interface; our pipes do (SO_BINDTODEVICE, IP_UNICAST_IF).
// - Several brokers: each libmosquitto client has its own socket, timer (mosquitto_loop_misc) and lock, and resolves names
//   with a getaddrinfo that blocks its thread, so that a dead name server would stop every pipe or cost a thread a broker.
// - Latency and one event loop: its callbacks come on its thread, or its descriptor has to be watched beside our loop;
//   ours run where the pipes run. It also waits for CONNACK before it publishes; we do not (see MQTTSession).
// - TLS would be OpenSSL's beside the BoringSSL that every other pipe uses, with other roots and other settings.
// - Tests in memory and virtual time need a client that does no system calls of its own.
// The price is a codec of 3.1.1 without quality 2: about 250 lines and a fuzz target.

import Logging
import NIOCore
import P2PDNet

/// The connection to one broker, kept up until it is stopped: performs what ``MQTTSession`` decides on a pipe. Confined to
/// its loop.
final class BrokerLink: @unchecked Sendable {
  let broker: Broker
  let isForeign: Bool
  /// When it was last asked for something; a foreign link ends after a while without.
  var lastUse: NIODeadline
  private(set) var skipped = 0
  private let loop: any EventLoop
  private let conf: () -> EventLoopFuture<PipeConf>
  private let logger: Logger
  private weak var owner: (any BrokerLinkOwner)?
  private var session: MQTTSession
  private var reader = MQTTReader(limit: BrokerLink.longestPacket)
  private var pipe: Pipe?
  private var attempt = 0
  /// The connection that is being made.
  private var opening: OpenTicket?
  private var timer: Scheduled<Void>?
  private var timerAt: NIODeadline?
  private var completions: [UInt64: (Result<Void, NetError>) -> Void] = [:]
  private var nextToken: UInt64 = 0
  private var budget: TokenBucket
  private var isPaused = false

  init(
    _ broker: Broker, foreign: Bool, topics: [String], clientID: String,
    conf: @escaping () -> EventLoopFuture<PipeConf>,
    settings: SignalingConf, logger: Logger, on loop: any EventLoop, owner: any BrokerLinkOwner
  ) {
    self.broker = broker
    self.isForeign = foreign
    self.loop = loop
    self.conf = conf
    self.logger = logger
    self.owner = owner
    lastUse = loop.now
    budget = TokenBucket(
      rate: Double(settings.bytesPerSecond), burst: Double(settings.bytesPerSecond) / 4, at: loop.now)
    var session = MQTTSession.Settings(
      name: broker.description,
      connect: MQTTConnect(
        clientID: clientID, keepAlive: UInt16(clamping: settings.pingEvery.nanoseconds / 1_000_000_000 * 3),
        user: broker.user, password: broker.password.map { Array($0.utf8) }),
      topics: topics)
    session.pingEvery = settings.pingEvery
    session.answerTimeout = settings.brokerTimeout
    session.firstRetry = settings.firstRetry
    session.longestRetry = settings.longestRetry
    self.session = MQTTSession(session) { Double.random(in: 0..<1) }
  }

  var isUp: Bool { session.phase == .up }
  var isIdle: Bool { session.pending == 0 }
  var roundTrip: RoundTrip? { session.roundTrip }

  var status: BrokerStatus {
    let state: BrokerStatus.State =
      switch session.phase {
      case .up: .up
      case .idle, .connecting, .greeting, .joining: .connecting
      case .waiting, .stopped: .down
      }
    return BrokerStatus(
      broker: broker, state: state, roundTrip: session.roundTrip, error: session.lastError, isForeign: isForeign,
      skipped: skipped)
  }

  func start() { handle(.start) }

  func networkChanged(_ addresses: [IPAddress]) {
    if let local = pipe?.localEndpoint?.ip, !addresses.contains(where: { $0.unmapped == local.unmapped }) {
      // Nothing arrives there any more, and the kernel would not say so for a long time.
      close()
      handle(
        .closed(NetError(.closed, "use the broker \(broker)", cause: "this machine has no longer the address \(local)"))
      )
    }
    handle(.networkChanged)
  }

  /// Publishes at quality 1; `answer` comes once: when the broker has confirmed it, or with why it did not.
  func publish(
    _ payload: [UInt8], topic: String, expires: NIODeadline, _ answer: @escaping (Result<Void, NetError>) -> Void
  ) {
    lastUse = loop.now
    nextToken &+= 1
    completions[nextToken] = answer
    handle(.publish(.init(token: nextToken, topic: topic, payload: payload, qos: 1, expires: expires)))
  }

  /// Says goodbye, and gives the connection a moment to get it out.
  func stop() -> EventLoopFuture<Void> {
    let pipe = self.pipe
    handle(.stop)
    timer?.cancel()
    timer = nil
    guard let pipe else { return loop.makeSucceededVoidFuture() }
    return pipe.ended.map { _ in }
  }

  // MARK: Driving

  private func handle(_ event: MQTTSession.Event) {
    let actions = session.handle(event, now: loop.now)
    for action in actions { perform(action) }
    arm()
  }

  private func perform(_ action: MQTTSession.Action) {
    switch action {
    case .connect: connect()
    case .send(let packets): send(packets)
    case .close: close()
    case .deliver(let publish): owner?.link(self, received: publish)
    case .done(let token, let result): completions.removeValue(forKey: token)?(result)
    case .up:
      logger.info("broker is up", metadata: ["broker": "\(broker)"])
      owner?.linkChanged(self)
    case .down(let error):
      logger.notice("broker is down", metadata: ["broker": "\(broker)", "why": "\(error)"])
      owner?.linkChanged(self)
    }
  }

  private func arm() {
    let next = session.nextWake
    guard next != timerAt || timer == nil else { return }
    timer?.cancel()
    timer = nil
    timerAt = next
    guard let next else { return }
    timer = loop.assumeIsolated().scheduleTask(deadline: next) { [weak self] in
      self?.timerAt = nil
      self?.timer = nil
      self?.handle(.wake)
    }
  }

  private func connect() {
    attempt += 1
    let this = attempt
    let (loop, destination) = (loop, broker.destination)
    let ticket = OpenTicket()
    opening = ticket
    let opened = conf().flatMap { PipeOpener.open(.tcp, to: destination, conf: $0, ticket: ticket, on: loop) }
    opened.assumeIsolated().whenComplete { result in
      guard this == self.attempt, self.session.phase == .connecting else {
        if case .success(let late) = result { late.close(flush: .zero) }
        return
      }
      switch result {
      case .failure(let error): self.handle(.closed(NetError(error, "connect to \(self.broker)")))
      case .success(let pipe):
        self.pipe = pipe
        self.reader = MQTTReader(limit: Self.longestPacket)
        pipe.sink = self
        self.handle(.opened)
      }
    }
  }

  private func send(_ packets: [MQTTPacket]) {
    guard let pipe else { return }
    // One write for what belongs together.
    let bytes = packets.flatMap { MQTTCodec.encode($0) }
    if case .failed(let error) = bytes.withUnsafeBytes({ pipe.send($0) }) {
      logger.debug("broker does not take a message", metadata: ["broker": "\(broker)", "why": "\(error)"])
    }
  }

  private func close() {
    attempt += 1
    opening?.cancel()
    opening = nil
    guard let pipe else { return }
    self.pipe = nil
    pipe.sink = nil
    resume(pipe)
    pipe.close(flush: Self.goodbye)
  }

  // MARK: Flood

  /// Reads no faster than its budget: what a stranger pours onto the topic then waits at the broker, which drops it.
  private func spend(_ bytes: Int, _ pipe: Pipe) {
    let wait = budget.spend(Double(bytes), at: loop.now)
    guard wait > .nanoseconds(0), !isPaused else { return }
    isPaused = true
    pipe.pause()
    loop.assumeIsolated().scheduleTask(in: wait) { [weak self, weak pipe] in
      guard let pipe else { return }
      self?.resume(pipe)
    }
  }

  private func resume(_ pipe: Pipe) {
    guard isPaused else { return }
    isPaused = false
    pipe.resume()
  }

  /// The longest packet read: a sealed message, its topic and headers.
  private static let longestPacket = Gate.longest + 256
  private static let goodbye = TimeAmount.seconds(1)
}

extension BrokerLink: PipeSink {
  func pipe(_ pipe: Pipe, message: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    guard pipe === self.pipe else { return true }
    do throws(MQTTError) {
      let before = reader.skipped
      var cost = 0
      try reader.feed(message) { packet, size in
        cost += Self.perPacket
        // An earlier packet may have ended the connection.
        if pipe === self.pipe { self.handle(.packet(packet)) }
      }
      skipped += reader.skipped - before
      spend(message.count + cost, pipe)
    } catch {
      close()
      handle(.closed(NetError(.io, "use the broker \(broker)", cause: "it does not speak MQTT 3.1.1: \(error)")))
    }
    return true
  }

  func pipeEnded(_ pipe: Pipe, reason: EndReason) {
    guard pipe === self.pipe else { return }
    self.pipe = nil
    isPaused = false
    let error: NetError =
      if case .error(let error) = reason {
        error
      } else {
        NetError(.closed, "use the broker \(broker)", cause: "the connection ended: \(reason.code)")
      }
    handle(.closed(error))
  }

  /// What a packet costs beside its bytes, in bytes: decoding and unsealing weigh about as much as reading so many.
  private static let perPacket = 400
}

/// Who hears of a link.
protocol BrokerLinkOwner: AnyObject {
  func link(_ link: BrokerLink, received publish: MQTTPublish)
  /// Up or down.
  func linkChanged(_ link: BrokerLink)
}

extension Broker {
  var destination: Destination {
    if let ip = IPAddress(host) { return .endpoint(Endpoint(ip: ip, port: port)) }
    return .host(host, port)
  }
}
