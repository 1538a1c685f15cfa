import Glibc

/// The `Date` header (RFC 9110 §5.6.7, §6.6.1), written once a second.
struct HTTPDate {
  private var second: UInt64?
  private var text = ""

  /// - Parameter now: seconds since 1970.
  mutating func at(_ now: UInt64) -> String {
    guard now != second else { return text }
    second = now
    var time = time_t(clamping: now)
    var parts = tm()
    guard gmtime_r(&time, &parts) != nil else { return text }
    func two(_ number: CInt) -> String { (number < 10 ? "0" : "") + "\(number)" }
    let day = Self.days[Int(parts.tm_wday) % 7]
    let month = Self.months[Int(parts.tm_mon) % 12]
    let clock = [parts.tm_hour, parts.tm_min, parts.tm_sec].map(two).joined(separator: ":")
    text = "\(day), \(two(parts.tm_mday)) \(month) \(Int(parts.tm_year) + 1900) \(clock) GMT"
    return text
  }

  private static let days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
  private static let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
}
