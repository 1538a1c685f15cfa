import Logging
import LuaVM
import NIOCore

/// What becomes of a failure in the script.
extension Generation {
  /// A callback or task of the script failed: log, count, tell the script's own `error_cb`.
  func report(_ failure: LuaFailure, pipe: PipeFace?, in place: String, isMessage: Bool = false) {
    if case .cancelled = failure.kind { return }
    counters.errors &+= 1
    if isMessage { counters.failedMessages &+= 1 }
    if case .time = failure.kind { counters.kills &+= 1 }
    host.onFailure?(self, failure, place)
    let loop = host.loop
    reporter.report(now: loop.now) { suppressed in
      var metadata: Logger.Metadata = [:]
      if let pipe { metadata["pipe"] = "\(pipe.pipe.id)" }
      var text = "\(place) failed: \(failure.message)"
      if !failure.traceback.isEmpty { text += "\n\(failure.traceback)" }
      if suppressed > 0 { text += "\n(\(suppressed) more errors since the last one shown)" }
      logger.error("\(text)", metadata: metadata)
    }
    if phase == .live { hosted?.failed(in: self, failure, place) }
    guard let errorCallback, place != Self.errorPlace else { return }
    let value = Self.errorValue(failure)
    var arguments = [value]
    if let ref = pipe?.pipeRef { arguments.append(.ref(ref)) }
    host.startCallback(errorCallback, arguments: arguments, generation: self, place: Self.errorPlace)
  }

  /// What `error_cb` gets. The engine's own error values left their metatable behind on the way out of the VM.
  private static func errorValue(_ failure: LuaFailure) -> LuaValue {
    if failure.value.isNil { return .string(failure.message) }
    if case .table = failure.value, let code = failure.value["code"].text {
      return .object(ErrorObject(code: code, message: failure.value["message"].text ?? failure.message))
    }
    return failure.value
  }

  static let errorPlace = "error_cb"
}

/// Which errors are written out: a handler that fails at every message must not fill the disk.
struct ErrorReporter {
  let perSecond: Int
  private var windowStart: NIODeadline?
  private var shown = 0
  private var suppressed = 0

  init(perSecond: Int) { self.perSecond = max(1, perSecond) }

  /// Calls `write` with the number of errors left out since the last one written, if this one is to be written.
  mutating func report(now: NIODeadline, _ write: (Int) -> Void) {
    if let start = windowStart, now - start < .seconds(1) {
      guard shown < perSecond else {
        suppressed += 1
        return
      }
    } else {
      windowStart = now
      shown = 0
    }
    shown += 1
    write(suppressed)
    suppressed = 0
  }
}
