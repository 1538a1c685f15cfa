import NIOCore
import NIOSSL

/// Puts TLS into a channel's pipeline.
enum TLSPipeline {
  static func addClient(_ tls: TLSSetup, name: String?, to channel: any Channel, pipe: Pipe) throws {
    let serverName = (tls.serverName ?? name).flatMap { IPAddress($0) == nil ? $0 : nil }
    let handler: NIOSSLClientHandler
    if let verify = tls.verify {
      handler = try NIOSSLClientHandler(context: tls.context, serverHostname: serverName) { chain, promise in
        answer(verify(chain, pipe), promise, channel)
      }
    } else {
      handler = try NIOSSLClientHandler(context: tls.context, serverHostname: serverName)
    }
    try channel.pipeline.syncOperations.addHandler(handler)
  }

  static func addServer(_ tls: TLSSetup, to channel: any Channel, pipe: Pipe) throws {
    let handler: NIOSSLServerHandler
    if let verify = tls.verify {
      handler = NIOSSLServerHandler(
        context: tls.context,
        customVerificationCallback: { chain, promise in answer(verify(chain, pipe), promise, channel) })
    } else {
      handler = NIOSSLServerHandler(context: tls.context)
    }
    try channel.pipeline.syncOperations.addHandler(handler)
  }

  private static func answer(
    _ refusal: NetError?, _ promise: EventLoopPromise<NIOSSLVerificationResult>, _ channel: any Channel
  ) {
    // BoringSSL's own error would say only that verification failed.
    if let refusal { channel.pipeline.fireErrorCaught(refusal) }
    promise.succeed(refusal == nil ? .certificateVerified : .failed)
  }
}
