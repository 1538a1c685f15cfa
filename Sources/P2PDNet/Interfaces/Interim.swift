import NIOCore
import NIOPosix
import Glibc
public struct Route: Sendable { public init() {} }
enum InterfaceBinding { static func hold(_ c: any Channel, to name: String) throws -> HeldBy { .source } }
struct Resolver: Sendable { static let shared = Resolver()
  func resolve(_ n: String, families: [AddressFamily], timeout: TimeAmount, on loop: any EventLoop) -> EventLoopFuture<[IPAddress]> {
    if let ip = IPAddress(n) { return loop.makeSucceededFuture([ip]) }
    return loop.makeSucceededFuture([.loopback(.v4)]) } }
extension OpenRequest {
  func race(_ endpoints: [Endpoint], name: String?, _ promise: EventLoopPromise<Pipe>) { connect(to: endpoints[0], name: name, promise) }
}
