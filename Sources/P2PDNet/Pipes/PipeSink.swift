import NIOCore

/// Who gets a pipe's messages and events. All calls come on the pipe's event loop.
public protocol PipeSink: AnyObject {
  /// The pipe can send now (TLS done).
  func pipeOpened(_ pipe: Pipe)

  /// A message. The bytes are valid during the call only. `false` means busy: the pipe keeps the message and all
  /// later ones in its inbox until ``Pipe/ready()``.
  func pipe(_ pipe: Pipe, message: UnsafeRawBufferPointer, from peer: Peer) -> Bool

  /// It stands on another path now: strategy, path and endpoints are that one's.
  func pipeMoved(_ pipe: Pipe)

  /// Called exactly once, after the last message.
  func pipeEnded(_ pipe: Pipe, reason: EndReason)

  /// A server asks before it spends memory on a connection. `false` closes it.
  func pipeShouldAccept(from peer: Peer, by server: Pipe) -> Bool

  /// A server took a connection (TLS done): its sink, or nil to close it. ``pipeOpened(_:)`` of that sink follows.
  func pipeAccepted(_ pipe: Pipe, by server: Pipe) -> (any PipeSink)?

  /// A connection died before it was open: a failed or slow TLS handshake.
  func pipeAcceptFailed(from peer: Peer, error: NetError, by server: Pipe)
}

/// Sees the messages of a pipe go by and changes nothing. Calls come on the pipe's event loop, in the middle of sending
/// and receiving: what it does with a message is a copy at most.
public protocol PipeTap: AnyObject {
  /// A message arrived and is about to be handed out. The bytes are valid during the call only.
  func pipe(_ pipe: Pipe, received bytes: UnsafeRawBufferPointer, from peer: Peer)

  /// A message was taken for sending. `peer` is nil where nobody can be named.
  func pipe(_ pipe: Pipe, sent bytes: UnsafeRawBufferPointer, to peer: Peer?)
}

extension PipeSink {
  public func pipeOpened(_ pipe: Pipe) {}
  public func pipeMoved(_ pipe: Pipe) {}
  public func pipeEnded(_ pipe: Pipe, reason: EndReason) {}
  public func pipeShouldAccept(from peer: Peer, by server: Pipe) -> Bool { true }
  public func pipeAccepted(_ pipe: Pipe, by server: Pipe) -> (any PipeSink)? { nil }
  public func pipeAcceptFailed(from peer: Peer, error: NetError, by server: Pipe) {}
}
