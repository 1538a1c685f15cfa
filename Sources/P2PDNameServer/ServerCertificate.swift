import NIOSSL
import P2PDNet

/// The server's certificate and key, from PEM files.
enum ServerCertificate {
  static func load(chain: String, key: String) throws(NetError) -> NIOSSLContext {
    let what = "use the certificate in \(chain) with the key in \(key)"
    do {
      let certificates = try NIOSSLCertificate.fromPEMFile(chain)
      guard !certificates.isEmpty else { throw NetError(.tls, what, cause: "there is no certificate in the file") }
      var configuration = TLSConfiguration.makeServerConfiguration(
        certificateChain: certificates.map { .certificate($0) },
        privateKey: .privateKey(try NIOSSLPrivateKey(file: key, format: .pem)))
      configuration.minimumTLSVersion = .tlsv12
      configuration.applicationProtocols = ["http/1.1"]
      return try NIOSSLContext(configuration: configuration)
    } catch let error as NetError {
      throw error
    } catch {
      throw NetError(.tls, what, cause: "\(error)", remedy: "Both must be PEM files that this user can read.")
    }
  }
}
