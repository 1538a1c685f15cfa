import Logging
import NIOCore
import P2PDNet

public struct LocalName: Hashable, Sendable {
  public let label: String
  public let key: [UInt8]
  public let value: String
  public let from: Endpoint
  public let interface: String
}

public final class LocalNames: @unchecked Sendable {
  private let loop: any EventLoop
  public init(on loop: any EventLoop, interfaces: [String]?, logger: Logger) { self.loop = loop }
  public func announce(_ label: String, value: String, key: [UInt8]) {}
  public func withdraw(_ isGone: (String) -> Bool) {}
  public func find(_ label: String, timeout: TimeAmount) -> EventLoopFuture<[LocalName]> {
    loop.makeSucceededFuture([])
  }
  public func stop() {}
}

public final class TextRecords: @unchecked Sendable {
  private let loop: any EventLoop
  public init(on loop: any EventLoop) { self.loop = loop }
  public func text(of host: String, timeout: TimeAmount = .seconds(5)) -> EventLoopFuture<[String]> {
    loop.makeSucceededFuture([])
  }
  public func stop() {}
}
