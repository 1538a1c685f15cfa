import NIOCore

/// TLS with the servers one uses. The roots that their certificates are checked against are a hundred files or more: they
/// are read when the first server needs them, on a thread that may block, and once for all who share this.
///
/// Confined to its loop.
public final class ServerTLS: @unchecked Sendable {
  private let loop: any EventLoop
  private let read: @Sendable () throws -> TLSSetup
  private var made: EventLoopFuture<TLSSetup>?

  /// - Parameter caFile: PEM file or folder of trusted roots; nil takes the system's.
  public convenience init(caFile: String? = nil, on loop: any EventLoop) {
    self.init(on: loop) { try TLSSetup.client(caFile: caFile) }
  }

  /// What is there already.
  public convenience init(_ setup: TLSSetup, on loop: any EventLoop) {
    self.init(on: loop) { setup }
    made = loop.makeSucceededFuture(setup)
  }

  init(on loop: any EventLoop, read: @escaping @Sendable () throws -> TLSSetup) {
    self.loop = loop
    self.read = read
  }

  /// Fails with ``NetError`` `tls`, and is read anew then by who comes next: a file that is not there may be there later.
  public func setup() -> EventLoopFuture<TLSSetup> {
    loop.assertInEventLoop()
    if let made { return made }
    let (loop, read) = (loop, read)
    let reading = loop.run { try await loop.offload(read) }
    made = reading
    reading.assumeIsolated().whenFailure { [weak self] _ in self?.made = nil }
    return reading
  }
}
