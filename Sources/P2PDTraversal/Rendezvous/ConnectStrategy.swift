/// The ways to come to a pipe, under P2PD's names.
public enum ConnectStrategy: String, Hashable, Sendable, CaseIterable {
  /// The node that connects dials the other one.
  case direct
  /// The other one dials back.
  case reverse
  /// Both dial at the same time, so that each one's router takes the other's call for an answer.
  case punch
  /// Over a server that both can reach.
  case relay
}
