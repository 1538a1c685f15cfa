import NIOCore
import P2PDNames
import P2PDNet
import P2PDTraversal

/// Names instead of addresses: `example.peer`.
extension Node {
  /// Registers a name for this node and keeps it: renewed before half of its life is over, changed soon after the node's
  /// address changes, announced on the local network. At the end of the node the local network is told; at the servers the
  /// name stays until it expires (7 days) or is deleted, unless the node's key is of this run only and ends with it.
  ///
  /// - Parameter name: `example`, which is one of the default set (`example.peer`) or, where no name servers are
  ///   configured, of the local network alone (`example.local`); or in full.
  /// - Returns: the name in full, once a majority of the servers has it.
  /// - Throws: ``NetError``. `badName`, `taken` (another key has it), `unsupported` (no servers for its ending, offline),
  ///   `limit`. `noQuorum`, `unreachable`: too few servers; the node goes on trying, and the local network knows the name.
  public func nickname(_ name: String) -> EventLoopFuture<String> {
    loop.assertInEventLoop()
    guard closing == nil else {
      return loop.makeFailedFuture(NetError(.closed, "take the name \(name)", cause: "the node is closed"))
    }
    return names.nicknames.take(name)
  }

  /// The names it has, and what is wrong with each.
  public var nicknames: [(name: PeerName, problem: NetError?)] { naming?.nicknames.all ?? [] }

  /// Gives a name up: from now on whoever asks for it hears that it was deleted. Only the key that has a name can.
  /// - Throws: ``NetError``. `taken`: it is another key's. `notFound`, `noQuorum`, `unreachable`, `badName`.
  public func deleteName(_ text: String) -> EventLoopFuture<Void> {
    loop.assertInEventLoop()
    do throws(NetError) {
      let hasServers = names.service.servers.knows(PeerName.defaultTLD)
      return names.nicknames.delete(try PeerName(text, tld: hasServers ? PeerName.defaultTLD : PeerName.localTLD))
    } catch {
      return loop.makeFailedFuture(error)
    }
  }

  /// See ``NameService/lookup(_:all:timeout:)``.
  public func lookup(_ name: String, all: Bool = false) -> EventLoopFuture<NameReport> {
    names.service.lookup(name, all: all)
  }

  /// Opens a pipe to the node of a name, as ``connect(_:protocol:sink:timeout:strategies:conf:watch:)`` does to that of an
  /// address. An address that may be old is dialled at once, and the node is asked for its present one beside that. The
  /// name's key is remembered at its first use.
  /// - Throws: as that, and what the lookup met. `keyChanged`: the name has another key than at its first use.
  public func connect(
    name: String, protocol protocolName: String = "", sink: (any PipeSink)? = nil,
    timeout: TimeAmount = Node.connectTimeout, strategies: [ConnectStrategy] = ConnectStrategy.allCases,
    conf: PipeConf? = nil, watch: (@Sendable (String) -> Void)? = nil
  ) async throws -> Pipe {
    let held = HeldSink(sink)
    return try await loop.flatSubmit {
      self.connecting(
        name: name, protocol: protocolName, sink: held.sink, timeout: timeout, strategies: strategies, conf: conf,
        watch: watch
      ).pipe
    }.get()
  }

  /// The same for callers on the loop. `cancel` gives it up: the future fails with `cancelled`.
  public func connecting(
    name: String, protocol protocolName: String = "", sink: (any PipeSink)? = nil,
    timeout: TimeAmount = Node.connectTimeout, strategies: [ConnectStrategy] = ConnectStrategy.allCases,
    conf: PipeConf? = nil, watch: ((String) -> Void)? = nil
  ) -> (pipe: EventLoopFuture<Pipe>, cancel: () -> Void) {
    loop.assertInEventLoop()
    let attempt = NamedConnect(name, until: loop.now + timeout, of: self)
    var wish = FreshConnect.Wish()
    (wish.protocolName, wish.sink, wish.strategies) = (protocolName, sink, strategies)
    (wish.conf, wish.watch) = (conf, watch)
    return (attempt.start(wish, names.service), { attempt.cancel() })
  }

