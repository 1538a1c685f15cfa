import P2PDNames
import P2PDNet

/// Something to be stored, and by whose request.
struct NameChange: Sendable {
  /// Checked: signature and lifetime are good.
  let record: NameRecord
  let source: Source
}

/// What came of it. Only the first three mean that the record is on disk.
enum NameOutcome: Sendable {
  case registered
  case replaced
  case same
  case wrongKey
  case stale(NameRecord)
  /// An allowance is full.
  /// - Parameter retry: seconds until the first of what fills it expires.
  case limit(String, retry: UInt64)
  /// Nothing was stored: disk full, disk broken.
  case failed(NetError)
}
