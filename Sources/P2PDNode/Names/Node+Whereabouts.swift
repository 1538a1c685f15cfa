import NIOCore
import P2PDNet
import P2PDTraversal

/// Which address a node has now: asked of the node itself, through the brokers that its old address names.
extension Node {
  /// The newest address of the node of an address that may be old.
  ///
  /// - Parameter timeout: for the answer.
  /// - Returns: what the node says now. It counts whatever its date: the node's clock may have been set back.
  /// - Throws: ``NetError``. `unsupported`: this node is offline, or the address names no broker. `timeout`: no answer.
  ///   `notP2PD`: an answer that is no address. `wrongKey`: one that is another node's.
  public func freshAddress(
    of address: NodeAddress, timeout: TimeAmount = Node.whereaboutsTimeout
  ) -> EventLoopFuture<NodeAddress> {
    loop.assertInEventLoop()
    let what = "ask node \(address.key.short) for its present address"
    guard closing == nil else { return loop.makeFailedFuture(NetError(.closed, what, cause: "this node is closed")) }
    guard let messenger = messenger(to: address) else {
      let cause = signalling == nil ? "this node is offline" : "its old address names no broker"
      return loop.makeFailedFuture(NetError(.unsupported, what, cause: cause))
    }
    let session = SessionID()
    let asked = messenger.request(Rendezvous(session, .whereabouts).bytes, timeout: timeout)
    return asked.assumeIsolated().flatMapThrowing { answer in
      try Self.told(answer.bytes, session, of: address.key, what)
    }.nonisolated()
  }

  private static func told(
    _ answer: [UInt8], _ session: SessionID, of key: NodeKey, _ what: String
  ) throws(NetError) -> NodeAddress {
    guard let rendezvous = Rendezvous(answer), rendezvous.session == session, case .here(let text) = rendezvous.message
    else { throw NetError(.notP2PD, what, cause: "the answer cannot be read") }
    let told: NodeAddress
    do throws(NodeAddressError) {
      told = try NodeAddress(text)
    } catch {
      throw NetError(.notP2PD, what, cause: "the answer is \(error)")
    }
    guard told.key == key else { throw NetError(.wrongKey, what, cause: "it told another node's address") }
    return told
  }

  /// Answers whoever knows this node's key and one of its brokers: both stand in any address it ever had.
  func tellAddress(_ session: Responder.Session, _ answer: ([UInt8]) -> Void) {
    guard askers.allows(session.key, at: loop.now) else {
      return logger.debug("asked for the address too often", metadata: ["key": "\(session.key.short)"])
    }
    answer(Rendezvous(session.id, .here(address.description)).bytes)
  }

  /// As long as a broker that must be connected to first takes, and the way there and back.
  public static let whereaboutsTimeout = TimeAmount.seconds(5)
}

/// How often others may ask for the node's address, each and together. A value; the time is handed in.
struct AskerLimits {
  private var each: KeyedRates<NodeKey>
  private var together: TokenBucket

  init(at now: NIODeadline) {
    each = KeyedRates(rate: Self.perSecondOfKey, burst: Self.burstOfKey, capacity: Self.mostKeys)
    together = TokenBucket(rate: Self.perSecond, burst: Self.burst, at: now)
  }

  var count: Int { each.count }

  mutating func allows(_ key: NodeKey, at now: NIODeadline) -> Bool {
    each.allows(key, at: now) && together.take(at: now)
  }

  /// Of one node: it connects some times in a row, and then knows the address.
  static let perSecondOfKey = 0.5
  static let burstOfKey = 10.0
  /// Of all: an answer costs about 0.2 ms to seal, so this is 1 % of a CPU.
  static let perSecond = 50.0
  static let burst = 200.0
  static let mostKeys = 1024
}
