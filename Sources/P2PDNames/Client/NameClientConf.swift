import Glibc
import NIOCore

/// How ``NameClient`` asks.
public struct NameClientConf: Sendable {
  /// For one request to one server, connecting included.
  public var patience: TimeAmount = .seconds(4)
  /// PEM file or folder of the roots that `https` servers' certificates are checked against; nil takes the system's.
  public var caFile: String?
  /// Seconds since 1970: records expire by calendar.
  public var clock: @Sendable () -> UInt64 = { UInt64(max(0, time(nil))) }  // clock: as said above

  public init() {}
}
