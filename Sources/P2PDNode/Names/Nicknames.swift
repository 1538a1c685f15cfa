import Logging
import NIOCore
import P2PDNames
import P2PDNet

/// The names of a running node: registers them, keeps them alive, and tells the local network. Confined to the node's
/// loop.
final class Nicknames: @unchecked Sendable {
  private unowned let node: Node
  private let service: NameService
  private var entries: [PeerName: Entry] = [:]
  private var isClosed = false

  private final class Entry {
    var renewal = NicknameRenewal()
    var timer: Scheduled<Void>?
    /// Of whoever waits for the first push.
    var waiters: [EventLoopPromise<String>] = []
    var isOver = false
  }

  init(_ node: Node, _ service: NameService) {
    self.node = node
    self.service = service
  }

  /// In order, with what is wrong with them.
  var all: [(name: PeerName, problem: NetError?)] {
    entries.map { ($0.key, $0.value.renewal.problem) }.sorted { "\($0.name)" < "\($1.name)" }
  }

  /// Takes a name, and keeps it until the node ends.
  func take(_ text: String) -> EventLoopFuture<String> {
    do throws(NetError) {
      let name = try full(text)
      if entries[name] == nil, entries.count >= Self.most {
        throw NetError(.limit, "take the name \(name)", cause: "the node has \(Self.most) names already")
      }
      return take(name)
    } catch {
      return node.loop.makeFailedFuture(error)
    }
  }

  /// The name with its ending: that of the default set, or the local network's where there is none.
  private func full(_ text: String) throws(NetError) -> PeerName {
    let hasServers = service.servers.knows(PeerName.defaultTLD)
    let name = try PeerName(text, tld: hasServers ? PeerName.defaultTLD : PeerName.localTLD)
    let what = "take the name \(name)"
    guard name.isRegistrable else {
      throw NetError(
        .badName, what, cause: "a name of a node is one label and an ending",
        remedy: "Names of the DNS are made there: _p2pd.\(name) TXT \"p2pd=ADDRESS\".")
    }
    if name.isLocal {
      guard node.configuration.names.multicast else {
        let cause = "no name servers are configured, and multicast DNS is off"
        throw NetError(.unsupported, what, cause: cause, remedy: Self.remedy(name))
      }
    } else if node.configuration.offline, node.configuration.names.table == nil {
      throw NetError(
        .unsupported, what, cause: "the node is offline",
        remedy: "\(name.label).\(PeerName.localTLD) names it on the local network.")
    } else if !service.servers.knows(name.tld) {
      let cause = "no name servers are configured for .\(name.tld)"
      throw NetError(.unsupported, what, cause: cause, remedy: Self.remedy(name))
    }
    return name
  }

  private static func remedy(_ name: PeerName) -> String {
    "Name some in p2pd.conf.lua (servers.names), with --names or P2PD_NAMES; docs/names.md says how to host them."
  }

  private func take(_ name: PeerName) -> EventLoopFuture<String> {
    let entry = entries[name] ?? Entry()
    let isNew = entries.updateValue(entry, forKey: name) == nil
    let announced = announce(name)
    if name.isLocal {
      return announced.map { "\(name)" }.assumeIsolated().flatMapErrorThrowing { error in
        // Who has it already keeps it; where there is no LAN now, it is announced as soon as there is one.
        if (error as? NetError)?.code != .unreachable { self.drop(name, entry) }
        throw error
      }.nonisolated()
    }
    if entry.renewal.registered != nil { return node.loop.makeSucceededFuture("\(name)") }
    let promise = node.loop.makePromise(of: String.self)
    entry.waiters.append(promise)
    guard isNew else { return promise.futureResult }
    // An address that does not name the brokers and outside addresses yet would have to be pushed again in a second.
    node.settled().assumeIsolated().whenComplete { _ in
      self.handle(.address(self.node.address.description), name, entry)
    }
    return promise.futureResult
  }

  /// Gives a name up at its servers and on the local network.
  func delete(_ name: PeerName) -> EventLoopFuture<Void> {
    if let entry = entries[name] { drop(name, entry) }
    guard !name.isLocal else { return node.loop.makeSucceededVoidFuture() }
    return service.servers.delete(name, as: node.identity)
  }

