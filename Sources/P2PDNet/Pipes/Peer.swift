import Glibc
import NIOCore

/// Whom a message is from, or to whom it goes: P2PD's `client_tup`. One object for one peer of a pipe, so that a
/// script can compare and keep it.
public final class Peer: @unchecked Sendable {
  /// The address in text, with its scope if it has one; the path of a Unix-domain socket.
  public let host: String
  public let port: Int
  /// nil for a Unix-domain socket.
  public let endpoint: Endpoint?
  /// What a layer above keeps with the peer (the script engine: its Lua object). Confined to the pipe's loop.
  public var face: AnyObject?

  /// The kernel's form, made once so that a reply needs no conversion.
  let storage: sockaddr_storage
  let storageLength: socklen_t

  public init(_ endpoint: Endpoint) {
    host = endpoint.ip.description
    port = Int(endpoint.port)
    self.endpoint = endpoint
    (storage, storageLength) = Self.kernelForm(endpoint)
  }

  public init(unixPath: String) {
    host = unixPath
    port = 0
    endpoint = nil
    storage = sockaddr_storage()
    storageLength = 0
  }

  /// `mapped`: the form an IPv6 socket that also speaks IPv4 needs.
  init(_ endpoint: Endpoint, mapped: Bool) {
    host = endpoint.ip.description
    port = Int(endpoint.port)
    self.endpoint = endpoint
    (storage, storageLength) = Self.kernelForm(mapped ? endpoint.mapped : endpoint)
  }

  private static func kernelForm(_ endpoint: Endpoint) -> (sockaddr_storage, socklen_t) {
    var storage = sockaddr_storage()
    let length = withKernelForm(endpoint) { address, length in
      withUnsafeMutableBytes(of: &storage) {
        $0.copyMemory(from: UnsafeRawBufferPointer(start: address, count: Int(length)))
      }
      return length
    }
    return (storage, length)
  }

  /// An address as bind(2) and its like want it.
  static func withKernelForm<T>(_ endpoint: Endpoint, _ body: (UnsafePointer<sockaddr>, socklen_t) -> T) -> T {
    func pass<Address>(_ address: Address) -> T {
      withUnsafePointer(to: address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<Address>.size)) }
      }
    }
    switch endpoint.ip.family {
    case .v4: return pass(endpoint.sockaddrIn)
    case .v6: return pass(endpoint.sockaddrIn6)
    }
  }
}

extension Peer: CustomStringConvertible {
  public var description: String { endpoint?.description ?? host }
}

/// One received message that waits in a queue.
public struct Message: Sendable {
  public var bytes: ByteBuffer
  public var peer: Peer
}
