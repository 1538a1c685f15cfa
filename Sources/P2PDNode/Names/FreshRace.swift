import NIOCore
import P2PDNet

/// How to come to a pipe by an address that may be old: it is dialled at once, the node is asked for its present one
/// beside that, and where this differs it is dialled too. The first pipe wins. Stepped by hand.
///
/// Asked are those whose address is some minutes old, and the others once their address did not lead to a pipe in a
/// second, or led nowhere.
struct FreshRace {
  enum Which: Hashable, Sendable { case stored, fresh }

  enum Event {
    case start
    case told(Result<NodeAddress, NetError>)
    case connected(Which)
    case failed(Which, NetError)
    case tick
  }

  enum Action: Equatable {
    case connect(Which, NodeAddress)
    case ask
    case wake(after: TimeAmount)
    case cancel(Which)
    case succeed(Which)
    case fail(NetError)
  }

  private enum Way: Equatable { case idle, open, failed(NetError) }
  private enum Question: Equatable { case none, open, over(NetError?) }

  private let stored: NodeAddress
  private let mayBeOld: Bool
  private let canAsk: Bool
  private var ways: [Which: Way] = [:]
  private var question = Question.none
  private(set) var isOver = false

  /// - Parameters:
  ///   - age: of the address in seconds, by this machine's clock; nil: it was told by the node itself just now.
  ///   - canAsk: false where no broker leads to the node.
  init(_ stored: NodeAddress, age: UInt32?, canAsk: Bool) {
    self.stored = stored
    mayBeOld = age.map { $0 >= Self.old } ?? false
    self.canAsk = canAsk
  }

  mutating func handle(_ event: Event) -> [Action] {
    guard !isOver else { return [] }
    switch event {
    case .start:
      ways[.stored] = .open
      return [.connect(.stored, stored)] + (canAsk ? mayBeOld ? ask() : [.wake(after: Self.patience)] : [])
    case .tick: return ask()
    case .told(.failure(let error)):
      question = .over(error)
      return settle()
    case .told(.success(let address)):
      question = .over(nil)
      guard address.routes != stored.routes || address.signalling != stored.signalling else { return settle() }
      ways[.fresh] = .open
      return [.connect(.fresh, address)]
    case .connected(let way):
      isOver = true
      let other: Which = way == .stored ? .fresh : .stored
      return (ways[other] == .open ? [.cancel(other)] : []) + [.succeed(way)]
    case .failed(let way, let error):
      ways[way] = .failed(error)
      // The right node answered: no other way to it can have another answer.
      if Self.final.contains(error.code) {
        isOver = true
        let other: Which = way == .stored ? .fresh : .stored
        return (ways[other] == .open ? [.cancel(other)] : []) + [.fail(error)]
      }
      let actions = ask()
      return actions.isEmpty ? settle() : actions
    }
  }

  private mutating func ask() -> [Action] {
    guard canAsk, question == .none else { return [] }
    question = .open
    return [.ask]
  }

  /// Fails when nothing is open any more.
  private mutating func settle() -> [Action] {
    guard question != .open, !ways.values.contains(.open) else { return [] }
    isOver = true
    if case .failed(let error)? = ways[.fresh] { return [.fail(error)] }
    guard case .failed(let error)? = ways[.stored] else { return [] }
    guard case .over(let why?) = question else { return [.fail(error)] }
    return [
      .fail(
        NetError(
          error.code, error.what, cause: error.cause, attempts: error.attempts + [why], remedy: error.remedy,
          way: error.way))
    ]
  }

  /// Seconds. A node tells its registered name a new address within some seconds of a change; within minutes it may also
  /// have gone and come back.
  static let old: UInt32 = 120
  /// Direct connections take less, and a question costs the other node a signature.
  static let patience = TimeAmount.seconds(1)
  private static let final: Set<NetError.Code> = [.noProtocol, .cancelled]
}