  /// The node has another address.
  func addressChanged(_ address: NodeAddress) {
    guard !isClosed else { return }
    for name in entries.keys { announce(name) }
    for (name, entry) in entries where !name.isLocal && node.isSettled {
      handle(.address(address.description), name, entry)
    }
  }

  /// No more pushes. Servers keep the names until they expire.
  /// - Returns: the names that they have.
  func close() -> [PeerName] {
    isClosed = true
    let registered = entries.filter { $0.value.renewal.registered != nil }.map(\.key)
    for (name, entry) in entries { end(entry, NetError(.closed, "register \(name)", cause: "the node is closed")) }
    entries = [:]
    return registered
  }

  private func end(_ entry: Entry, _ error: NetError) {
    entry.isOver = true
    entry.timer?.cancel()
    let waiters = entry.waiters
    entry.waiters = []
    for waiter in waiters { waiter.fail(error) }
  }

  // MARK: The servers

  private func handle(_ event: NicknameRenewal.Event, _ name: PeerName, _ entry: Entry) {
    guard !entry.isOver, !isClosed else { return }
    for action in entry.renewal.handle(event, now: node.loop.now) {
      switch action {
      case .push(let address): push(address, name, entry)
      case .wake(let time):
        entry.timer?.cancel()
        entry.timer = node.loop.assumeIsolated().scheduleTask(deadline: time) { self.handle(.tick, name, entry) }
      }
    }
  }

  private func push(_ address: String, _ name: PeerName, _ entry: Entry) {
    service.servers.push(name, address, as: node.identity).assumeIsolated().whenComplete { result in
      guard !entry.isOver else { return }
      let (waiters, before) = (entry.waiters, entry.renewal.problem)
      entry.waiters = []
      switch result {
      case .success:
        if entry.renewal.registered == nil || before != nil {
          self.node.logger.info("registered", metadata: ["name": "\(name)"])
        }
        self.handle(.pushed, name, entry)
        for waiter in waiters { waiter.succeed("\(name)") }
      case .failure(let error):
        let error = NetError(error, "register \(name)")
        if before?.code != error.code {
          self.node.logger.warning("the name is not registered", metadata: ["name": "\(name)", "error": "\(error)"])
        }
        self.failed(error, name, entry)
        for waiter in waiters { waiter.fail(error) }
      }
    }
  }

  private func failed(_ error: NetError, _ name: PeerName, _ entry: Entry) {
    // It was never ours: whoever asked is told, and nothing is left behind.
    if entry.renewal.registered == nil, Self.refusals.contains(error.code) {
      return drop(name, entry)
    }
    handle(.failed(error), name, entry)
  }

  private func drop(_ name: PeerName, _ entry: Entry) {
    guard entries[name] === entry else { return }
    entries[name] = nil
    end(entry, NetError(.cancelled, "register \(name)"))
    withdraw(name)
  }

  // MARK: The local network

  @discardableResult
  private func announce(_ name: PeerName) -> EventLoopFuture<Void> {
    if node.configuration.isForThisMachine {
      let cause = "the node listens on this machine alone"
      return node.loop.makeFailedFuture(NetError(.unreachable, "announce \(name) on the local network", cause: cause))
    }
    guard let lan = service.localNetwork() else { return node.loop.makeSucceededVoidFuture() }
    let announced = lan.announce(
      name.label, key: node.identity.key.bytes, value: node.address.description, port: node.port)
    let logger = node.logger
    announced.whenFailure { error in
      logger.debug("not announced on the local network", metadata: ["name": "\(name)", "error": "\(error)"])
    }
    return announced
  }

  /// Names of several endings may share a label.
  private func withdraw(_ name: PeerName) {
    if !isClosed, !entries.keys.contains(where: { $0.label == name.label }) {
      service.localNetwork()?.withdraw(name.label)
    }
  }

  private static let most = 16
  private static let refusals: Set<NetError.Code> = [.taken, .badName, .tooLarge, .badRecord]
}
