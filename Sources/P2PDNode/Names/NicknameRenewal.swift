import NIOCore
import P2PDNet

/// When a node's name is pushed to its servers: at once, again before half of its life is over, and soon after the
/// node's address changed, but not with every change. What fails is tried again, ever more rarely. Stepped by hand.
struct NicknameRenewal {
  enum Event {
    /// The node's address, the first one too.
    case address(String)
    case pushed
    case failed(NetError)
    case tick
  }

  enum Action: Equatable {
    case push(String)
    case wake(NIODeadline)
  }

  /// Registered with this address.
  private(set) var registered: String?
  /// Why the last push failed.
  private(set) var problem: NetError?
  private var wanted: String?
  private var pushing: String?
  private var failures = 0
  /// When the next push is due; `distantFuture` while nothing is to be pushed.
  private var due = NIODeadline.distantFuture
  private var lastPush: NIODeadline?

  init() {}

  mutating func handle(_ event: Event, now: NIODeadline) -> [Action] {
    switch event {
    case .address(let address):
      let isFirst = wanted == nil
      guard wanted != address else { return [] }
      wanted = address
      if isFirst { due = now } else if pushing == nil { due = min(due, changeIsDue(now)) }
    case .pushed:
      (registered, pushing, problem, failures) = (pushing, nil, nil, 0)
      due = wanted == registered ? now + Self.renewal : changeIsDue(now)
    case .failed(let error):
      (pushing, problem) = (nil, error)
      failures += 1
      due = now + (Self.lasting.contains(error.code) ? Self.longestRetry : Self.retry(failures))
    case .tick: break
    }
    guard pushing == nil, let wanted else { return [] }
    guard due <= now else { return [.wake(due)] }
    pushing = wanted
    lastPush = now
    due = .distantFuture
    return [.push(wanted)]
  }

  /// One change follows another while a node finds out about its network, and servers have limits.
  private func changeIsDue(_ now: NIODeadline) -> NIODeadline {
    max(now + Self.settling, lastPush.map { $0 + Self.between } ?? now)
  }

  private static func retry(_ failures: Int) -> TimeAmount {
    let doubled = firstRetry.nanoseconds << Int64(min(failures - 1, 10))
    return .nanoseconds(min(doubled, longestRetry.nanoseconds))
  }

  /// Names live 7 days: two pushes can fail for a day each, and the name is still there.
  static let renewal = TimeAmount.hours(60)
  static let settling = TimeAmount.seconds(2)
  static let between = TimeAmount.seconds(20)
  static let firstRetry = TimeAmount.seconds(5)
  static let longestRetry = TimeAmount.minutes(30)
  /// What another try in a moment does not change.
  private static let lasting: Set<NetError.Code> = [.taken, .badName, .tooLarge, .badRecord]
}
