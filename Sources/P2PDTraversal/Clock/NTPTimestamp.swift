import NIOCore

/// A moment as NTP writes it (RFC 5905 §6): the seconds since 1900 in the upper 32 bits, which begin anew in 2036 and
/// every 136 years after that, and their fraction in the lower. Two of them can be compared while they are less than 68
/// years apart, whatever the era.
public struct NTPTimestamp: Hashable, Sendable {
  public var bits: UInt64

  public init(bits: UInt64) { self.bits = bits }

  /// - Parameter unixNanoseconds: since 1970, as `clock_gettime` tells.
  public init(unixNanoseconds: Int64) {
    let (whole, rest) = unixNanoseconds.floored(by: 1_000_000_000)
    let seconds = UInt64(truncatingIfNeeded: whole &+ Self.from1900to1970)
    bits = seconds << 32 | (UInt64(rest) << 32) / 1_000_000_000
  }

  /// How much later than the other it is; below zero where it is earlier.
  public func since(_ other: NTPTimestamp) -> TimeAmount {
    let difference = Int64(bitPattern: bits &- other.bits)
    let fraction = ((difference & 0xffff_ffff) * 1_000_000_000) >> 32
    return .nanoseconds((difference >> 32) * 1_000_000_000 + fraction)
  }

  public func advanced(by time: TimeAmount) -> NTPTimestamp {
    let (whole, rest) = time.nanoseconds.floored(by: 1_000_000_000)
    return NTPTimestamp(bits: bits &+ UInt64(bitPattern: whole << 32) &+ (UInt64(rest) << 32) / 1_000_000_000)
  }

  /// RFC 868: 70 years with 17 leap days.
  private static let from1900to1970: Int64 = 2_208_988_800
}

/// NTP's short form (RFC 5905 §6): seconds in the upper 16 bits, their fraction in the lower.
public struct NTPShort: Hashable, Sendable {
  public var bits: UInt32

  public init(bits: UInt32) { self.bits = bits }

  public var time: TimeAmount { .nanoseconds((Int64(bits) * 1_000_000_000) >> 16) }
}

extension Int64 {
  /// Quotient and remainder, the latter never below zero.
  fileprivate func floored(by divisor: Int64) -> (Int64, Int64) {
    let (quotient, remainder) = quotientAndRemainder(dividingBy: divisor)
    return remainder < 0 ? (quotient - 1, remainder + divisor) : (quotient, remainder)
  }
}
