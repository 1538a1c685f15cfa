import NIOCore
import P2PDSignaling
import P2PDTraversal

/// Speaks to one node through brokers: those of its address, or, to answer a stranger, the one its message came by and
/// this node's own. Never one that a stranger names.
final class SignalMessenger: Messenger {
  private let key: NodeKey
  private let brokers: [Broker]
  private unowned let node: Node

  init(to key: NodeKey, brokers: [Broker], of node: Node) {
    self.key = key
    self.brokers = brokers
    self.node = node
  }

  func request(_ bytes: [UInt8], timeout: TimeAmount) -> EventLoopFuture<(bytes: [UInt8], roundTrip: TimeAmount)> {
    guard let (service, receiver) = line else { return node.loop.makeFailedFuture(SignalError.offline) }
    let (node, key) = (node, key)
    let answered = service.request(bytes, to: receiver, brokers: brokers, timeout: timeout)
    return answered.assumeIsolated().map { answer in
      node.signalTimes.add(answer.roundTrip, of: key)
      return (answer.bytes, answer.roundTrip)
    }.nonisolated()
  }

  func tell(_ bytes: [UInt8]) {
    guard let (service, receiver) = line else { return }
    let (logger, key) = (node.logger, key)
    service.send(bytes, to: receiver, brokers: brokers).whenFailure { error in
      logger.debug("a signal did not get out", metadata: ["key": "\(key.short)", "why": "\(error)"])
    }
  }

  var oneWay: TimeAmount? { node.signalTimes[key].map { .nanoseconds($0.nanoseconds / 2) } }

  var leg: TimeAmount? {
    guard let service = node.signalling else { return nil }
    return brokers.compactMap { service.roundTrip(of: $0)?.smoothed }.min()
  }

  private var line: (SignalingService, SignalKey)? {
    guard let service = node.signalling, let receiver = SignalKey(bytes: key.bytes) else { return nil }
    return (service, receiver)
  }
}

/// The round trips to nodes that have answered lately, smoothed. Bounded: the one heard of longest ago is forgotten.
struct SignalTimes {
  private var known: [NodeKey: (time: TimeAmount, order: UInt64)] = [:]
  private var clock: UInt64 = 0

  subscript(key: NodeKey) -> TimeAmount? { known[key]?.time }
  var count: Int { known.count }

  mutating func add(_ sample: TimeAmount, of key: NodeKey) {
    clock &+= 1
    var time = sample
    // The middle of the two: samples are few and far between, and brokers change.
    if let old = known[key]?.time { time = .nanoseconds(old.nanoseconds / 2 + sample.nanoseconds / 2) }
    known[key] = (time, clock)
    if known.count > Self.capacity, let oldest = known.min(by: { $0.value.order < $1.value.order }) {
      known[oldest.key] = nil
    }
  }

  static let capacity = 256
}
