import Glibc
import NIOCore
import P2PDNet

/// The settings of a node's signalling. Every number has its reason beside it.
public struct SignalingConf: Sendable {
  /// Seconds a message is good for after it was made, 60 at most. Enough for a broker that has to be connected to first.
  public var lifetime: UInt8 = 30
  /// Seconds by which two nodes' clocks may differ. Messages are kept in mind for longer than they could be played again.
  public var clockTolerance: UInt32 = 60
  /// Own brokers in use at first, and how many should be up at least.
  public var brokersInUse = 3
  public var brokersWanted = 2
  /// Brokers of other nodes' addresses spoken to at a time; and for how long after the last word.
  public var foreignBrokers = 8
  public var foreignIdle: TimeAmount = .seconds(60)
  /// Between pings; also what keeps a NAT's mapping alive (shared experience: 25 s survives nearly all of them).
  public var pingEvery: TimeAmount = .seconds(25)
  /// How long a broker may take to connect, greet and answer a ping.
  public var brokerTimeout: TimeAmount = .seconds(10)
  public var firstRetry: TimeAmount = .milliseconds(500)
  public var longestRetry: TimeAmount = .seconds(60)
  /// Messages by strangers whose seal is looked at, a second and in a burst, for each of the node's own brokers: about
  /// 0.2 ms of public key work each, so this is the share of a CPU that a flood by somebody who knows the node's id costs.
  public var strangersPerSecond = 50.0
  public var strangersBurst = 400.0
  /// The same for each sender, once it has proved its key. The burst is what a hundred connects at once say: an offer each,
  /// a relay, an end; or answers and reports.
  public var senderPerSecond = 10.0
  public var senderBurst = 400.0
  /// Senders whose budgets are kept.
  public var senders = 1024
  /// Bytes read from each broker a second, packets counted as 400 more; beyond it the broker has to wait, and drops. A
  /// line of 100 Mbit/s full of junk is read whole, for some 6 % of a CPU.
  public var bytesPerSecond = 12 << 20
  /// Requests waiting for their answers.
  public var requests = 1024
  /// The interface brokers are reached through; nil lets the kernel route.
  public var interface: String?
  /// Seconds since 1970. A message's age is told by the calendar, since it crosses machines.
  public var clock: @Sendable () -> UInt32 = { UInt32(truncatingIfNeeded: time(nil)) }  // clock: as said above

  public init() {}

  /// How long a message could be played again: it may be `clockTolerance` early at first and late at last.
  var retention: TimeAmount { .seconds(2 * Int64(clockTolerance) + Self.longestLifetime) }

  /// Budgets for strangers: own brokers, with those asked while others are down, and one for all of other nodes.
  var doors: Int { brokersInUse + 3 }

  /// Room for all that the rates let in during the retention, so that it never runs out.
  var seenCapacity: Int {
    doors * (Int(strangersPerSecond * Double(retention.nanoseconds) / 1e9 + strangersBurst) + 1)
  }

  /// When a request is sent again, from one time to the next: a broker that was lost is back within them mostly (the first
  /// retries come after 0.5, 1, 2 s).
  static let repeats: [TimeAmount] = [.seconds(1), .seconds(2), .seconds(4)]
  /// Seconds. A longer one is read as this.
  static let longestLifetime: Int64 = 60
}

/// What became of the messages that arrived; all since the start.
public struct SignalStats: Hashable, Sendable {
  /// Why a message was thrown away, in the order the reasons are looked for: each is dearer than the one before.
  public enum Refusal: String, Sendable, CaseIterable {
    /// Kept by the broker for later subscribers, or of a length no message has.
    case form
    /// Not made for this node, or changed.
    case junk
    /// Of another version.
    case version
    case early, expired, duplicate
    /// More strangers than the budget for all allows.
    case busy
    /// Not sealed to this node, or not signed by its sender.
    case forged
    /// More than this sender's budget allows.
    case sender
    /// An answer nobody waits for, or by another node than was asked.
    case unasked
  }

  public internal(set) var delivered: UInt64 = 0
  public internal(set) var refused: [Refusal: UInt64] = [:]
  public var received: UInt64 { refused.values.reduce(delivered, +) }

  public subscript(refusal: Refusal) -> UInt64 { refused[refusal] ?? 0 }
}
