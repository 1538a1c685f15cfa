import LuaVM
import NIOCore
import P2PDNet
import P2PDNode

/// The object behind a script's `node`: one it started, or the one that hosts it.
final class NodeFace: CallbackHolder {
  unowned let host: ScriptHost
  let node: Node
  let generation: Generation
  /// Whether closing it is the script's business.
  let isOwn: Bool
  private(set) var isClosed = false
  let book: NodeBook

  init(_ node: Node, generation: Generation, isOwn: Bool, book: NodeBook = NodeBook()) {
    self.node = node
    self.generation = generation
    self.isOwn = isOwn
    self.book = book
    host = generation.host
    if isOwn { generation.add(self) }
  }

  var openPipes: [PipeFace] { book.pipes.values.sorted { $0.pipe.id < $1.pipe.id } }

  /// Hosts a protocol with these callbacks. What an earlier generation hosted under the name is taken over, with its
  /// open pipes.
  func host(_ name: String, _ handlers: HandlerSet) throws {
    if let hosting = book.hostings[name], hosting.slot.current.generation !== generation {
      return hosting.slot.swap(to: handlers, draining: generation.drains)
    }
    try host(name, HandlerSlot(handlers))
  }

  /// Hosts a protocol whose callbacks the slot tells.
  func host(_ name: String, _ slot: HandlerSlot) throws {
    let hosting = ProtocolHosting(slot: slot, book: book)
    try node.host(protocol: name, sink: hosting)
    book.hostings[name] = hosting
  }

  /// Takes a protocol away; its open pipes are ended, with words for the other side.
  func unhost(_ name: String, because reason: String) {
    guard let hosting = book.hostings.removeValue(forKey: name) else { return }
    try? node.unhost(protocol: name)
    for face in hosting.slot.pipes.values { face.pipe.close(.closed, saying: reason) }
  }

  /// The callbacks of the default protocol, hosted when the first is added.
  func defaultHandlers() throws -> HandlerSet {
    if let current = book.hostings[""]?.slot.current {
      if current.generation === generation { return current }
      // Callbacks of code that has been replaced serve nobody.
      if current.generation.phase == .live, generation.phase != .live { return HandlerSet(generation) }
    }
    let handlers = HandlerSet(generation)
    try host("", handlers)
    return handlers
  }

  var callbackSets: [HandlerSet] { book.hostings[""].map { [$0.slot.current] } ?? [] }
  func callbacksChanged() { for face in book.pipes.values { face.updateMode() } }

  @discardableResult
  func close(flush: TimeAmount) -> EventLoopFuture<Void> {
    isClosed = true
    generation.remove(self)
    return node.closed(flush: flush)
  }
}

/// What one protocol has to do with one node. It stays when the generation goes.
final class NodeBook {
  /// The open pipes a script has a hand in.
  private(set) var pipes: [UInt64: PipeFace] = [:]
  /// What is hosted, the default protocol under "".
  var hostings: [String: ProtocolHosting] = [:]

  func took(_ face: PipeFace) {
    pipes[face.pipe.id] = face
    face.onEnd = { [weak self] in self?.pipes[$0.pipe.id] = nil }
  }
}

/// One protocol of one node, as a script hosts it.
final class ProtocolHosting: NodeProtocol {
  let slot: HandlerSlot
  private let book: NodeBook

  init(slot: HandlerSlot, book: NodeBook) {
    self.slot = slot
    self.book = book
  }

  func nodePipe(_ pipe: Pipe) -> (any PipeSink)? {
    let generation = slot.current.generation
    guard generation.phase == .live || generation.phase == .leaving, generation.takesPipes else { return nil }
    let face = PipeFace(pipe, slot: slot)
    book.took(face)
    return face.host.wrapSink?(face) ?? face
  }
}

extension ScriptHost {
  /// `p2pd.node([options])`
  func startNode(_ call: borrowing LuaCall) throws -> LuaReturn {
    let generation = try owner(call)
    try refuseAtTopLevel("node", call)
    if call.isNone(1), let hosting = generation.hostingNode { return .object(hosting) }
    let options = try call.options(1, 1, "node", API.nodeOptions)
    let configuration = try configuration(options)
    guard call.canWait else { return .wait }
    if let execution, execution.generation === generation { execution.tellServers(of: configuration) }
    let handlers = HandlerSet(generation, options)
    let waiter = wait(call.wait)
    let (loop, logger) = (self.loop, generation.logger)
    loop.run { try await Node.start(configuration, on: loop, logger: logger) }.assumeIsolated().whenComplete { result in
      switch result {
      case .failure(let error): self.finish(waiter, failing: NetError(error, "start a node"))
      case .success(let node) where self.isClosed: node.closed(flush: .zero)
      case .success(let node): self.whenIdle { self.nodeStarted(node, handlers, generation, waiter) }
      }
    }
    return .wait
  }

