import NIOCore
import P2PDNet

/// One inside TCP port with connections from it to several STUN servers, all kept open: its mapping is measured and then
/// held, as a punch from that port needs it (a FIN may shorten the mapping's life).
///
/// Confined to its loop.
public final class TCPPort: @unchecked Sendable {
  /// The inside address and port.
  public let local: Endpoint
  public let interface: String?
  private let tls: ServerTLS?
  private let loop: any EventLoop
  /// Called when the last connection ended by itself.
  public var onLost: (() -> Void)?
  private var streams: [STUNStream] = []
  private var opening: [OpenTicket] = []
  private var isClosed = false

  /// - Parameters:
  ///   - ip: an address of this host.
  ///   - port: to connect from; a random one otherwise.
  ///   - tls: for servers that speak nothing else.
  public init(
    ip: IPAddress, port: UInt16? = nil, interface: String? = nil, tls: ServerTLS? = nil, on loop: any EventLoop
  ) {
    local = Endpoint(ip: ip, port: port ?? .random(in: Self.ports))
    self.interface = interface
    self.tls = tls
    self.loop = loop
  }

  /// Connects to the server from this port and asks for the mapping. The connection stays.
  public func ask(_ server: Endpoint, _ done: @escaping (Result<STUNAnswer, NetError>) -> Void) {
    ask(STUNPlace(server), done)
  }

  /// The same, over TLS where the server wants it.
  func ask(_ place: STUNPlace, _ done: @escaping (Result<STUNAnswer, NetError>) -> Void) {
    let server = place.endpoint
    guard !isClosed else { return done(.failure(NetError(.cancelled, "ask \(server) over TCP"))) }
    let ticket = OpenTicket()
    opening.append(ticket)
    STUNStream.connect(
      place, bind: local, interface: interface, tls: tls, timeout: Self.patience, ticket: ticket, on: loop
    ).assumeIsolated().whenComplete { result in
      self.opening.removeAll { $0 === ticket }
      switch result {
      case .failure(let error): done(.failure(NetError(error, "connect to \(server)")))
      case .success(let stream):
        guard !self.isClosed else {
          stream.close()
          return done(.failure(NetError(.cancelled, "ask \(server) over TCP")))
        }
        self.streams.append(stream)
        stream.onEnd = { [weak self, weak stream] _ in self?.lost(stream) }
        stream.bind(done)
      }
    }
  }

  /// Asks again over the first connection, which keeps the mapping and shows whether it is still the same.
  public func renew(_ done: @escaping (Result<STUNAnswer, NetError>) -> Void) {
    guard let stream = streams.first else {
      return loop.assumeIsolated().execute { done(.failure(NetError(.closed, "renew the mapping of \(self.local)"))) }
    }
    stream.bind(done)
  }

  private func lost(_ stream: STUNStream?) {
    streams.removeAll { $0 === stream }
    if streams.isEmpty, !isClosed { onLost?() }
  }

  /// Connections that hold the mapping now.
  public var connections: Int { streams.count }

  /// Closes the connections, those too that are still being made.
  public func close() {
    isClosed = true
    onLost = nil
    let streams = streams
    self.streams = []
    for stream in streams { stream.close() }
    let opening = opening
    self.opening = []
    for ticket in opening { ticket.cancel() }
  }

  /// Below the kernel's own choices, so that no other program has it, and in the range most routers keep.
  static let ports: ClosedRange<UInt16> = 10_000...32_767
  /// A SYN that is lost is sent again after 1 s; nobody waits longer for a server.
  private static let patience: TimeAmount = .milliseconds(2_500)
}
