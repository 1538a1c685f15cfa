import Logging
import NIOCore
import NIOSSL
import P2PDNet
import P2PDTraversal

extension Node {
  /// Starts a node: reads or makes its key, listens, composes and signs its address. What it asks its servers it asks
  /// afterwards: the address of the first moment tells this machine's addresses, later ones what was found out
  /// (``settled()``, ``addressChanged``).
  ///
  /// Throws ``NetError``: `inUse` and `permission` for a port asked for, `badAddress` for an address or interface
  /// this machine does not have, and what ``StateFolder`` and ``Identity`` throw.
  public static func start(
    _ configuration: NodeConfiguration = NodeConfiguration(), on loop: any EventLoop, logger: Logger
  ) async throws -> Node {
    let interfaces: any InterfaceSource =
      if let loop = loop as? VirtualLoop { MemoryInterfaces(on: loop) } else { SystemInterfaces(on: loop) }
    return try await start(configuration, interfaces: interfaces, on: loop, logger: logger)
  }

  static func start(
    _ configuration: NodeConfiguration, interfaces: any InterfaceSource, on loop: any EventLoop, logger: Logger
  ) async throws -> Node {
    let configuration = configuration.effective
    let kept = try await loop.offload { try KeptState(configuration) }
    var logger = logger
    logger[metadataKey: "node"] = "\(kept.identity.key.short)"
    let starter = Starter(configuration, kept, interfaces, loop, logger)
    let (node, portToKeep) = try await loop.flatSubmit { starter.run() }.get()
    if let portToKeep, let folder = kept.folder {
      do {
        try await loop.offload {
          try folder.locked { try folder.write(Array("\(portToKeep)\n".utf8), to: portFile) }
        }
      } catch {
        logger.warning("the port cannot be kept for the next start", metadata: ["error": "\(error)"])
      }
    }
    return node
  }

  /// What the disk has for a node. Made on a thread that may block.
  struct KeptState: Sendable {
    var identity: Identity
    var folder: StateFolder?
    var claim: StateFolder.Claim?
    var port: UInt16?
    var mappings = PortMappingMemory()

    init(_ configuration: NodeConfiguration) throws {
      if configuration.ephemeral {
        identity = .ephemeral()
        return
      }
      guard let path = configuration.stateDirectory ?? StateFolder.defaultPath else {
        throw NetError(
          .io, "find the state folder",
          cause: "neither HOME nor XDG_STATE_HOME is set; set one, or use an ephemeral key")
      }
      let folder = try StateFolder(path)
      identity = try Identity.load(from: folder)
      self.folder = folder
      claim = folder.claim()
      // A port file that says nothing sensible costs a new port, no more.
      if let text = try? folder.read(portFile, maximum: 16) {
        port = UInt16(String(decoding: text, as: UTF8.self).filter { !$0.isWhitespace })
      }
      if let text = try? folder.read(mappingFile, maximum: 8192, secret: true) {
        mappings = PortMappingMemory(text: String(decoding: text, as: UTF8.self))
      }
    }
  }

  static let portFile = "port"
}

/// The steps of a start that happen on the loop. Confined to it.
private final class Starter: @unchecked Sendable {
  private let configuration: NodeConfiguration
  private let kept: Node.KeptState
  private let interfaces: any InterfaceSource
  private let loop: any EventLoop
  private let logger: Logger
  private let owner = LateOwner()
  private var triesLeft = 32

  init(
    _ configuration: NodeConfiguration, _ kept: Node.KeptState, _ interfaces: any InterfaceSource,
    _ loop: any EventLoop, _ logger: Logger
  ) {
    self.configuration = configuration
    self.kept = kept
    self.interfaces = interfaces
    self.loop = loop
    self.logger = logger
  }

  /// The node, and the port to write down for the next start.
  func run() -> EventLoopFuture<(Node, UInt16?)> {
    let owner = owner
    return interfaces.start(on: loop) { owner.node?.networkChanged($0) }.flatMapError { error in
      self.logger.warning("the interfaces cannot be read", metadata: ["error": "\(error)"])
      return self.loop.makeSucceededFuture(NetworkSnapshot())
    }.flatMap { found in
      self.loop.makeCompletedFuture { try self.check(found.interfaces) }.flatMap { self.listen() }.flatMapThrowing {
        acceptors, keep in
        do { return (try self.node(acceptors, found), keep) } catch {
          for acceptor in acceptors { _ = acceptor.close() }
          throw error
        }
      }.flatMapError { error in
        self.interfaces.stop().flatMapThrowing { throw error }
      }
    }
  }

  private func check(_ found: [NetworkInterface]) throws {
    guard let missing = configuration.interfaces?.first(where: { name in !found.contains { $0.name == name } }) else {
      return
    }
    let names = found.map(\.name).joined(separator: ", ")
    throw NetError(.badAddress, "use the interface \(missing)", cause: "there is none of that name; there are \(names)")
  }