  /// Asks a script's `accept_cb` whether the node may dial what a stranger names; without one it may.
  func consent(_ handlers: HandlerSet?, _ key: NodeKey, _ info: ConsentInfo) -> EventLoopFuture<Bool> {
    guard let handlers, let accept = handlers.accept else { return loop.makeSucceededFuture(true) }
    let answer = ConsentAnswer(loop)
    let told = LuaValue.table([
      (.string("protocol"), .string(info.protocolName)),
      (.string("strategies"), .list(info.strategies.map { .string($0) })),
      (.string("addresses"), .list(info.addresses.map { .string($0.description) })),
    ])
    let arguments = [LuaValue.string(key.description), told]
    startCallback(
      accept, arguments: arguments, generation: handlers.generation, place: "accept_cb",
      answer: { values in
        switch values?.first {
        case nil, .nil?, .bool(false)?: answer.give(false)
        default: answer.give(true)
        }
      })
    return answer.future
  }

  private func nodeStarted(_ node: Node, _ handlers: HandlerSet, _ generation: Generation, _ waiter: Waiter) {
    guard waiter.isWaiting, generation.phase == .live else { return _ = node.closed(flush: .zero) }
    let face = NodeFace(node, generation: generation, isOwn: true)
    // Held here: a node may have an `accept_cb` and no other callback.
    node.consent = { [weak self] key, info in
      self?.consent(handlers, key, info) ?? node.loop.makeSucceededFuture(false)
    }
    do {
      if !handlers.isEmpty { try face.host("", handlers) }
      waiter.finish([.object(face)])
    } catch {
      face.close(flush: .zero)
      finish(waiter, failing: NetError(error, "start a node"))
    }
  }

  private func configuration(_ options: OptionReader) throws -> NodeConfiguration {
    var configuration = self.options.nodeDefaults
    let folder = options.string("state_dir")
    configuration.ephemeral = options.bool("ephemeral") ?? (folder == nil)
    if let folder { configuration.stateDirectory = folder }
    if let port = try options.integer("port", in: 0...65_535) { configuration.port = UInt16(port) }
    if let offline = options.bool("offline") { configuration.offline = offline }
    if let wanted = options.bool("port_mapping") { configuration.portMapping = wanted }
    if let file = options.string("ca") { configuration.caFile = file }
    if let pairs = options.table("servers") {
      let option = try ServersOption(pairs, function: "node")
      do throws(NetError) {
        configuration.servers = try option.applied(to: configuration.servers)
      } catch {
        throw Misuse("bad option 'servers' of 'node' (\(error))")
      }
    }
    if let names = options.table("ifs") {
      configuration.interfaces = try names.sequence.map {
        switch $0 {
        case .string(let bytes): return String(decoding: bytes, as: UTF8.self)
        case .object(let object as InterfaceObject): return object.interface.name
        default: throw Misuse("bad option 'ifs' of 'node' (a list of names or p2pd.interface expected)")
        }
      }
    }
    configuration.listen =
      try options.strings("listen")?.map {
        guard let ip = IPAddress($0) else {
          throw Misuse("bad option 'listen' of 'node' (\"\($0.prefix(60))\" is no address)")
        }
        return ip
      } ?? configuration.listen
    return configuration
  }
}

/// The answer of an `accept_cb`, given once. A script that ends before it has said anything, or says nothing for too long,
/// has said no. Confined to the loop.
private final class ConsentAnswer: @unchecked Sendable {
  private let promise: EventLoopPromise<Bool>
  private var limit: Scheduled<Void>?

  var future: EventLoopFuture<Bool> { promise.futureResult }

  init(_ loop: any EventLoop) {
    promise = loop.makePromise()
    limit = loop.assumeIsolated().scheduleTask(in: Self.patience) { [weak self] in self?.give(false) }
  }

  deinit { give(false) }

  func give(_ answer: Bool) {
    guard let limit else { return }
    self.limit = nil
    limit.cancel()
    promise.succeed(answer)
  }

  /// An offer is good for no longer.
  private static let patience = TimeAmount.seconds(30)
}
