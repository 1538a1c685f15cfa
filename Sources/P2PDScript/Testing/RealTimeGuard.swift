import Dispatch

/// Watches over tests from outside of their time: one that takes too long on the wall's clock is cancelled, and where even
/// that does not help, because its thread is stuck, somebody is told who can end the process.
final class RealTimeGuard: Sendable {
  private let seconds: Double
  private let queue = DispatchQueue(label: "p2pd.test.guard")

  struct Watch {
    fileprivate let timers: [any DispatchSourceTimer]
  }

  init(seconds: Double) { self.seconds = seconds }

  func watch(
    _ test: TestCase, _ runaway: (@Sendable (TestCase) -> Void)?, late: @escaping @Sendable () -> Void
  ) -> Watch {
    Watch(timers: [timer(seconds, late), timer(seconds + Self.grace) { runaway?(test) }])
  }

  func stop(_ watch: Watch) { for timer in watch.timers { timer.cancel() } }

  private func timer(_ seconds: Double, _ body: @escaping @Sendable () -> Void) -> any DispatchSourceTimer {
    let timer = DispatchSource.makeTimerSource(queue: queue)
    timer.schedule(deadline: .now() + seconds)
    timer.setEventHandler(handler: body)
    timer.activate()
    return timer
  }

  /// Seconds between the polite way and the other.
  private static let grace = 5.0
}
