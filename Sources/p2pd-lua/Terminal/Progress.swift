/// How far a piped input is: bytes, rate, and where the size is known the share and the time left. The time comes in
/// as seconds of any clock that does not jump.
struct Progress: Sendable {
  /// Bytes in all, where the input is a file.
  let total: Int?
  private(set) var done = 0
  private let start: Double
  private var lastDrawn: Double

  init(total: Int?, now: Double) {
    self.total = total
    start = now
    lastDrawn = now
  }

  mutating func advance(_ bytes: Int) { done += bytes }

  /// The line to show, at most ``perSecond`` times a second and not before ``patience`` is over.
  mutating func line(now: Double) -> String? {
    guard now - start >= Self.patience, now - lastDrawn >= 1 / Self.perSecond else { return nil }
    lastDrawn = now
    return "\r" + text(now: now) + "\u{1b}[K"
  }

  /// `12.5 MiB of 100 MiB (12 %), 3.1 MiB/s, 28 s left`.
  func text(now: Double) -> String {
    let seconds = max(now - start, 1e-9)
    let rate = Double(done) / seconds
    var out = Self.amount(Double(done))
    if let total, total > 0 {
      out += " of \(Self.amount(Double(total))) (\(Int(min(100, Double(done) * 100 / Double(total)))) %)"
    }
    out += ", \(Self.amount(rate))/s"
    if let total, rate > 0, done < total { out += ", \(Self.duration(Double(total - done) / rate)) left" }
    return out
  }

  /// Three digits and a binary unit.
  static func amount(_ bytes: Double) -> String {
    var value = bytes
    var unit = 0
    while value >= 1023.5, unit + 1 < units.count {
      value /= 1024
      unit += 1
    }
    let tenths = Int((value * 10).rounded())
    let number =
      unit == 0 || tenths >= 1000 || tenths % 10 == 0 ? String(Int(value.rounded())) : "\(tenths / 10).\(tenths % 10)"
    return "\(number) \(units[unit])"
  }

  static func duration(_ seconds: Double) -> String {
    guard seconds < 100 * 3600 else { return "days" }
    let whole = Int(seconds.rounded(.up))
    if whole < 100 { return "\(whole) s" }
    return whole < 6000 ? "\(whole / 60) min" : "\(whole / 3600) h"
  }

  private static let units = ["B", "KiB", "MiB", "GiB", "TiB"]
  /// A transfer shorter than this shows no line at all.
  private static let patience = 0.5
  private static let perSecond = 10.0
}
