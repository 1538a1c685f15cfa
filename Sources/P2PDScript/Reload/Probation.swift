import NIOCore

/// The first time of a new generation in service: is it worse than the one before? Counters and time in, a verdict out.
struct Probation {
  enum Verdict: Equatable {
    /// Too early to tell.
    case open
    case passed
    /// Why the generation must go.
    case failed(String)
  }

  /// Failures for each message of the generation before; 0 where it had none.
  let oldRate: Double
  let end: NIODeadline
  private(set) var verdict = Verdict.open

  init(from now: NIODeadline, for time: TimeAmount, old: Generation.Counters) {
    end = now + time
    oldRate = old.messages == 0 ? 0 : Double(old.failedMessages) / Double(old.messages)
  }

  /// To be asked at each failure, and once a second.
  mutating func look(_ counters: Generation.Counters, now: NIODeadline) -> Verdict {
    guard verdict == .open else { return verdict }
    if counters.kills >= Self.mostKills {
      verdict = .failed("\(counters.kills) tasks were stopped by the time limit")
    } else if isFailing(counters) {
      let share = Double(counters.failedMessages) / Double(counters.messages)
      verdict = .failed(
        "\(counters.failedMessages) of \(counters.messages) messages failed (\(Self.percent(share)), the generation before: \(Self.percent(oldRate)))"
      )
    } else if now >= end {
      verdict = .passed
    }
    return verdict
  }

  /// `M.start` failed: the protocol does not run.
  mutating func startFailed(_ why: String) -> Verdict {
    if verdict == .open { verdict = .failed("start failed: \(why)") }
    return verdict
  }

  private func isFailing(_ counters: Generation.Counters) -> Bool {
    guard counters.messages >= Self.fewestMessages else { return false }
    let rate = Double(counters.failedMessages) / Double(counters.messages)
    return rate > Self.worstRate && rate > Self.worseBy * oldRate
  }

  private static func percent(_ share: Double) -> String { "\((share * 1000).rounded() / 10) %" }

  /// Below this many messages a rate says nothing.
  private static let fewestMessages: UInt64 = 20
  private static let worstRate = 0.05
  private static let worseBy = 3.0
  private static let mostKills: UInt64 = 3
}
