import NIOCore
import P2PDNet

/// What time servers say of this host's clock.
public struct ClockReading: Hashable, Sendable {
  /// What has to be added to this host's clock to get the servers' time: above zero where it is slow.
  public var offset: TimeAmount
  /// How far the offset may be off, either way: half of what the packets travelled, and what the server owns up to.
  public var error: TimeAmount
  /// To the server it was taken from, and back.
  public var roundTrip: TimeAmount

  public init(offset: TimeAmount, error: TimeAmount, roundTrip: TimeAmount) {
    self.offset = offset
    self.error = error
    self.roundTrip = roundTrip
  }

  /// The time now, given this host's clock, both in nanoseconds since 1970.
  public func corrected(_ unixNanoseconds: Int64) -> Int64 { unixNanoseconds &+ offset.nanoseconds }
}

/// One server's part.
public struct ClockFinding: Hashable, Sendable {
  /// As it was named.
  public var server: String
  /// The best of its samples; nil where there is none to use.
  public var reading: ClockReading?
  /// How far it is from a reference clock, 1 to 15.
  public var stratum: UInt8?
  /// Why it gave nothing, or is not believed.
  public var problem: String?

  public init(server: String) { self.server = server }
}

/// The outcome of a query.
public struct ClockReport: Sendable {
  /// What most servers agree on; nil where nobody answered or no majority agrees.
  public var reading: ClockReading?
  /// In the order they were named.
  public var servers: [ClockFinding]

  public init(reading: ClockReading?, servers: [ClockFinding]) {
    self.reading = reading
    self.servers = servers
  }

  /// The reading, or why there is none.
  public func get() throws(NetError) -> ClockReading {
    if let reading { return reading }
    let answered = servers.contains { $0.reading != nil }
    let attempts = servers.map { NetError(.timeout, "ask \($0.server)", cause: $0.problem ?? "no answer") }
    throw NetError(
      answered ? .io : .timeout, "ask time servers",
      cause: answered ? "they contradict each other, and no majority is right" : "none gave the time",
      attempts: attempts)
  }
}

/// Whom to believe (RFC 5905 §11.2.1, Marzullo's algorithm): each server's reading is an interval, and the right time lies
/// where most of them overlap. Of three, one that lies or is broken is outvoted by the other two; of two that contradict
/// each other neither is believed.
public enum ClockVote {
  /// - Returns: of the majority the reading with the least error, and the indices of those outside of it; nil where no
  ///   majority agrees.
  public static func count(_ readings: [ClockReading]) -> (best: ClockReading, doubted: [Int])? {
    // Where most intervals overlap, one of them begins.
    let agreeing = readings.map { candidate in
      readings.indices.filter { readings[$0].low <= candidate.low && candidate.low <= readings[$0].high }
    }
    guard let majority = agreeing.max(by: { $0.count < $1.count }), majority.count * 2 > readings.count,
      let best = majority.map({ readings[$0] }).min(by: { $0.error < $1.error })
    else { return nil }
    return (best, readings.indices.filter { !majority.contains($0) })
  }
}

extension ClockReading {
  fileprivate var low: TimeAmount { offset - error }
  fileprivate var high: TimeAmount { offset + error }
}
