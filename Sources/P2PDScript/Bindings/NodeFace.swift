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
  /// The protocols it hosts for this script, the default one under "".
  private(set) var protocols: [String: HostedProtocol] = [:]
  private var pipes: [UInt64: PipeFace] = [:]

  init(_ node: Node, generation: Generation, isOwn: Bool) {
    self.node = node
    self.generation = generation
    self.isOwn = isOwn
    host = generation.host
    if isOwn { generation.add(self) }
  }

  var openPipes: [PipeFace] { pipes.values.sorted { $0.pipe.id < $1.pipe.id } }

  func took(_ face: PipeFace) {
    pipes[face.pipe.id] = face
    face.onEnd = { [weak self] in self?.pipes[$0.pipe.id] = nil }
  }

  /// Hosts a protocol with these callbacks.
  func host(_ name: String, _ handlers: HandlerSet) throws {
    let hosted = HostedProtocol(handlers: handlers, generation: generation, node: self)
    try node.host(protocol: name, sink: hosted)
    protocols[name] = hosted
  }

  /// The callbacks of the default protocol, hosted when the first is added.
  func defaultHandlers() throws -> HandlerSet {
    if let hosted = protocols[""] { return hosted.handlers }
    let handlers = HandlerSet(host)
    try host("", handlers)
    return handlers
  }

  var callbackSets: [HandlerSet] { protocols[""].map { [$0.handlers] } ?? [] }
  func callbacksChanged() { for face in pipes.values { face.updateMode() } }

  @discardableResult
  func close(flush: TimeAmount) -> EventLoopFuture<Void> {
    isClosed = true
    generation.remove(self)
    return node.closed(flush: flush)
  }
}

/// One protocol of one node, as a script hosts it.
final class HostedProtocol: NodeProtocol {
  let handlers: HandlerSet
  private let generation: Generation
  private weak var node: NodeFace?

  init(handlers: HandlerSet, generation: Generation, node: NodeFace) {
    self.handlers = handlers
    self.generation = generation
    self.node = node
  }

  func nodePipe(_ pipe: Pipe) -> (any PipeSink)? {
    guard generation.phase == .live, !generation.isEnding, let node else { return nil }
    let face = PipeFace(pipe, generation: generation, shared: handlers)
    node.took(face)
    return face
  }
}

extension ScriptHost {
  /// `p2pd.node([options])`
  func startNode(_ call: borrowing LuaCall) throws -> LuaReturn {
    let generation = try owner(call)
    try refuseAtTopLevel("node")
    if call.isNone(1), let hosting = generation.hostingNode { return .object(hosting) }
    let options = try call.options(1, 1, "node", API.nodeOptions)
    let configuration = try configuration(options)
    guard call.canWait else { return .wait }
    let handlers = HandlerSet(self, options)
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

  private func nodeStarted(_ node: Node, _ handlers: HandlerSet, _ generation: Generation, _ waiter: Waiter) {
    guard waiter.isWaiting, generation.phase == .live else { return _ = node.closed(flush: .zero) }
    let face = NodeFace(node, generation: generation, isOwn: true)
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
