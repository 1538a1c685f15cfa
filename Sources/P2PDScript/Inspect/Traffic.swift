import NIOCore
import P2PDNet

/// Messages and bytes that went through pipes, and callbacks that failed.
public struct Traffic: Sendable, Equatable {
  public var messagesIn: UInt64 = 0
  public var messagesOut: UInt64 = 0
  public var bytesIn: UInt64 = 0
  public var bytesOut: UInt64 = 0
  public var dropped: UInt64 = 0
  public var errors: UInt64 = 0

  public init() {}

  mutating func add(_ stats: PipeStats) {
    messagesIn &+= stats.messagesIn
    messagesOut &+= stats.messagesOut
    bytesIn &+= stats.bytesIn
    bytesOut &+= stats.bytesOut
    dropped &+= stats.dropped
  }
}

/// ``Traffic`` a second.
public struct TrafficRates: Sendable, Equatable {
  public var messagesIn = 0.0
  public var messagesOut = 0.0
  public var bytesIn = 0.0
  public var bytesOut = 0.0
  public var errors = 0.0
  /// Seconds over which they were measured; 0 where nothing was measured yet.
  public var seconds = 0.0

  public init() {}
}

/// Rates out of totals that are read now and then. No clock: the time comes in.
struct TrafficMeter {
  private var readings = CircularBuffer<(at: NIODeadline, total: Traffic)>()

  /// Keeps a reading, and of the older ones those of the last ``longest``.
  mutating func note(_ total: Traffic, at now: NIODeadline) {
    readings.append((now, total))
    while readings.count > 2, let second = readings.dropFirst().first, now - second.at > Self.longest {
      readings.removeFirst()
    }
  }

  var lastReading: NIODeadline? { readings.last?.at }

  /// The rates over the readings of the last `time`, and at least the last two of them.
  func rates(over time: TimeAmount) -> TrafficRates {
    var rates = TrafficRates()
    guard let last = readings.last, readings.count > 1 else { return rates }
    let inTime = readings.dropLast().first { last.at - $0.at <= time }
    guard let first = inTime ?? readings.dropLast().last, last.at > first.at else { return rates }
    rates.seconds = Double((last.at - first.at).nanoseconds) / 1e9
    let rate = { (old: UInt64, new: UInt64) in Double(new &- min(old, new)) / rates.seconds }
    let messagesIn = rate(first.total.messagesIn, last.total.messagesIn)
    let messagesOut = rate(first.total.messagesOut, last.total.messagesOut)
    let bytesIn = rate(first.total.bytesIn, last.total.bytesIn)
    let bytesOut = rate(first.total.bytesOut, last.total.bytesOut)
    let errors = rate(first.total.errors, last.total.errors)
    (rates.messagesIn, rates.messagesOut) = (messagesIn, messagesOut)
    (rates.bytesIn, rates.bytesOut, rates.errors) = (bytesIn, bytesOut, errors)
    return rates
  }

  static let longest = TimeAmount.seconds(60)
}

/// How late the event loop comes to what was due: what a message may have to wait before it is looked at.
struct LagMeter {
  private var readings = CircularBuffer<(at: NIODeadline, lag: TimeAmount)>()

  mutating func note(_ lag: TimeAmount, at now: NIODeadline) {
    readings.append((now, max(lag, .zero)))
    while let first = readings.first, now - first.at > TrafficMeter.longest { readings.removeFirst() }
  }

  /// The mean and the worst of the readings of the last `time`; zero where there are none.
  func lag(over time: TimeAmount, now: NIODeadline) -> (mean: TimeAmount, worst: TimeAmount) {
    var sum: Int64 = 0
    var worst: Int64 = 0
    var count: Int64 = 0
    for reading in readings.reversed() {
      guard now - reading.at <= time else { break }
      sum += reading.lag.nanoseconds
      worst = max(worst, reading.lag.nanoseconds)
      count += 1
    }
    return (.nanoseconds(count == 0 ? 0 : sum / count), .nanoseconds(worst))
  }
}