  /// Made at the first use: most nodes have nothing to do with names.
  private var names: Naming {
    if let naming { return naming }
    let made = Naming(self)
    naming = made
    if closing != nil { made.close() }
    return made
  }
}

/// A node's share in names. Confined to its loop.
final class Naming: @unchecked Sendable {
  let service: NameService
  let nicknames: Nicknames
  private let loop: any EventLoop
  private let identity: Identity
  private let isEphemeral: Bool
  private var isClosed = false

  init(_ node: Node) {
    (loop, identity, isEphemeral) = (node.loop, node.identity, node.configuration.ephemeral)
    service = NameService(node.configuration, on: node.loop, logger: node.logger)
    nicknames = Nicknames(node, service)
  }

  /// Done when the local network was told that the names are gone. A key that nobody has any more gives its names up at
  /// the servers too: nobody could renew them, or take them, for a week.
  @discardableResult
  func close() -> EventLoopFuture<Void> {
    let names = nicknames.close()
    guard isEphemeral, !names.isEmpty, !isClosed else {
      isClosed = true
      return service.close()
    }
    isClosed = true
    let given = loop.makePromise(of: Void.self)
    let timer = loop.assumeIsolated().scheduleTask(in: Self.patience) { given.succeed() }
    EventLoopFuture.andAllComplete(names.map { service.servers.delete($0, as: identity) }, on: loop)
      .assumeIsolated().whenComplete { _ in
        timer.cancel()
        given.succeed()
      }
    return given.futureResult.flatMap { self.service.close() }
  }

  /// Servers answer within a round trip or two, and an end is not to be waited for.
  private static let patience = TimeAmount.milliseconds(1500)
}

/// One connect by name: the lookup, then the race. Confined to the node's loop.
private final class NamedConnect: @unchecked Sendable {
  private let name: String
  private let deadline: NIODeadline
  private let node: Node
  private let promise: EventLoopPromise<Pipe>
  private var connect: FreshConnect?
  private var isOver = false

  init(_ name: String, until deadline: NIODeadline, of node: Node) {
    self.name = name
    self.deadline = deadline
    self.node = node
    promise = node.loop.makePromise()
  }

  func start(_ wish: FreshConnect.Wish, _ service: NameService) -> EventLoopFuture<Pipe> {
    let left = max(.milliseconds(1), deadline - node.loop.now)
    service.lookup(name, timeout: min(left, NameService.timeout)).assumeIsolated().flatMapThrowing { report in
      let found = try report.result.get()
      wish.watch?("\(report.name) is node \(NodeKey(bytes: found.key)?.short ?? ""), says \(found.source.words)")
      return found
    }.nonisolated().flatMap { service.use($0) }.assumeIsolated().whenComplete { result in
      guard !self.isOver else { return }
      do {
        let found = try result.get()
        let address: NodeAddress
        do throws(NodeAddressError) { address = try NodeAddress(found.address) } catch { throw error.netError }
        self.connect(to: address, isFresh: found.source == .lan, wish)
      } catch {
        self.finish(.failure(NetError(error, "find \(self.name)")))
      }
    }
    return promise.futureResult
  }

  private func connect(to address: NodeAddress, isFresh: Bool, _ wish: FreshConnect.Wish) {
    let connect = FreshConnect(address, isFresh: isFresh, deadline: deadline, wish, of: node)
    self.connect = connect
    connect.start().assumeIsolated().whenComplete {
      self.finish($0.mapError { NetError($0, "connect to \(self.name)") })
    }
  }

  func cancel() {
    if let connect { return connect.cancel() }
    finish(.failure(NetError(.cancelled, "connect to \(name)", cause: "it was called off")))
  }

  private func finish(_ result: Result<Pipe, NetError>) {
    guard !isOver else { return }
    isOver = true
    promise.completeWith(result.mapError { $0 as any Error })
  }
}

/// Carries a loop-confined sink to its loop.
private struct HeldSink: @unchecked Sendable {
  let sink: (any PipeSink)?
  init(_ sink: (any PipeSink)?) { self.sink = sink }
}
