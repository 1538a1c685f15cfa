import Logging

/// swift-log's handler of the command line: each event as one line to standard error. Never waits for who reads it.
struct ConsoleLog: LogHandler {
  let label: String
  var logLevel: Logger.Level
  var metadata: Logger.Metadata = [:]
  let format: LogFormat
  let colours: Bool
  let withDate: Bool
  /// Keeps the lines for those who ask later.
  var ring: LogRing?
  var queue = LogQueue.shared

  func log(event: LogEvent) {
    var all = metadata
    if let more = event.metadata { all.merge(more) { $1 } }
    if let error = event.error, all["error"] == nil { all["error"] = "\(error)" }
    let line = LogLine(time: .now, level: event.level, label: label, message: event.message.description, metadata: all)
    ring?.add(line)
    queue.add(shown(line)) { [self] count in
      let message = "\(count) log line\(count == 1 ? " was" : "s were") lost: standard error is not read fast enough"
      return shown(LogLine(time: .now, level: .warning, label: label, message: message, metadata: [:]))
    }
  }

  private func shown(_ line: LogLine) -> String {
    format == .json ? line.json : line.text(colours: colours, withDate: withDate)
  }

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }
}
