import NIOCore
import P2PDNet
import Testing

@testable import P2PDTraversal

func ep(_ text: String) -> Endpoint { Endpoint(text) ?? Endpoint(ip: .wildcard(.v4), port: 0) }

/// Bytes written as hexadecimal digits; blanks between them are for the eye.
func hex(_ text: String) -> [UInt8] {
  let digits = text.compactMap(\.hexDigitValue)
  return stride(from: 0, to: digits.count - 1, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
}

/// A time on a clock that a test sets.
func at(_ milliseconds: Int64) -> NIODeadline { .uptimeNanoseconds(0) + .milliseconds(milliseconds) }
