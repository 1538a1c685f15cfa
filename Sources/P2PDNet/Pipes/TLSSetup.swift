import NIOSSL

/// TLS for one pipe or for all connections of a server.
public struct TLSSetup: Sendable {
  public let context: NIOSSLContext
  /// Client: the name sent (SNI, RFC 6066 §3) and checked against the certificate. nil takes the destination's name.
  public var serverName: String?

  public init(context: NIOSSLContext, serverName: String? = nil) {
    self.context = context
    self.serverName = serverName
  }

  /// A client that checks the server's certificate and name.
  /// - Parameters:
  ///   - caFile: PEM file or folder of trusted roots; nil takes the system's.
  ///   - verify: false accepts any certificate: encryption without authentication.
  public static func client(
    serverName: String? = nil, caFile: String? = nil, certificateFile: String? = nil, keyFile: String? = nil,
    applicationProtocols: [String] = [], verify: Bool = true
  ) throws(NetError) -> TLSSetup {
    do {
      var configuration = TLSConfiguration.makeClientConfiguration()
      configuration.minimumTLSVersion = .tlsv12
      configuration.applicationProtocols = applicationProtocols
      if let caFile { configuration.trustRoots = .file(caFile) }
      if !verify { configuration.certificateVerification = .none }
      try identify(&configuration, certificateFile, keyFile)
      return TLSSetup(context: try NIOSSLContext(configuration: configuration), serverName: serverName)
    } catch {
      throw NetError(.tls, "set up TLS", cause: explain(error))
    }
  }

  /// A server with a certificate chain and key in PEM files; with `caFile` it demands a certificate of its clients.
  public static func server(
    certificateFile: String, keyFile: String, caFile: String? = nil, applicationProtocols: [String] = []
  ) throws(NetError) -> TLSSetup {
    do {
      let chain = try NIOSSLCertificate.fromPEMFile(certificateFile).map { NIOSSLCertificateSource.certificate($0) }
      let key = try NIOSSLPrivateKey(file: keyFile, format: .pem)
      var configuration = TLSConfiguration.makeServerConfiguration(
        certificateChain: chain, privateKey: .privateKey(key))
      configuration.minimumTLSVersion = .tlsv12
      configuration.applicationProtocols = applicationProtocols
      if let caFile {
        configuration.trustRoots = .file(caFile)
        configuration.certificateVerification = .noHostnameVerification
      }
      return TLSSetup(context: try NIOSSLContext(configuration: configuration))
    } catch {
      throw NetError(.tls, "set up TLS", cause: explain(error))
    }
  }

  private static func identify(_ configuration: inout TLSConfiguration, _ certificate: String?, _ key: String?) throws {
    guard let certificate, let key else { return }
    configuration.certificateChain = try NIOSSLCertificate.fromPEMFile(certificate).map { .certificate($0) }
    configuration.privateKey = .privateKey(try NIOSSLPrivateKey(file: key, format: .pem))
  }

  /// BoringSSL's words are for its developers; these are for whoever reads the log.
  static func explain(_ error: any Error) -> String {
    let text = "\(error)"
    for (mark, words) in explanations where text.contains(mark) { return words }
    return text
  }

  private static let explanations: [(String, String)] = [
    ("CERTIFICATE_VERIFY_FAILED", "the peer's certificate is not trusted (give its CA with tls = { ca = FILE })"),
    ("unableToValidateCertificate", "the peer's certificate is not for the name asked for"),
    ("failedToValidateHostname", "the peer's certificate is not for the name asked for"),
    ("WRONG_VERSION_NUMBER", "the peer does not speak TLS"),
    ("HTTP_REQUEST", "the peer does not speak TLS"),
    ("TLSV1_ALERT_PROTOCOL_VERSION", "the peer has no TLS version in common"),
    ("handshakeTimeout", "the handshake took too long"),
    ("NO_START_LINE", "the file is not in PEM form"),
    ("noSuchFile", "a certificate or key file does not exist"),
  ]
}
