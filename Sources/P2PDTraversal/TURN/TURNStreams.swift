import NIOCore
import P2PDNet

/// Takes the streams of one TCP allocation, each over a connection of its own to the server (RFC 6062 §4.4), of which one may
/// be made in advance: that saves a peer that connects one round trip, over TLS two.
///
/// Confined to its loop. Nobody hears anything after ``close()``, which leaves the streams that were handed out alone.
final class TURNStreams: @unchecked Sendable {
  private let allocation: TURNAllocation
  private let loop: any EventLoop
  private var spare: Spare?
  private var isPreparing = false
  private var tickets: [Int: OpenTicket] = [:]
  private var lastTicket = 0
  private var taking: [ObjectIdentifier: STUNStream] = [:]
  private var isClosed = false

  /// A connection to the server that waits for a peer.
  private struct Spare {
    let stream: STUNStream
    let since: NIODeadline
  }

  init(of allocation: TURNAllocation, on loop: any EventLoop) {
    self.allocation = allocation
    self.loop = loop
  }

  /// Has one connection ready, from soon on until it is used.
  func prepare() {
    guard spare == nil, !isPreparing, !isClosed else { return }
    isPreparing = true
    connectBeside { [self] result in
      isPreparing = false
      guard case .success(let stream) = result else { return }
      guard spare == nil else { return stream.close() }
      spare = Spare(stream: stream, since: loop.now)
      stream.onEnd = { [weak self, weak stream] _ in
        guard let self, let held = spare, held.stream === stream else { return }
        spare = nil
        // Servers drop idle connections after a while (coturn: a minute). One that does at once shall not be bothered.
        if loop.now - held.since >= Self.shortestSpare { prepare() }
      }
    }
  }

  /// The stream to a peer whose connection waits at the server under this number.
  func take(_ id: UInt32, _ done: @escaping (Result<Transport, NetError>) -> Void) {
    guard !isClosed else { return }
    guard let spare else { return takeAfresh(id, done) }
    self.spare = nil
    spare.stream.onEnd = nil
    take(id, over: spare.stream, isSpare: true, done)
  }

  func close() {
    isClosed = true
    spare?.stream.close()
    spare = nil
    for ticket in tickets.values { ticket.cancel() }
    tickets = [:]
    let taking = taking.values
    self.taking = [:]
    for stream in taking { stream.close() }
  }

  private func takeAfresh(_ id: UInt32, _ done: @escaping (Result<Transport, NetError>) -> Void) {
    connectBeside { [self] result in
      switch result {
      case .success(let stream): take(id, over: stream, isSpare: false, done)
      case .failure(let error): done(.failure(error))
      }
    }
  }

  private func take(
    _ id: UInt32, over stream: STUNStream, isSpare: Bool, _ done: @escaping (Result<Transport, NetError>) -> Void
  ) {
    taking[ObjectIdentifier(stream)] = stream
    allocation.take(id, over: stream) { [self] result in
      taking[ObjectIdentifier(stream)] = nil
      switch result {
      case .success(let transport) where isClosed: transport.close(linger: false)
      case .failure where isClosed: break
      // The server may have dropped a connection that lay idle, with nothing told to us yet.
      case .failure(let error) where isSpare && (error.code == .closed || error.code == .reset): takeAfresh(id, done)
      default: done(result)
      }
    }
  }

  /// - Parameter done: does not come after ``close()``.
  private func connectBeside(_ done: @escaping (Result<STUNStream, NetError>) -> Void) {
    let ticket = OpenTicket()
    lastTicket += 1
    let number = lastTicket
    tickets[number] = ticket
    allocation.connectBeside(ticket).assumeIsolated().whenComplete { [self] result in
      let isWanted = tickets.removeValue(forKey: number) != nil
      switch result {
      case .success(let stream):
        guard isWanted else { return stream.close() }
        done(.success(stream))
      case .failure(let error): if isWanted { done(.failure(NetError(error, "connect to the relay"))) }
      }
    }
  }

  private static let shortestSpare: TimeAmount = .seconds(10)
}
