import ArgumentParser
import Glibc
import Logging
import P2PDNet

/// The two shapes of a log line.
enum LogFormat: String, CaseIterable, Sendable, ExpressibleByArgument {
  case text
  case json
}

/// A moment of the wall clock, for log lines.
struct LogTime: Sendable {
  var seconds: Int
  var milliseconds: Int

  init(seconds: Int, milliseconds: Int) {
    self.seconds = seconds
    self.milliseconds = milliseconds
  }

  static var now: LogTime {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return LogTime(seconds: time.tv_sec, milliseconds: time.tv_nsec / 1_000_000)
  }

  /// Reads what ``utc`` writes.
  init?(utc text: String) {
    let parts = text.split { "-T:.Z".contains($0) }.compactMap { Int($0) }
    guard parts.count == 7, text.hasSuffix("Z"), parts.allSatisfy({ (0...9999).contains($0) }) else { return nil }
    var date = tm()
    date.tm_year = Int32(parts[0] - 1900)
    date.tm_mon = Int32(parts[1] - 1)
    date.tm_mday = Int32(parts[2])
    date.tm_hour = Int32(parts[3])
    date.tm_min = Int32(parts[4])
    date.tm_sec = Int32(parts[5])
    self.init(seconds: timegm(&date), milliseconds: parts[6])
  }

  /// RFC 3339, UTC: `2026-03-01T12:00:00.123Z`.
  var utc: String {
    var seconds = time_t(self.seconds)
    var parts = tm()
    gmtime_r(&seconds, &parts)
    return "\(date(parts))T\(clock(parts))Z"
  }

  /// The local time of day, `12:00:00.123`; with the date in front where the log is kept.
  func local(withDate: Bool) -> String {
    var seconds = time_t(self.seconds)
    var parts = tm()
    localtime_r(&seconds, &parts)
    return withDate ? "\(date(parts)) \(clock(parts))" : clock(parts)
  }

  private func date(_ parts: tm) -> String {
    "\(padded(Int(parts.tm_year) + 1900, 4))-\(padded(Int(parts.tm_mon) + 1, 2))-\(padded(Int(parts.tm_mday), 2))"
  }

  private func clock(_ parts: tm) -> String {
    let time = [parts.tm_hour, parts.tm_min, parts.tm_sec].map { padded(Int($0), 2) }.joined(separator: ":")
    return "\(time).\(padded(milliseconds, 3))"
  }

  private func padded(_ value: Int, _ width: Int) -> String {
    let digits = String(value)
    return String(repeating: "0", count: max(0, width - digits.count)) + digits
  }
}

/// Turns a log event into one line of text or JSON. No clock, no file: the time comes in, the line goes out.
struct LogLine: Sendable {
  var time: LogTime
  var level: Logger.Level
  var label: String
  var message: String
  var metadata: Logger.Metadata

  /// `12:00:00.123 info  p2pd.node: message key=value`. Further lines of the message are indented (tracebacks have
  /// them, with tabs), control characters a peer may have put into it are shown as escapes.
  func text(colours: Bool, withDate: Bool) -> String {
    var out = colours ? "\u{1b}[2m" : ""
    out += time.local(withDate: withDate)
    if colours { out += "\u{1b}[0m" }
    let name = Self.name(level)
    out += colours ? " \u{1b}[\(Self.colour(level))m\(name)\u{1b}[0m" : " \(name)"
    out += String(repeating: " ", count: max(1, 8 - name.count))
    out += "\(Printable.line(label)): "
    out += message.split(separator: "\n", omittingEmptySubsequences: false)
      .map { Printable.line(String($0).replacing("\t", with: "  ")) }.joined(separator: "\n    ")
    for (key, value) in metadata.sorted(by: { $0.key < $1.key }) {
      out += colours ? " \u{1b}[2m\(key)=\u{1b}[0m" : " \(key)="
      out += Self.bare(value)
    }
    return out + "\n"
  }

  /// ``object`` on a line.
  var json: String { object.text + "\n" }

  /// One JSON object: `time`, `level`, `label`, `message`, and `metadata` where there is any.
  var object: JSONText {
    var members: [(String, JSONText)] = [
      ("time", .string(time.utc)), ("level", .string(level.rawValue)), ("label", .string(label)),
      ("message", .string(message)),
    ]
    if !metadata.isEmpty { members.append(("metadata", Self.json(.dictionary(metadata)))) }
    return .object(members)
  }

  private static func json(_ value: Logger.MetadataValue) -> JSONText {
    switch value {
    case .string(let string): .string(string)
    case .stringConvertible(let value): .string(value.description)
    case .array(let values): .array(values.map(json))
    case .dictionary(let members):
      .object(members.sorted { $0.key < $1.key }.map { ($0.key, json($0.value)) })
    }
  }

  /// A value as it stands, or in quotes where it would not be one word.
  private static func bare(_ value: Logger.MetadataValue) -> String {
    let text =
      switch value {
      case .string(let string): string
      case .stringConvertible(let value): value.description
      case .array, .dictionary: json(value).text
      }
    let isWord =
      !text.isEmpty && !text.unicodeScalars.contains { $0 == " " || $0 == "\"" || $0 == "=" || $0.value < 0x20 }
    return isWord ? Printable.line(text) : JSONText.string(text).text
  }

  private static func name(_ level: Logger.Level) -> String { level == .warning ? "warn" : level.rawValue }

  /// SGR colours: grey, cyan, green, plain bold, yellow, red.
  private static func colour(_ level: Logger.Level) -> String {
    switch level {
    case .trace: "90"
    case .debug: "36"
    case .info: "32"
    case .notice: "1"
    case .warning: "33"
    case .error: "31"
    case .critical: "1;31"
    }
  }
}

extension LogLine {
  /// Reads what ``object`` writes; nil where it is something else.
  init?(_ object: JSONText) {
    guard let time = object["time"]?.string.flatMap({ LogTime(utc: $0) }),
      let level = object["level"]?.string.flatMap({ Logger.Level(rawValue: $0) }),
      let label = object["label"]?.string, let message = object["message"]?.string
    else { return nil }
    (self.time, self.level, self.label, self.message) = (time, level, label, message)
    metadata = [:]
    for (key, value) in object["metadata"]?.members ?? [] { metadata[key] = Self.metadata(value) }
  }

  private static func metadata(_ value: JSONText) -> Logger.MetadataValue {
    switch value {
    case .string(let text): .string(text)
    case .array(let items): .array(items.map(metadata))
    case .object(let members): .dictionary(Dictionary(members.map { ($0.0, metadata($0.1)) }) { $1 })
    default: .string(value.text)
    }
  }
}
