import NIOCore
import P2PDNet
import Testing

@testable import P2PDSignaling
@testable import P2PDTraversal

/// A broker on a simulated host: hands every PUBLISH to whoever subscribed its topic. Confined to the host's loop.
final class MemoryBroker: PipeSink, @unchecked Sendable {
  let broker: Broker
  private var server: Pipe?
  private var readers: [UInt64: MQTTReader] = [:]
  private var pipes: [UInt64: Pipe] = [:]
  private var topics: [UInt64: Set<String>] = [:]
  /// Messages it takes and does not hand on, as one that is about to end.
  var loses: ((MQTTPublish) -> Bool)?
  /// Messages handed on.
  private(set) var carried = 0

  var connections: Int { pipes.count }
  var url: ServerURL { ServerURL(.mqtt, host: broker.host, port: broker.port) }

  private init(_ name: String) { broker = Broker(host: name, port: 1883, tls: false) }

  static func start(on host: MemoryHost) async throws -> MemoryBroker {
    let made = MemoryBroker(host.name)
    made.server = try await PipeOpener.open(
      .tcp, bind: Endpoint(ip: .wildcard(.v4), port: 1883), sink: made, on: host.loop
    ).get()
    return made
  }

  func pipeAccepted(_ pipe: Pipe, by server: Pipe) -> (any PipeSink)? {
    readers[pipe.id] = MQTTReader(limit: 1 << 20)
    pipes[pipe.id] = pipe
    return self
  }

  func pipe(_ pipe: Pipe, message: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    try? readers[pipe.id]?.feed(message) { packet, _ in took(packet, pipe) }
    return true
  }

  func pipeEnded(_ pipe: Pipe, reason: EndReason) {
    readers[pipe.id] = nil
    pipes[pipe.id] = nil
    topics[pipe.id] = nil
  }

  private func took(_ packet: MQTTPacket, _ pipe: Pipe) {
    switch packet {
    case .connect: send(.connack(sessionPresent: false, code: 0), pipe)
    case .subscribe(let id, let filters):
      topics[pipe.id, default: []].formUnion(filters.map(\.topic))
      send(.suback(id: id, codes: filters.map { _ in 0 }), pipe)
    case .publish(let message):
      if let id = message.id { send(.puback(id: id), pipe) }
      if loses?(message) ?? false { return }
      for (id, wanted) in topics where wanted.contains(message.topic) {
        carried += 1
        if let receiver = pipes[id] {
          send(.publish(MQTTPublish(topic: message.topic, payload: message.payload)), receiver)
        }
      }
    case .pingreq: send(.pingresp, pipe)
    default: break
    }
  }

  private func send(_ packet: MQTTPacket, _ pipe: Pipe) {
    _ = MQTTCodec.encode(packet).withUnsafeBytes { pipe.send($0) }
  }
}

/// A STUN server on a simulated host, over UDP. It tells every asker what `outside` makes of its address.
final class MemorySTUN: PipeSink, @unchecked Sendable {
  var outside: (Endpoint) -> Endpoint = { $0 }
  private(set) var requests = 0
  private let name: String

  var url: ServerURL { ServerURL(.stun, host: name) }

  private init(_ name: String) { self.name = name }

  static func start(on host: MemoryHost) async throws -> MemorySTUN {
    let made = MemorySTUN(host.name)
    for family in AddressFamily.allCases {
      _ = try await PipeOpener.open(
        .udp, bind: Endpoint(ip: .wildcard(family), port: STUNServer.defaultPort), sink: made, on: host.loop
      ).get()
    }
    return made
  }

  func pipe(_ pipe: Pipe, message bytes: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    guard let request = try? STUNMessage(decoding: [UInt8](bytes)), let source = peer.endpoint else { return true }
    requests += 1
    let answer = STUNMessage(
      .success, .binding, transaction: request.transaction, attributes: [.xorMappedAddress(outside(source))])
    if let bytes = try? answer.encoded() { _ = bytes.withUnsafeBytes { pipe.send($0, to: peer) } }
    return true
  }
}
