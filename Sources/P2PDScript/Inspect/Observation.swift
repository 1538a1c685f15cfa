import NIOCore
import P2PDNet

/// What is kept of a host for those who look on from outside: totals of pipes that have ended, rates, the loop's lag,
/// and who traces messages. Confined to the host's event loop.
struct Observation {
  /// The traffic of pipes that have ended.
  private(set) var endedTraffic = Traffic()
  var meter = TrafficMeter()
  var lag = LagMeter()
  var tracers: [Tracer] = []
  var startedAt: NIODeadline?
  var timer: Scheduled<Void>?
  /// Made at the first prompt.
  var promptClass: Int32?

  mutating func ended(_ pipe: Pipe) { endedTraffic.add(pipe.stats()) }

  func opened(_ face: PipeFace) { for tracer in tracers { tracer.opened(face) } }
}

extension ScriptHost {
  /// Begins to measure rates and the event loop's lag; call it on the loop. Until then a report has totals only. Ends
  /// with the host, or with ``stopMeasuring()``.
  public func startMeasuring() {
    loop.assertInEventLoop()
    guard observation.timer == nil, !isClosed else { return }
    observation.startedAt = observation.startedAt ?? loop.now
    measure(due: loop.now)
  }

  public func stopMeasuring() {
    observation.timer?.cancel()
    observation.timer = nil
  }

  private func measure(due: NIODeadline) {
    let now = loop.now
    if isClosed { return stopMeasuring() }
    observation.lag.note(now - due, at: now)
    let pipes = generations.values.reduce(0) { $0 + $1.pipeCount } + hosted.reduce(0) { $0 + $1.slot.pipes.count }
    // Adding the pipes up costs some 50 ns each: thousands of them are looked at less often.
    let pause = TimeAmount.seconds(Int64(1 + pipes / Self.pipesPerSecond))
    if observation.meter.lastReading.map({ now - $0 >= pause - Self.beat }) ?? true {
      observation.meter.note(traffic, at: now)
    }
    let next = now + Self.beat
    observation.timer = loop.assumeIsolated().scheduleTask(deadline: next) { self.measure(due: next) }
  }

  /// The traffic of all pipes so far.
  var traffic: Traffic {
    var total = observation.endedTraffic
    total.errors = past.errors
    for generation in generations.values { total.errors &+= generation.counters.errors }
    for face in faces { total.add(face.pipe.stats()) }
    return total
  }

  private static let beat = TimeAmount.milliseconds(250)
  private static let pipesPerSecond = 2000
}
