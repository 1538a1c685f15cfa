import Glibc

/// Expiry goes by the calendar, so that all servers of a set agree.
enum UnixClock {
  /// Seconds since 1970; 0 for a clock before that.
  static let now: @Sendable () -> UInt64 = { UInt64(clamping: time(nil)) }
}
