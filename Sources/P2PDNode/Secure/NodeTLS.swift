import Crypto
import NIOSSL
import P2PDNet
import X509

/// The encryption of pipes between nodes: TLS 1.3 (RFC 8446), both sides with a self-signed Ed25519 certificate (RFC
/// 8410) made of the node's own key. Nobody signs for anybody: the certificate only carries the key, TLS's
/// CertificateVerify message proves that the peer holds it, and the node compares it with the key it expects. Names
/// and dates in the certificate are not looked at.
///
/// The protocol's name travels in ALPN (RFC 7301), so it is settled within the handshake: ``ALPN``.
struct NodeTLS: Sendable {
  let certificate: NIOSSLCertificate
  let privateKey: NIOSSLPrivateKey

  /// Makes the certificate: once per start of a node, about a millisecond.
  init(_ identity: Identity) throws {
    do {
      let secret = try Curve25519.Signing.PrivateKey(rawRepresentation: identity.seed)
      let name = try DistinguishedName { CommonName("p2pd node") }
      let made = try Certificate(
        version: .v3, serialNumber: Certificate.SerialNumber(bytes: [1]), publicKey: .init(secret.publicKey),
        notValidBefore: .init(timeIntervalSince1970: Self.firstSecond),
        notValidAfter: .init(timeIntervalSince1970: Self.lastSecond), issuer: name, subject: name,
        signatureAlgorithm: .ed25519, extensions: Certificate.Extensions(), issuerPrivateKey: .init(secret))
      certificate = try NIOSSLCertificate(bytes: made.serializeAsPEM().derBytes, format: .der)
      privateKey = try NIOSSLPrivateKey(bytes: Self.privateKeyHead + identity.seed, format: .der)
    } catch {
      throw NetError(.tls, "make the node's certificate", cause: "\(error)")
    }
  }

  /// For accepting: any node's key will do, what it is is noted with ``key(of:)``.
  func server(hosting protocols: [String]) throws -> NIOSSLContext {
    try context(
      .makeServerConfiguration(certificateChain: [], privateKey: .privateKey(privateKey)), ALPN.server(protocols))
  }

  /// For connecting to speak one protocol.
  func client(protocol name: String) throws -> NIOSSLContext {
    try context(.makeClientConfiguration(), ALPN.client(name))
  }

  /// For connecting to a node that has asked for it: see ``ALPN``.
  func reverse() throws -> NIOSSLContext { try context(.makeClientConfiguration(), ALPN.reverse) }

  /// The key in a peer's certificate, leaf first; nil if it is no node's certificate.
  static func key(of chain: [NIOSSLCertificate]) -> NodeKey? {
    guard let leaf = chain.first, let info = try? leaf.extractPublicKey().toSPKIBytes(),
      info.starts(with: publicKeyHead)
    else {
      return nil
    }
    return NodeKey(bytes: info.dropFirst(publicKeyHead.count))
  }

  private func context(_ base: TLSConfiguration, _ names: [String]) throws -> NIOSSLContext {
    var configuration = base
    configuration.minimumTLSVersion = .tlsv13
    configuration.maximumTLSVersion = .tlsv13
    configuration.certificateChain = [.certificate(certificate)]
    configuration.privateKey = .privateKey(privateKey)
    // Demands a certificate of the other side. The roots are never consulted: the pipe's own check takes their place.
    configuration.certificateVerification = .noHostnameVerification
    configuration.trustRoots = .certificates([])
    configuration.signingSignatureAlgorithms = [.ed25519]
    configuration.verifySignatureAlgorithms = [.ed25519]
    // The hybrid first: what is recorded today stays shut when X25519 falls.
    configuration.curves = [.x25519_MLKEM768, .x25519]
    configuration.applicationProtocols = names
    configuration.shutdownTimeout = .seconds(1)
    do { return try NIOSSLContext(configuration: configuration) } catch {
      throw NetError(.tls, "set up TLS", cause: "\(error)")
    }
  }

  /// DER up to the seed of an Ed25519 PKCS #8 key, and up to the key of its SubjectPublicKeyInfo (RFC 8410 §4, §7).
  private static let privateKeyHead: [UInt8] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
  ]
  private static let publicKeyHead: [UInt8] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00]
  /// 1975-01-01 (rust-libp2p's choice: a node whose clock is wrong must still connect) and RFC 5280 §4.1.2.5's "no
  /// end", 9999-12-31.
  private static let firstSecond = 157_766_400.0
  private static let lastSecond = 253_402_300_799.0
}

/// How a protocol is named in the handshake. A client offers `p2pd1/NAME`, or `p2pd1` for the default protocol, and
/// `p2pd1?` after it; the server takes the first it hosts. So a node that does not host the protocol answers
/// `p2pd1?`, and what is no node agrees on nothing.
///
/// A node that connects because the other one asked it to offers `p2pd1<` alone: the protocol is what was asked for, and
/// the other one knows it.
enum ALPN {
  static func client(_ name: String) -> [String] { [token(name), probe] }

  static func server(_ names: [String]) -> [String] { names.sorted().map(token) + [probe] + reverse }

  static let reverse = ["p2pd1<"]

  enum Agreed: Equatable {
    /// The protocol's name, "" for the default one.
    case hosted(String)
    case notHosted
    /// The client was asked to connect by the server.
    case reversed
    case notANode
  }

  static func agreed(_ negotiated: String?) -> Agreed {
    switch negotiated {
    case base: .hosted("")
    case probe: .notHosted
    case reverse.first: .reversed
    case let name? where name.hasPrefix(base + "/"): .hosted(String(name.dropFirst(base.count + 1)))
    default: .notANode
    }
  }

  /// A protocol's name: 1 to 64 of `A-Z a-z 0-9 . _ -`, or empty for the default protocol.
  static func isValid(_ name: String) -> Bool {
    name.utf8.count <= 64
      && name.utf8.allSatisfy {
        (0x30...0x39).contains($0) || (0x41...0x5a).contains($0) || (0x61...0x7a).contains($0)
          || [0x2d, 0x2e, 0x5f].contains($0)
      }
  }

  private static func token(_ name: String) -> String { name.isEmpty ? base : "\(base)/\(name)" }
  private static let base = "p2pd1"
  private static let probe = "p2pd1?"
}
