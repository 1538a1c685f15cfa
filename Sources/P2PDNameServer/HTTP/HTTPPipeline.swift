import NIOCore
import NIOHTTP1

extension HTTPConnection {
  /// Makes the channel speak HTTP: NIO's encoder and decoder, the latter with our bounds, and a connection behind them.
  static func add(
    to channel: any Channel, _ service: any RequestService, _ source: Source, _ times: Times
  ) throws -> HTTPConnection {
    let connection = HTTPConnection(service, source: source, times: times)
    var limits = NIOHTTPDecoderLimitConfiguration()
    limits.maxHeaderFieldSize = APIAnswer.longestHead
    limits.maxHeaderListSize = APIAnswer.longestHead
    limits.maxHeaderFieldCount = mostHeaders
    let decoder = HTTPRequestDecoder(leftOverBytesStrategy: .dropBytes, limitConfiguration: limits)
    let pipeline = channel.pipeline.syncOperations
    try pipeline.addHandler(HTTPResponseEncoder())
    try pipeline.addHandler(ByteToMessageHandler(decoder, maximumBufferSize: 2 * APIAnswer.longestHead))
    try pipeline.addHandler(connection)
    return connection
  }

  /// Browsers and proxies send some twenty.
  private static let mostHeaders = 64
}
