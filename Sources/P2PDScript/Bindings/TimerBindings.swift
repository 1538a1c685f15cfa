import LuaVM
import NIOCore
import P2PDNet

/// The object behind `timer`: calls a function of the script once or again and again.
final class TimerObject {
  private unowned let generation: Generation
  private var function: LuaRef?
  private let interval: TimeAmount
  private let repeats: Bool
  private var scheduled: Scheduled<Void>?
  private var next = NIODeadline.uptimeNanoseconds(0)
  private var isRunning = false

  init(_ generation: Generation, _ function: LuaRef, after interval: TimeAmount, repeats: Bool) {
    self.generation = generation
    self.function = function
    self.interval = interval
    self.repeats = repeats
  }

  /// The first call is one interval from now, or from when the script is live.
  func start() {
    generation.add(self)
    generation.whenLive {
      guard self.function != nil else { return }
      self.next = self.generation.host.loop.now + self.interval
      if !self.generation.timersArePaused { self.schedule() }
    }
  }

  /// Its generation does not serve for now.
  func pause() {
    scheduled?.cancel()
    scheduled = nil
  }

  /// It serves again: a beat begins anew, a single call that came due meanwhile is made now.
  func resume() {
    guard function != nil, scheduled == nil, generation.phase != .loading else { return }
    let now = generation.host.loop.now
    next = repeats ? now + interval : max(now, next)
    schedule()
  }

  private func schedule() {
    scheduled = generation.host.loop.assumeIsolated().scheduleTask(deadline: next) { self.fire() }
  }

  private func fire() {
    guard let function else { return }
    if repeats {
      // Calls that came due while the loop was busy are left out, and the beat is kept.
      let now = generation.host.loop.now
      next = next + interval
      if next < now { next = now + interval }
      schedule()
      if isRunning { return }
    }
    isRunning = true
    generation.host.startCallback(function, arguments: [], generation: generation, place: repeats ? "every" : "after") {
      self.isRunning = false
      if !self.repeats { self.cancel() }
    }
  }

  /// Harmless when done already.
  func cancel() {
    scheduled?.cancel()
    scheduled = nil
    guard let function else { return }
    self.function = nil
    generation.host.vm.release(function)
    generation.remove(self)
  }

  static var methods: [(String, HostFunction)] {
    [
      (
        "cancel",
        bound { call in
          guard let timer = call.object(0, as: TimerObject.self) else {
            throw Misuse("bad self of 'cancel' (p2pd.timer expected, got \(call.kindName(0)))")
          }
          timer.cancel()
          return .none
        }
      )
    ]
  }
}

extension ScriptHost {
  func after(_ call: borrowing LuaCall) throws -> LuaReturn { try timer(call, "after", repeats: false) }
  func every(_ call: borrowing LuaCall) throws -> LuaReturn { try timer(call, "every", repeats: true) }

  private func timer(_ call: borrowing LuaCall, _ name: String, repeats: Bool) throws -> LuaReturn {
    let generation = try owner(call)
    guard let interval = try call.seconds(1, 1, name) else { throw call.need(1, 1, name, "number") }
    if repeats, interval < .milliseconds(1) {
      throw Misuse("bad argument #1 to 'every' (at least 0.001 seconds expected)")
    }
    let timer = TimerObject(generation, try call.needFunction(2, 2, name), after: interval, repeats: repeats)
    timer.start()
    return .object(timer)
  }

  func sleep(_ call: borrowing LuaCall) throws -> LuaReturn {
    try refuseAtTopLevel("sleep", call)
    guard let seconds = call.number(0) else { throw call.need(0, 1, "sleep", "number") }
    let time = try call.seconds(0, 1, "sleep")
    guard call.canWait else { return .wait }
    let waiter = wait(call.wait)
    // `math.huge`: until the task is cancelled.
    if seconds == .infinity { return .wait }
    let timer = loop.assumeIsolated().scheduleTask(in: time ?? .zero) { waiter.finish([]) }
    waiter.giveUp = { timer.cancel() }
    return .wait
  }

  func now(_ call: borrowing LuaCall) throws -> LuaReturn {
    .one(.number(Double(loop.now.uptimeNanoseconds) / 1e9))
  }
}
