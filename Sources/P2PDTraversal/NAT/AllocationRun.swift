import NIOCore
import P2PDNet

/// Makes several fresh mappings, one after the other without waiting for answers, and tells how their outside ports
/// follow. Confined to its loop.
final class AllocationRun {
  /// Opens one port, asks, and answers with what it was and how it was seen; nil where it failed. The sockets stay open
  /// until `close`, or a router could give their ports again.
  typealias Sample = (_ done: @escaping (PortAllocation.Sample?) -> Void) -> Void

  private let loop: any EventLoop
  private let sample: Sample
  private let finished: (PortAllocation?) -> Void
  private var samples: [PortAllocation.Sample?] = []
  private var started = 0
  private var waiting = 0
  private var timer: Scheduled<Void>?

  init(on loop: any EventLoop, sample: @escaping Sample, finished: @escaping (PortAllocation?) -> Void) {
    self.loop = loop
    self.sample = sample
    self.finished = finished
    samples = Array(repeating: nil, count: PortAllocation.samples)
  }

  func start() { next() }

  func cancel() {
    timer?.cancel()
    timer = nil
  }

  private func next() {
    let index = started
    started += 1
    waiting += 1
    sample { result in
      self.samples[index] = result
      self.waiting -= 1
      if self.waiting == 0, self.started == PortAllocation.samples {
        self.finished(PortAllocation(self.samples.compactMap { $0 }))
      }
    }
    guard started < PortAllocation.samples else { return }
    timer = loop.assumeIsolated().scheduleTask(in: Self.spacing) { self.next() }
  }

  /// Keeps the order on the wire.
  private static let spacing: TimeAmount = .milliseconds(5)
}
