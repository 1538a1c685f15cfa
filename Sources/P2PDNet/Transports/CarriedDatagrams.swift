import NIOCore

/// Datagrams that something other than a socket carries, a relay say, as the transport of a pipe: whoever carries them says
/// what came in and is handed what goes out.
public final class CarriedDatagrams: Transport, @unchecked Sendable {
  private let carry: (UnsafeRawBufferPointer, Endpoint) -> NetError?
  private var closed: (() -> Void)?
  private var senders = SenderTable(isDualStack: false)

  /// - Parameters:
  ///   - local: where peers send to.
  ///   - carry: takes a datagram for that peer; nil, or why not. The bytes are valid during the call only.
  ///   - closed: the pipe was closed.
  public init(
    local: Endpoint, carry: @escaping (UnsafeRawBufferPointer, Endpoint) -> NetError?, closed: @escaping () -> Void
  ) {
    self.carry = carry
    self.closed = closed
    super.init()
    localEndpoint = local
  }

  /// A datagram came.
  public func received(_ bytes: UnsafeRawBufferPointer, from sender: Endpoint) {
    owner?.received(datagram: bytes, from: peer(for: sender))
  }

  /// Nothing will come any more.
  public func end(_ error: NetError) {
    closed = nil
    let owner = owner
    self.owner = nil
    owner?.transportEnded(.error(error))
    becomeGone()
  }

  override func send(_ header: FrameHeader, _ body: UnsafeRawBufferPointer, to peer: Peer?, corked: Bool) -> NetError? {
    guard let endpoint = peer?.endpoint else { return NetError(.badAddress, "send", cause: "there is no receiver") }
    guard closed != nil else { return NetError(.closed, "send", cause: "the pipe is closed") }
    return carry(body, endpoint)
  }

  // Who is in the middle of a datagram holds its sender: nothing needs to be kept.
  override func peer(for endpoint: Endpoint) -> Peer { senders.peer(for: endpoint) { _ in } }

  public override func close(linger: Bool) {
    owner = nil
    let told = closed
    closed = nil
    told?()
    becomeGone()
  }
}