  private func node(_ acceptors: [Acceptor], _ found: NetworkSnapshot) throws -> Node {
    let node = try Node(
      identity: kept.identity, tls: NodeTLS(kept.identity), acceptors: acceptors, snapshot: found, source: interfaces,
      claim: kept.claim, configuration: configuration, loop: loop, logger: logger)
    owner.node = node
    // Of two nodes with one state folder, the first keeps the memory.
    node.portMappingStarted(kept.claim == nil ? nil : kept.folder, kept.mappings)
    node.networkStarted()
    logger.info(
      "listening",
      metadata: ["id": "\(node.id)", "on": "\(acceptors.map { "\($0.endpoint)" }.joined(separator: ", "))"])
    return node
  }

  // MARK: The port

  private func listen() -> EventLoopFuture<([Acceptor], UInt16?)> {
    if let port = configuration.port { return listenAll(port).map { ($0, nil) } }
    if configuration.ephemeral { return listenAll(0).map { ($0, nil) } }
    if kept.claim == nil {
      logger.warning(
        "another running node uses this state folder; this one has the same id, and a port for this run only")
      return listenRandomly().map { ($0.0, nil) }
    }
    guard let port = kept.port, port > 0 else { return listenRandomly() }
    return listenAll(port).map { ($0, nil) }.flatMapError { error in
      guard (error as? NetError)?.code == .inUse else { return self.loop.makeFailedFuture(error) }
      self.logger.warning(
        "the port of the last start is in use; the node takes another, so its old address does not lead here any more",
        metadata: ["port": "\(port)"])
      return self.listenRandomly()
    }
  }

  private func listenRandomly() -> EventLoopFuture<([Acceptor], UInt16?)> {
    let port = UInt16.random(in: Self.ports)
    return listenAll(port).map { ($0, port) }.flatMapError { error in
      self.triesLeft -= 1
      guard (error as? NetError)?.code == .inUse, self.triesLeft > 0 else { return self.loop.makeFailedFuture(error) }
      return self.listenRandomly()
    }
  }

  /// All addresses on one port, or none. Port 0: the kernel picks it for the first address, the others follow.
  private func listenAll(_ port: UInt16) -> EventLoopFuture<[Acceptor]> {
    let explicit = configuration.listen
    let ips = explicit ?? [.wildcard(.v4), .wildcard(.v6)]
    var result = loop.makeSucceededFuture([Acceptor]())
    for ip in ips {
      result = result.flatMap { acceptors in
        let endpoint = Endpoint(ip: ip, port: acceptors.first?.endpoint.port ?? port)
        return self.loop.makeCompletedFuture {
          acceptors + [
            try Acceptor(
              on: endpoint, handshakeTime: self.configuration.limits.handshakeTime, owner: self.owner, loop: self.loop)
          ]
        }.flatMapError { error in
          // A machine may have one family only; that is no reason not to serve the other.
          if explicit == nil, (error as? NetError)?.code == .badAddress {
            self.logger.debug("not listening on one family", metadata: ["error": "\(error)"])
            return self.loop.makeSucceededFuture(acceptors)
          }
          return EventLoopFuture.andAllComplete(acceptors.map { $0.close() }, on: self.loop).flatMapThrowing {
            throw error
          }
        }
      }
    }
    return result.flatMapThrowing { acceptors in
      if acceptors.isEmpty {
        throw NetError(.badAddress, "listen on port \(port)", cause: "this machine has neither IPv4 nor IPv6")
      }
      return acceptors
    }.flatMapError { error in
      // With port 0 the kernel knows only that the first address's port is free.
      self.triesLeft -= 1
      guard port == 0, (error as? NetError)?.code == .inUse, self.triesLeft > 0 else {
        return self.loop.makeFailedFuture(error)
      }
      return self.listenAll(0)
    }
  }

  /// Below Linux's range for outgoing connections (32768 and up): a port kept for the next start should be free then.
  private static let ports: ClosedRange<UInt16> = 20_000...32_767
}

/// Stands for the node until it is made: its listeners come first, since its address needs their port.
private final class LateOwner: AcceptorOwner, @unchecked Sendable {
  weak var node: Node?

  func shouldAccept(_ peer: Endpoint) -> Bool { node?.shouldAccept(peer) ?? false }
  func serverContext() throws -> NIOSSLContext {
    guard let node else { throw NetError(.closed, "accept") }
    return node.serverContext
  }
  func acceptFailed(_ peer: Endpoint, _ error: NetError) { node?.acceptFailed(peer, error) }
  func accepted(_ peer: Endpoint, _ guest: Arrival.Guest) {
    if let node { node.accepted(peer, guest) } else { guest.proof.stream.close(linger: true) }
  }
}
