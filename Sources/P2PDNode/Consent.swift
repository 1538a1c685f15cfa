import NIOCore
import P2PDNet

/// What a stranger asks this node to do so that a pipe comes about: dial addresses that the stranger chose.
public struct ConsentInfo: Hashable, Sendable {
  /// The protocol the pipe is to speak; "" is the default one.
  public var protocolName: String
  /// The strategies it wants this node to take part in, by their names.
  public var strategies: [String]
  /// What this node would dial.
  public var addresses: [Endpoint]

  public init(protocolName: String, strategies: [String], addresses: [Endpoint]) {
    self.protocolName = protocolName
    self.strategies = strategies
    self.addresses = addresses
  }
}

/// Decides whether the node with this key may have its wish. May take its time; a failure is a refusal.
public typealias Consent = (NodeKey, ConsentInfo) -> EventLoopFuture<Bool>
