import Logging
import NIOCore
import P2PDNames
import P2PDNet

/// Finds nodes by their names, and remembers the keys the names had. Beside a node or without one. Confined to its loop.
public final class NameService: @unchecked Sendable {
  public let book: NameBook
  let servers: NameServers
  private let configuration: NodeConfiguration
  private let loop: any EventLoop
  private let logger: Logger
  private var lan: LocalNames?
  private var texts: TextRecords?
  /// Keys of names used, where no file keeps them; bounded as the file is.
  private var pins = KnownNames()
  private var isClosed = false

  /// - Parameter configuration: of the node it is for: its servers, ``NodeConfiguration/names`` and state folder.
  public init(_ configuration: NodeConfiguration, on loop: any EventLoop, logger: Logger) {
    self.configuration = configuration
    self.loop = loop
    self.logger = logger
    let names = configuration.names
    let folder =
      names.pinFolder ?? (configuration.ephemeral ? nil : configuration.stateDirectory ?? StateFolder.defaultPath)
    book = NameBook(file: names.file, pinFolder: folder)
    servers = NameServers(configuration, on: loop, logger: logger)
  }

  /// Reads a name as people write it; without an ending it is one of the local network.
  public static func read(_ text: String) throws(NetError) -> PeerName { try PeerName(text, tld: PeerName.localTLD) }

  /// Looks a name up: in the user's file, on the local network, at its name servers, in the DNS. The first in this order
  /// that knows it decides. Its key must be the one of the user's file or of the name's first use.
  ///
  /// - Parameters:
  ///   - all: waits for what every source says, though who wins is known before.
  ///   - timeout: for all of it.
  /// - Returns: what each said. Fails only for a name that is none (`badName`), a file that cannot be read, and at the end.
  public func lookup(_ text: String, all: Bool = false, timeout: TimeAmount = NameService.timeout)
    -> EventLoopFuture<NameReport>
  {
    loop.assertInEventLoop()
    guard !isClosed else {
      return loop.makeFailedFuture(NetError(.closed, "find \(text)", cause: "the node is closed"))
    }
    let name: PeerName
    do throws(NetError) { name = try Self.read(text) } catch { return loop.makeFailedFuture(error) }
    let (book, loop) = (book, loop)
    return loop.run { [self] in
      let (file, known) = try await loop.offload { (try book.names(), try book.pins()) }
      return try await lookup(name, file, known, all: all, timeout: timeout).get()
    }
  }

  private func lookup(_ name: PeerName, _ file: NamesFile, _ known: KnownNames, all: Bool, timeout: TimeAmount)
    -> EventLoopFuture<NameReport>
  {
    guard !isClosed else {
      return loop.makeFailedFuture(NetError(.closed, "find \(name)", cause: "the node is closed"))
    }
    let entry = file[name]
    var expected: (key: [UInt8], whence: String)?
    if let entry {
      expected = (entry.key, "\(file.path):\(entry.line)")
    } else if let pin = known[name] ?? pins[name] {
      expected = (pin, book.keepsPins ? "remembered at its first use" : "as it was some time ago")
    }
    let found = entry.map { NameFinding.Outcome.found(key: $0.key, address: $0.address) } ?? .absent
    var findings = [NameFinding(.file, found, by: entry.map { "\(file.path):\($0.line)" } ?? file.path)]
    var questions: [LookupSource: NameResolver.Question] = [:]
    for source in [LookupSource.lan, .servers, .dns] {
      if let why = whyNot(source, name) {
        if let why = why.words { findings.append(NameFinding(source, .notAsked(why))) }
      } else {
        questions[source] = question(source, all: all)
      }
    }
    return NameResolver.resolve(
      name, known: findings, questions: questions, expected: expected, all: all, timeout: timeout, on: loop)
  }

  /// Remembers the key of a name that was found and is used now. Where the disk refuses, a warning says so, and the name
  /// can be used all the same: it is as new at its next use.
  /// - Throws: `keyChanged` where another process has remembered another key meanwhile.
  func use(_ found: ResolvedName) -> EventLoopFuture<ResolvedName> {
    // What the user wrote needs no memory.
    guard found.source != .file else { return loop.makeSucceededFuture(found) }
    guard book.keepsPins else {
      _ = pins.pin(found.name, found.key)
      return loop.makeSucceededFuture(found)
    }
    let (book, loop, logger) = (book, loop, logger)
    return loop.run {
      let key: [UInt8]
      do {
        key = try await loop.offload { try book.pin(found.name, found.key) }
      } catch {
        logger.warning(
          "the key of a name cannot be remembered, so a change of it would not be noticed",
          metadata: ["name": "\(found.name)", "error": "\(error)"])
        return found
      }
      guard key == found.key else {
        throw NetError(
          .keyChanged, "find \(found.name)",
          cause: "another process has just remembered another key: \(NodeKey(bytes: key)?.description ?? "")")
      }
      return found
    }
  }

