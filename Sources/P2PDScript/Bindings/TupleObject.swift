import LuaVM
import NIOCore
import P2PDNet

/// `client_tup`: who a message is from. It does not know its peer, since the peer keeps the Lua object.
final class TupleObject {
  let host: String
  let port: Int
  let endpoint: Endpoint?

  init(_ peer: Peer) {
    host = peer.host
    port = peer.port
    endpoint = peer.endpoint
  }

  init(_ endpoint: Endpoint) {
    host = endpoint.ip.description
    port = Int(endpoint.port)
    self.endpoint = endpoint
  }

  var description: String { endpoint?.description ?? host }
}

/// Kept in ``Peer/face``: the Lua object of the peer, given back when the pipe forgets the peer.
final class TupleSlot {
  let ref: LuaRef
  let tuple: TupleObject
  private let vm: LuaVM

  init(ref: LuaRef, tuple: TupleObject, vm: LuaVM) {
    self.ref = ref
    self.tuple = tuple
    self.vm = vm
  }

  deinit { vm.release(ref) }
}

extension ScriptHost {
  /// The peer's Lua object, made once.
  func tuple(for peer: Peer) throws -> LuaRef { try tupleSlot(for: peer).ref }

  func tupleSlot(for peer: Peer) throws -> TupleSlot {
    // Only a script host puts something into a peer's face, and a pipe belongs to one host.
    if let face = peer.face { return unsafeDowncast(face, to: TupleSlot.self) }
    let tuple = TupleObject(peer)
    let slot = TupleSlot(ref: try vm.makeObject(classes.tuple, tuple), tuple: tuple, vm: vm)
    peer.face = slot
    return slot
  }
}

/// Ways a script may write an address.
enum Place {
  /// `{host, port}`, `client_tup`, `"host:port"`, a port: what a destination or a local address may be.
  case hostAndPort(String, Int)
  case unix(String)
  case port(Int)

  init?(_ value: LuaValue) {
    switch value {
    case .object(let object):
      guard let tuple = object as? TupleObject else { return nil }
      self = tuple.endpoint == nil ? .unix(tuple.host) : .hostAndPort(tuple.host, tuple.port)
    case .int(let number): self = .port(Int(truncatingIfNeeded: number))
    case .string(let bytes):
      let text = String(decoding: bytes, as: UTF8.self)
      if text.hasPrefix("unix:") {
        self = .unix(String(text.dropFirst(5)))
      } else {
        guard let colon = text.lastIndex(of: ":"), let port = Int(text[text.index(after: colon)...]) else { return nil }
        var host = text[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
        self = .hostAndPort(String(host), port)
      }
    case .table(let pairs):
      guard case .string(let host)? = pairs.value(1), case .int(let port)? = pairs.value(2) else { return nil }
      self = .hostAndPort(String(decoding: host, as: UTF8.self), Int(truncatingIfNeeded: port))
    default: return nil
    }
  }

  /// Where a client pipe leads; nil when the port is none.
  var destination: Destination? {
    switch self {
    case .unix(let path): return .unix(path)
    case .port(let port):
      guard let port = UInt16(exactly: port), port != 0 else { return nil }
      return .host("localhost", port)
    case .hostAndPort(let host, let port):
      guard let port = UInt16(exactly: port), port != 0 else { return nil }
      guard let ip = IPAddress(host) else { return .host(host, port) }
      return .endpoint(Endpoint(ip: ip, port: port))
    }
  }

  /// A local address, or a peer of a UDP pipe: no names here. `ip` nil is any address.
  var local: (ip: IPAddress?, port: UInt16)? {
    switch self {
    case .unix: return nil
    case .port(let port): return UInt16(exactly: port).map { (nil, $0) }
    case .hostAndPort(let host, let port):
      guard let port = UInt16(exactly: port) else { return nil }
      if host.isEmpty || host == "*" { return (nil, port) }
      let name = host == "localhost" ? "127.0.0.1" : host
      guard let ip = IPAddress(name) else { return nil }
      return (ip, port)
    }
  }
}

extension [(key: LuaValue, value: LuaValue)] {
  func value(_ index: Int64) -> LuaValue? {
    first { if case .int(index) = $0.key { true } else { false } }?.value
  }

  /// The values 1, 2, ... up to the first hole.
  var sequence: [LuaValue] {
    var result: [LuaValue] = []
    while let next = value(Int64(result.count + 1)) { result.append(next) }
    return result
  }
}
