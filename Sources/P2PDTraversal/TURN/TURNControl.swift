import NIOCore
import P2PDNet

/// The way to a TURN server on which requests, indications and channels travel. Confined to its loop.
protocol TURNControl: AnyObject {
  /// Whom it leads to.
  var server: Endpoint { get }
  /// Channel data is padded, and the connection tells by itself when it is lost.
  var isStream: Bool { get }

  func ask(
    _ message: STUNMessage, signed: STUNSignature?, _ done: @escaping (Result<STUNAnswer, NetError>) -> Void)
  /// Sends an indication or a channel's data.
  func send(_ frame: [UInt8]) -> SendOutcome
  /// Whom to tell of indications, of channels' data and of the end; asked for once.
  func listen(
    message: @escaping (STUNMessage) -> Void, data: @escaping (UInt16, UnsafeRawBufferPointer) -> Void,
    end: @escaping (EndReason) -> Void)
  func close()
}

/// What a client and its TURN server talk over.
public enum TURNWay: String, Hashable, Sendable, CaseIterable { case udp, tcp, tls }

extension STUNStream: TURNControl {
  var isStream: Bool { true }

  func ask(
    _ message: STUNMessage, signed: STUNSignature?, _ done: @escaping (Result<STUNAnswer, NetError>) -> Void
  ) {
    ask(message, signed: signed, schedule: Self.patience, done)
  }

  func send(_ frame: [UInt8]) -> SendOutcome { frame.withUnsafeBytes { pipe.send($0) } }

  func listen(
    message: @escaping (STUNMessage) -> Void, data: @escaping (UInt16, UnsafeRawBufferPointer) -> Void,
    end: @escaping (EndReason) -> Void
  ) {
    onMessage = message
    onChannelData = data
    onEnd = end
  }

  /// A connection that is silent for so long is lost: TCP itself would take minutes to say so.
  private static let patience = STUNTransaction.Schedule(rto: .seconds(10), requests: 1, lastWait: 1)
}

/// A UDP socket that speaks with one server. Confined to its loop.
final class TURNDatagrams: TURNControl, @unchecked Sendable {
  let server: Endpoint
  let isStream = false
  private let socket: STUNSocket
  private let peer: Peer

  /// - Parameter name: the server's, to be looked up; an address is one too.
  static func open(
    to name: String, port: UInt16, interface: String?, on loop: any EventLoop
  ) -> EventLoopFuture<TURNDatagrams> {
    let network: any Network
    do {
      network = try loop.requireNetwork("ask \(name)")
    } catch {
      return loop.makeFailedFuture(error)
    }
    return network.resolve(name, families: [.v4, .v6], timeout: .seconds(5)).flatMap { found in
      guard let ip = found.first(where: { $0.family == .v4 }) ?? found.first else {
        return loop.makeFailedFuture(NetError(.dns, "resolve \(name)", cause: "the name has no address"))
      }
      let bind = Endpoint(ip: .wildcard(ip.family), port: 0)
      return STUNSocket.open(bind: bind, interface: interface, on: loop).map { socket in
        TURNDatagrams(socket, Endpoint(ip: ip, port: port))
      }
    }
  }

  private init(_ socket: STUNSocket, _ server: Endpoint) {
    self.socket = socket
    self.server = server
    peer = socket.pipe.peer(for: server)
  }

  func ask(
    _ message: STUNMessage, signed: STUNSignature?, _ done: @escaping (Result<STUNAnswer, NetError>) -> Void
  ) {
    socket.ask(message, server, signed: signed, schedule: Self.patience, done)
  }

  func send(_ frame: [UInt8]) -> SendOutcome { frame.withUnsafeBytes { socket.pipe.send($0, to: peer) } }

  func listen(
    message: @escaping (STUNMessage) -> Void, data: @escaping (UInt16, UnsafeRawBufferPointer) -> Void,
    end: @escaping (EndReason) -> Void
  ) {
    let server = server
    socket.onDatagram = { bytes, source in
      guard source.isSame(as: server), let frame = TURNFrame(datagram: [UInt8](bytes)[...]) else { return }
      switch frame {
      case .message(let answer): message(answer)
      case .channelData(let channel, let bytes): bytes.withUnsafeBytes { data(channel, $0) }
      }
    }
  }

  func close() { socket.close() }

  /// At 0, 0.3, 0.9, 2.1 and 4.5 s, given up at 9.3 s.
  private static let patience = STUNTransaction.Schedule(rto: .milliseconds(300), requests: 5, lastWait: 16)
}
