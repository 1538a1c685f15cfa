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

  /// The kernel's form, made once so that a reply needs no conversion; of a fixed place, so that it needs no copy.
  let kernelForm: UnsafePointer<sockaddr>
  /// 0 for a Unix-domain socket.
  let kernelLength: socklen_t

  public convenience init(_ endpoint: Endpoint) { self.init(endpoint, mapped: false) }

  public init(unixPath: String) {
    host = unixPath
    port = 0
    endpoint = nil
    (kernelForm, kernelLength) = Self.kernelForm(nil)
  }

  /// `mapped`: the form an IPv6 socket that also speaks IPv4 needs.
  init(_ endpoint: Endpoint, mapped: Bool) {
    host = endpoint.ip.description
    port = Int(endpoint.port)
    self.endpoint = endpoint
    (kernelForm, kernelLength) = Self.kernelForm(mapped ? endpoint.mapped : endpoint)
  }

  deinit { UnsafeRawPointer(kernelForm).deallocate() }

  /// Room for either family, zeroed where there is less.
  private static func kernelForm(_ endpoint: Endpoint?) -> (UnsafePointer<sockaddr>, socklen_t) {
    let size = MemoryLayout<sockaddr_in6>.size
    let room = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: MemoryLayout<UInt64>.alignment)
    room.initializeMemory(as: UInt8.self, repeating: 0, count: size)
    let length = endpoint.map {
      withKernelForm($0) { address, length in
        room.copyMemory(from: address, byteCount: Int(length))
        return length
      }
    }
    return (UnsafePointer(room.assumingMemoryBound(to: sockaddr.self)), length ?? 0)
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
