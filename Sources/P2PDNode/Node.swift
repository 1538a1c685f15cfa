import Glibc
import Logging
import NIOCore
import NIOSSL
import P2PDNet
import P2PDSignaling
import P2PDTraversal

/// Asked for the receiver of each pipe of a hosted protocol. Calls come on the node's event loop.
public protocol NodeProtocol: AnyObject {
  /// A pipe of this protocol was accepted. Its sink, or nil to close it; the sink's `pipeOpened` follows.
  func nodePipe(_ pipe: Pipe) -> (any PipeSink)?
}

/// A running node: it has a key, listens, hosts protocols and connects to other nodes. All its pipes are encrypted,
/// their peers' keys proven (`pipe.peerKey`).
///
/// Confined to its event loop, except where a method is async. It lives until ``close(flush:)``.
public final class Node: @unchecked Sendable {
  public let identity: Identity
  public let loop: any EventLoop
  public let configuration: NodeConfiguration
  let logger: Logger

  /// The port it listens on.
  public let port: UInt16
  /// Its address as of now. A new one is made when the interfaces change, and when more is found out about what it looks
  /// like from outside and at which brokers it can be reached.
  public internal(set) var address: NodeAddress
  /// Called on the loop with each new address.
  public var addressChanged: ((NodeAddress) -> Void)?
  /// What was measured of the networks it sits in.
  public let knowledge: NetworkKnowledge
  /// How nodes it has no path to can tell it something; nil where it is offline.
  public let signalling: SignalingService?
  /// What keeps the node's port open in the routers before it; nil where nobody is to be asked.
  public internal(set) var portMapper: PortMapper?
  /// The last writing of what the mappings need for the next start.
  var keeping: EventLoopFuture<Void>?
  /// Asked before the node dials anything because a stranger wants it to; nil allows it.
  public var consent: Consent?

  let tls: NodeTLS
  /// With brokers and relays.
  let serverTLS: ServerTLS
  var acceptors: [Acceptor]
  var serverContext: NIOSSLContext
  var hosted: [String: any NodeProtocol] = [:]
  var clientContexts: [String: NIOSSLContext] = [:]
  var counter: AcceptCounter
  var refusals = RefusalLog()
  var entries: [UInt64: Entry] = [:]
  var connects: UInt64 = 0
  var connectors: [ObjectIdentifier: Connector] = [:]
  /// What it does for others who want to reach it.
  var responders: ResponderTable
  /// Streams it has opened for them, that were not nominated yet.
  var arrivals: [ObjectIdentifier: Arrival] = [:]
  /// For TLS with nodes that asked to be dialled.
  var reversing: NIOSSLContext?
  /// Of pipes over relays: what looks for better ways for them.
  var improvements: [SessionID: Improvement] = [:]
  /// Pipes over relays that other nodes may move.
  var relayed: [Responder.Session: RelayedPipe] = [:]
  /// The last relayed address could not be dialled: a firewall before this network lets out few ports.
  var isWalled = false
  /// Ports that are ready for punching holes.
  let punchPorts: PunchPorts
  var closing: EventLoopFuture<Void>?
  /// Says to other processes that the state folder's node is running.
  private var claim: StateFolder.Claim?
  let interfaceSource: any InterfaceSource
  /// The machine's interfaces and default routes as last read.
  public internal(set) var snapshot: NetworkSnapshot
  public var interfaces: [NetworkInterface] { snapshot.interfaces }
  /// What the address tells, or would if it fitted.
  var offered: (routes: [NodeRoute], servers: [SignalServer])
  var renewal: Scheduled<Void>?
  var settling: Settling?
  var contact = BrokerContact()
  let orientation: Orientation
  var signalTimes = SignalTimes()
  /// How often strangers are told its address.
  var askers: AskerLimits
  var routes: [IPAddress: Route] = [:]
  /// Its names, and what finds others'; from the first use on.
  var naming: Naming?

  struct Entry {
    let pipe: Pipe
    let stream: Transport
  }

  init(
    identity: Identity, tls: NodeTLS, acceptors: [Acceptor], snapshot: NetworkSnapshot,
    source: any InterfaceSource,
    claim: StateFolder.Claim?, configuration: NodeConfiguration, loop: any EventLoop, logger: Logger
  ) throws {
    self.identity = identity
    self.tls = tls
    self.acceptors = acceptors
    port = acceptors.first?.endpoint.port ?? 0
    self.snapshot = snapshot
    interfaceSource = source
    let routes = AddressComposer.routes(
      configuration.interfaces, port: port, listening: acceptors.map(\.endpoint.ip), on: snapshot.interfaces)
    address = try NodeAddress.fitting(by: identity, issued: Self.wallClock(), routes: routes, signalling: [])
    offered = (routes, [])
    let serverTLS = ServerTLS(caFile: configuration.caFile, on: loop)
    self.serverTLS = serverTLS
    knowledge = Self.makeKnowledge(configuration, serverTLS, on: loop)
    signalling = Self.makeSignalling(configuration, identity, serverTLS, logger, on: loop)
    self.claim = claim
    self.configuration = configuration
    self.loop = loop
    self.logger = logger
    counter = AcceptCounter(configuration.limits)
    responders = ResponderTable(at: loop.now)
    askers = AskerLimits(at: loop.now)
    punchPorts = PunchPorts(on: loop)
    orientation = Orientation(isNeeded: !configuration.offline && !configuration.servers.stun.isEmpty, on: loop)
    serverContext = try tls.server(hosting: [""])
  }

  /// Its end has begun.
  public var isClosing: Bool { closing != nil }

  /// See ``NodeKey``.
  public var id: String { identity.id }

