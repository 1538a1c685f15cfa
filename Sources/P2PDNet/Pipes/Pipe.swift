import NIOCore
import Synchronization

/// One way to talk: TCP or UDP, client or server, IPv4 or IPv6, plain or encrypted, one set of methods.
///
/// A message goes to every subscription that matches it, then to the first waiting ``receive(from:timeout:_:)``, else
/// to the sink (the callbacks), else to the inbox. Pipes it relays to get every message too.
///
/// Confined to its event loop: call every method there.
public final class Pipe: @unchecked Sendable {
  public let id: UInt64
  public let proto: PipeProto
  public let isServer: Bool
  public let loop: any EventLoop
  public let conf: PipeConf

  public internal(set) var family: AddressFamily?
  public internal(set) var localEndpoint: Endpoint?
  /// The other side of a connected pipe; nil for servers.
  public internal(set) var peer: Peer? {
    didSet { streamPeer = peer.map { Unmanaged.passUnretained($0) } }
  }
  /// ``peer``, to be handed out with each message without counting references: it is set before the first, and a move
  /// to another path keeps the one before.
  var streamPeer: Unmanaged<Peer>?
  var formerPeer: Peer?
  /// How the pipe is held to its interface; nil where it is not.
  public internal(set) var heldBy: InterfaceBinding.Hold?
  /// What TLS agreed on with ALPN.
  public internal(set) var negotiatedProtocol: String?

  /// Set by the layers above: the route it was opened on, the strategy and path that led here, the protocol spoken,
  /// the key the peer proved, and their own object for the pipe.
  public var route: Route?
  public var strategy = ""
  public var path = ""
  public var protocolName = ""
  public var peerKey: [UInt8] = []
  public var face: AnyObject?
  /// Why it stands on no better path, with what the attempts at one have met; nil where nobody has looked for one.
  public var whyNoBetter: NetError?

  /// Sees every message first; true means it has dealt with it and nobody else gets it.
  public var intercept: ((UnsafeRawBufferPointer, Pipe) -> Bool)?

  /// Looks on while somebody wants to see the pipe's messages; nil costs a message one branch.
  public var tap: (any PipeTap)?

  /// The receiver of messages and events. Strong: it goes when the pipe ends.
  public var sink: (any PipeSink)? {
    didSet { updateFastPath() }
  }

  /// True from opening to the end or the first `close`.
  public var isOpen: Bool { phase == .open }
  /// Fulfilled once, with the reason, when the pipe has ended.
  public var ended: EventLoopFuture<EndReason> { endedPromise.futureResult }
  /// Bytes that `close` could not get out in time.
  public internal(set) var lost = 0

  /// Whether messages go to the sink at all. False while it only listens for the pipe's events and messages are asked
  /// for with ``receive(from:timeout:_:)``.
  public var sinkTakesMessages = true {
    didSet {
      if sinkTakesMessages, !oldValue { ready(force: true) } else { updateFastPath() }
    }
  }

  enum Phase { case opening, open, closing, ended }
  var phase = Phase.opening
  var endReason: EndReason?
  let endedPromise: EventLoopPromise<EndReason>
  let transport: Transport
  let openedAt: NIODeadline
  var counters = PipeStats()

  // Receiving
  var decoder: FrameDecoder
  let isRaw: Bool
  /// Stream bytes not decoded yet: part of a message, or more messages than may wait.
  var undecoded = ByteBuffer()
  var inbox = MessageQueue()
  var waiters = CircularBuffer<ReceiveTicket>()
  var subscriptions: [Subscription] = []
  var sinkBusy = false
  /// A sink and nothing else: messages go straight through.
  var fastPath = false
  var isDecoding = false
  var isReading = false
  /// Set when the peer's side is over; the pipe ends when what came before has been handled.
  var inputEnd: EndReason?
  var duplicates: DuplicateFilter?
  var heard = false
  /// `receive` was called at least once: whoever did will ask again.
  var isAsked = false

  // Sending
  var outputClosed = false
  var writableWaiters = CircularBuffer<(NetError?) -> Void>()
  /// The descriptor is closed, while what was received may still be handed out.
  var transportIsGone = false
  /// More messages of the same read are about to be handled, so answers may be written together.
  var corked = false
  var closeTimer: Scheduled<Void>?

  // Relaying, children, keep-alive
  var relays: [Pipe] = []
  var relaysFull = 0
  /// The pipes that relay to this one.
  var feeders: [WeakPipe] = []
  var clients: [UInt64: Pipe] = [:]
  weak var server: Pipe?
  var lastSender: Peer?
  var keepAliveTimer: Scheduled<Void>?
  var missedPings = 0
  var pingSent: NIODeadline?

  init(proto: PipeProto, isServer: Bool, loop: any EventLoop, conf: PipeConf, transport: Transport) {
    id = Self.nextID.add(1, ordering: .relaxed).newValue
    self.proto = proto
    self.isServer = isServer
    self.loop = loop
    self.conf = conf
    self.transport = transport
    endedPromise = loop.makePromise()
    openedAt = loop.now
    let framing = proto == .udp ? Framing.raw : conf.framing
    isRaw = framing == .raw
    decoder = FrameDecoder(framing, limit: min(conf.maxMessage, framing.ceiling))
    if conf.enableMsgIDs { duplicates = DuplicateFilter(size: conf.maxMsgIDs) }
    localEndpoint = transport.localEndpoint
    family = localEndpoint?.ip.family
    heldBy = transport.heldBy
    negotiatedProtocol = (transport as? TLSTransport)?.negotiatedProtocol
    transport.owner = self
  }

  private static let nextID = Atomic<UInt64>(0)

  /// Counters, queue lengths, age and round trip at this moment.
  public func stats() -> PipeStats {
    var result = counters
    result.queued = inbox.count + subscriptions.reduce(0) { $0 + $1.queue.count }
    result.queuedBytes = queuedBytes
    result.unsent = transport.unsent
    result.age = loop.now - openedAt
    return result
  }

  /// The connections a TCP server has open now.
  public var acceptedPipes: [Pipe] { Array(clients.values) }

  /// The object that stands for a receiver on this pipe: the same as for a sender of that address.
  public func peer(for endpoint: Endpoint) -> Peer {
    if let peer, peer.endpoint == endpoint { return peer }
    return transport.peer(for: endpoint)
  }

  // MARK: Life

  /// The transport is connected (and TLS done).
  func opened() {
    guard phase == .opening else { return }
    phase = .open
    startKeepAlive()
    sink?.pipeOpened(self)
    updateReading()
  }

  func finish(_ reason: EndReason) {
    guard phase != .ended else { return }
    let wasOpening = phase == .opening
    phase = .ended
    endReason = reason
    closeTimer?.cancel()
    closeTimer = nil
    keepAliveTimer?.cancel()
    keepAliveTimer = nil
    server?.clients[id] = nil
    undecoded = ByteBuffer()
    let sink = self.sink
    failWaiters(reason)
    endRelays(reason)
    if !wasOpening { sink?.pipeEnded(self, reason: reason) }
    self.sink = nil
    endedPromise.succeed(reason)
  }
}

extension Pipe: TransportOwner {}