  // MARK: The sources

  /// nil: it is asked. Without words: it has nothing to do with such a name.
  private func whyNot(_ source: LookupSource, _ name: PeerName) -> (words: String?, Void)? {
    let isOurs = name.isLocal || name.tld == PeerName.defaultTLD || servers.knows(name.tld)
    switch source {
    case .file: return nil
    case .lan:
      guard isOurs, name.isRegistrable else { return (nil, ()) }
      return configuration.names.multicast ? nil : ("multicast DNS is off", ())
    case .servers:
      guard isOurs, !name.isLocal else { return (nil, ()) }
      if configuration.offline, configuration.names.table == nil { return ("offline", ()) }
      return servers.knows(name.tld) ? nil : ("no name servers are configured for .\(name.tld)", ())
    case .dns:
      guard !isOurs else { return (nil, ()) }
      if configuration.offline { return ("offline", ()) }
      return configuration.names.dns ? nil : ("the DNS is not to be asked", ())
    }
  }

  private func question(_ source: LookupSource, all: Bool) -> NameResolver.Question {
    switch source {
    case .lan: { self.askLAN($0) }
    case .dns: { self.askDNS($0) }
    default: { self.servers.ask($0, all: all) }
    }
  }

  /// What tells and asks the local network; nil where it is off.
  func localNetwork() -> LocalNames? {
    guard configuration.names.multicast, !isClosed else { return nil }
    if let lan { return lan }
    let made = LocalNames(interfaces: configuration.interfaces, on: loop)
    lan = made
    return made
  }

  /// The interfaces are others, or new ones.
  func networkChanged(_ snapshot: NetworkSnapshot) { lan?.update(snapshot) }

  private func askLAN(_ name: PeerName) -> EventLoopFuture<NameFinding> {
    guard let lan = localNetwork() else {
      return loop.makeSucceededFuture(NameFinding(.lan, .notAsked("multicast DNS is off")))
    }
    return lan.find(name.label, timeout: Self.lanTimeout).assumeIsolated().map { found in
      LANFinding.read(name, found)
    }.nonisolated().flatMapErrorThrowing { error in
      guard (error as? NetError)?.code == .unreachable else { throw error }
      return NameFinding(.lan, .notAsked("no interface leads to a LAN"))
    }
  }

  private func askDNS(_ name: PeerName) -> EventLoopFuture<NameFinding> {
    let texts = texts ?? TextRecords(on: loop)
    self.texts = texts
    let host = "_p2pd.\(name)"
    return texts.text(of: host).map { TextFinding.read(name, host, $0) }.flatMapErrorThrowing { error in
      guard (error as? NetError)?.code == .notFound else { throw error }
      return NameFinding(.dns, .absent, by: host)
    }
  }

  /// Gives a name up, as the node of this key. Fails as ``Node/deleteName(_:)``.
  public func delete(_ text: String, as identity: Identity) -> EventLoopFuture<PeerName> {
    changing(text) { self.servers.delete($0, as: identity) }
  }

  /// Registers a name once, for a node that runs elsewhere or later; nobody renews it.
  public func push(_ text: String, _ address: NodeAddress, as identity: Identity) -> EventLoopFuture<PeerName> {
    changing(text) { self.servers.push($0, address.description, as: identity) }
  }

  private func changing(_ text: String, _ body: (PeerName) -> EventLoopFuture<Void>) -> EventLoopFuture<PeerName> {
    loop.assertInEventLoop()
    do throws(NetError) {
      let name = try PeerName(text, tld: PeerName.defaultTLD)
      guard servers.knows(name.tld) else {
        throw NetError(
          .unsupported, "change \(name)",
          cause: configuration.offline ? "offline" : "no name servers are configured for .\(name.tld)",
          remedy: "Name some in p2pd.conf.lua (servers.names), with --names or P2PD_NAMES.")
      }
      return body(name).map { name }
    } catch {
      return loop.makeFailedFuture(error)
    }
  }

  /// Ends what is under way. Twice is harmless.
  @discardableResult
  public func close() -> EventLoopFuture<Void> {
    isClosed = true
    servers.close()
    let goodbye = lan?.stop() ?? loop.makeSucceededVoidFuture()
    texts?.stop()
    (lan, texts) = (nil, nil)
    return goodbye
  }

  /// As long as a name server that has to be given up takes, and some.
  public static let timeout = TimeAmount.seconds(8)
  /// Where nobody else knows the name.
  private static let lanTimeout = TimeAmount.seconds(3)
}