  /// Hosts a protocol: from now on nodes that ask for this name get their pipes' sink from it. A name already hosted
  /// gets the new protocol; its open pipes keep their sinks. "" is the default protocol.
  /// Throws ``NetError`` `badAddress` for a name that is not 1 to 64 of `A-Z a-z 0-9 . _ -`.
  public func host(protocol name: String, sink: any NodeProtocol) throws {
    loop.assertInEventLoop()
    guard ALPN.isValid(name) else {
      throw NetError(
        .badAddress, "host the protocol \(name)", cause: "a name is 1 to 64 of the characters A-Z a-z 0-9 . _ -")
    }
    let isNew = hosted[name] == nil
    hosted[name] = sink
    if isNew { try renewServerContext() }
  }

  /// Takes a protocol away; its open pipes stay.
  public func unhost(protocol name: String) throws {
    loop.assertInEventLoop()
    if hosted.removeValue(forKey: name) != nil { try renewServerContext() }
  }

  /// Where it listens.
  public var listening: [Endpoint] { acceptors.map(\.endpoint) }

  /// The names hosted, in order; "" is the default protocol.
  public var protocols: [String] { hosted.keys.sorted() }

  /// The open pipes, accepted and connected, oldest first.
  public func pipes() -> [Pipe] {
    loop.assertInEventLoop()
    return entries.values.map(\.pipe).sorted { $0.id < $1.id }
  }

  private func renewServerContext() throws {
    // The default protocol is always there: every node echoes.
    serverContext = try tls.server(hosting: Array(Set(hosted.keys).union([""])))
  }

  // MARK: Pipes

  /// Makes a pipe of a stream that was chosen.
  /// - Parameter relayed: gets what lets the pipe move, where the stream is relayed.
  func pipe(
    of proof: HandshakeGate.Proof, by way: PathRace.Way, protocol name: String, conf: PipeConf,
    relayed: (RelayedPipe) -> Void, prepare: (Pipe) -> Void
  ) -> Pipe {
    func adopt(_ stream: Transport) -> Pipe {
      self.adopt(stream, proof.key, protocol: name, way: way, conf: conf, prepare: prepare)
    }
    guard way.strategy == .relay else { return adopt(proof.stream) }
    let moving = MovingTransport(over: proof.stream, on: loop)
    let pipe = adopt(moving)
    relayed(RelayedPipe(pipe, over: moving))
    return pipe
  }

  /// Makes a proven stream a pipe of this node.
  func adopt(
    _ stream: Transport, _ key: NodeKey, protocol name: String, way: PathRace.Way, conf: PipeConf,
    prepare: (Pipe) -> Void
  ) -> Pipe {
    var conf = conf
    conf.framing = .message
    conf.tls = nil
    conf.keepAlive = conf.keepAlive ?? configuration.keepAlive
    let pipe = Pipe.adopt(stream, conf: conf, sink: nil, on: loop) { pipe in
      pipe.strategy = way.strategy.rawValue
      pipe.path = way.path.rawValue
      pipe.protocolName = name
      pipe.peerKey = key.bytes
      pipe.route = pipe.localEndpoint.flatMap { self.route(at: $0.ip) }
      prepare(pipe)
    }
    entries[pipe.id] = Entry(pipe: pipe, stream: stream)
    let id = pipe.id
    pipe.ended.assumeIsolated().whenComplete { _ in self.entries[id] = nil }
    return pipe
  }

  /// The settings of a pipe where its opener gives none.
  var defaultConf: PipeConf {
    var conf = PipeConf()
    conf.maxMessage = configuration.maxMessage
    return conf
  }

  // MARK: Facts

  /// The route a pipe with this local address goes by.
  private func route(at ip: IPAddress) -> Route? {
    if let route = routes[ip] { return route }
    guard let interface = interfaces.first(where: { $0.addresses.contains { $0.ip.isSameHost(as: ip) } }) else {
      return nil
    }
    let route = Route(
      family: ip.family, interface: interface, nicIPs: ip.isLinkLocal ? [] : [ip],
      linkLocals: ip.isLinkLocal ? [ip] : [])
    routes[ip] = route
    return route
  }

  /// The machine's clock, in seconds since 1970.
  static func wallClock() -> UInt32 {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)  // clock: an address says when it was made
    return UInt32(clamping: now.tv_sec)
  }

  // MARK: The end

  /// Ends the node: no new pipes; each open pipe gets `flush` to send what is queued, then ends with reason `local`;
  /// listeners and connections are closed when this returns. May be called twice, from anywhere.
  public func close(flush: TimeAmount = .seconds(2)) async {
    try? await loop.flatSubmit { self.closed(flush: flush) }.get()
  }

  /// The same for callers on the loop.
  @discardableResult
  public func closed(flush: TimeAmount = .seconds(2)) -> EventLoopFuture<Void> {
    loop.assertInEventLoop()
    if let closing { return closing }
    let promise = loop.makePromise(of: Void.self)
    closing = promise.futureResult
    logger.debug("closing", metadata: ["pipes": "\(entries.count)"])
    for connector in Array(connectors.values) { connector.cancel() }
    for responder in responders.all { responder.cancel() }
    for arrival in Array(arrivals.values) { arrival.cut() }
    var ends = acceptors.map { $0.close() }
    for entry in Array(entries.values) {
      let gone = loop.makePromise(of: Void.self)
      entry.stream.whenGone { gone.succeed() }
      ends.append(gone.futureResult)
      entry.pipe.close(flush: flush)
    }
    acceptors = []
    claim = nil
    ends.append(interfaceSource.stop())
    ends.append(networkStopped())
    EventLoopFuture.whenAllComplete(ends, on: loop).map { _ in }.cascade(to: promise)
    return promise.futureResult
  }
}
