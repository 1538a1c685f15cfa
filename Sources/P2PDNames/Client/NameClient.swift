import Logging
import NIOCore
import P2PDNet

/// Asks and tells the name servers.
///
/// Confined to its event loop.
public final class NameClient: @unchecked Sendable {
  public let sets: [NameSet]
  private let conf: NameClientConf
  private let loop: any EventLoop

  public init(sets: [NameSet], conf: NameClientConf = NameClientConf(), on loop: any EventLoop, logger: Logger? = nil) {
    (self.sets, self.conf, self.loop) = (sets, conf, loop)
  }

  /// The set that knows the names of this TLD.
  public func set(of tld: String) -> NameSet? { sets.first { $0.tld == tld } }

  /// Asks all servers of the name's set. The future succeeds with what came out, good or bad, and fails only where
  /// nobody could be asked: `bad_name` for an unknown TLD, `closed`.
  /// - Parameter waitForAll: answer when every server has spoken or its time is over, not at the first majority.
  public func lookup(_ name: PeerName, waitForAll: Bool = false) -> EventLoopFuture<NameAnswer> {
    loop.makeFailedFuture(NetError(.closed, "look up \(name)"))
  }

  /// Registers or changes a name: succeeds with the record that a majority accepted.
  /// - Parameters:
  ///   - lifetime: how long it lasts without being pushed again, at most 7 days.
  ///   - sequence: the last sequence number this owner used for the name, 0 if it does not know.
  /// Fails with `taken`, `no_quorum`, `unreachable`, `limit`, `too_large`, `bad_name`.
  public func push(
    _ name: PeerName, value: String, as owner: NameOwner, lifetime: TimeAmount = .hours(7 * 24),
    after sequence: UInt64 = 0
  ) -> EventLoopFuture<NameRecord> {
    loop.makeFailedFuture(NetError(.closed, "push \(name)"))
  }

  /// Gives a name up: succeeds with the tombstone that a majority accepted. Fails as ``push(_:value:as:lifetime:after:)``.
  public func delete(_ name: PeerName, as owner: NameOwner, after sequence: UInt64 = 0) -> EventLoopFuture<NameRecord> {
    loop.makeFailedFuture(NetError(.closed, "delete \(name)"))
  }

  /// Gives up what is under way (`closed`) and closes every connection. Twice is harmless.
  public func close() {}
}
