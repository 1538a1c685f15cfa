import P2PDNet

/// One side of RFC 8489 §9.2: what a server's challenges have told, and how requests are signed because of it. A value: each
/// connection to a server may go on from a copy.
public struct TURNAuthentication: Sendable {
  private let login: TURNLogin?
  private var realm: String?
  private var nonce: [UInt8] = []
  /// What the server offered, in its order; nil for a server that offers nothing, which means MD5 and SHA-1.
  private var offered: [STUNPasswordAlgorithm]?
  private var algorithm: STUNPasswordAlgorithm?
  private var hidesUser = false
  /// nil until the server has asked for one.
  private(set) var signature: STUNSignature?

  /// - Parameter login: nil for a server that shall not ask for any.
  public init(_ login: TURNLogin?) { self.login = login }

  /// A request with all that the server wants to see, and its signature.
  public func signed(
    _ method: STUNMethod, _ attributes: [STUNAttribute]
  ) -> (message: STUNMessage, signature: STUNSignature?) {
    var message = STUNMessage(.request, method, attributes: attributes)
    guard let signature, let login, let realm else { return (message, nil) }
    message.attributes.append(
      hidesUser ? .userHash(STUNKey.userHash(username: login.user, realm: realm)) : .username(login.user))
    message.attributes.append(.realm(realm))
    message.attributes.append(.nonce(nonce))
    if let offered, let algorithm {
      message.attributes.append(.passwordAlgorithms(offered))
      message.attributes.append(.passwordAlgorithm(algorithm))
    }
    return (message, signature)
  }

  /// Takes a 401 or 438 into account.
  /// - Parameter wasSigned: the request that met it was signed.
  /// - Returns: nil if the request may be made once more, signed anew; otherwise why that is of no use.
  public mutating func challenged(by answer: STUNMessage, wasSigned: Bool) -> NetError? {
    func refusal(_ code: NetError.Code, _ cause: String, _ remedy: String = "") -> NetError {
      NetError(code, "log in", cause: cause, remedy: remedy)
    }
    guard let login else {
      return refusal(
        .permission, "the server wants a user and a password", "Give them in its URL: turn:USER:PASSWORD@HOST.")
    }
    guard let code = answer.error?.code else { return refusal(.io, "a challenge without an error code") }
    guard let nonce = answer.nonce, let realm = answer.realm ?? (code == 438 ? self.realm : nil),
      nonce.count <= Self.longest, realm.utf8.count <= Self.longest
    else { return refusal(.io, "the server's challenge has no realm and nonce that can be used") }
    // The same name at the same place again: it does not know it, or not by that password.
    if code == 401, wasSigned, realm == self.realm {
      return refusal(
        .permission, "the server refuses the user \(login.user): wrong name, password or secret",
        "Compare them with the server's; with a shared secret, its clock as well.")
    }
    let features = Self.features(of: nonce)
    let offered = answer.passwordAlgorithms
    // Somebody on the way took the offer out, to make us fall back on the weaker hash (§9.2.1).
    if offered == nil, features & Self.algorithmsBit != 0 {
      return refusal(.io, "the server's offer of password algorithms was removed on the way")
    }
    let algorithm = offered?.first { $0 == .md5 || $0 == .sha256 }
    if offered != nil, algorithm == nil {
      return refusal(.unsupported, "the server offers none of the password algorithms known here (MD5, SHA-256)")
    }
    guard
      let key = STUNKey.longTerm(
        username: login.user, realm: realm, password: login.password, algorithm: algorithm ?? .md5)
    else { return refusal(.unsupported, "a password algorithm that is not known here") }
    self.nonce = nonce
    self.realm = realm
    self.offered = offered
    self.algorithm = algorithm
    hidesUser = features & Self.anonymityBit != 0
    signature = STUNSignature(key: key, sha256: offered != nil)
    return nil
  }

  /// The security features in a nonce that begins with the nonce cookie (§9.2): 24 bits in base64, the first one on top.
  private static func features(of nonce: [UInt8]) -> UInt32 {
    guard nonce.starts(with: cookie), nonce.count >= cookie.count + 4 else { return 0 }
    var bits: UInt32 = 0
    for byte in nonce[cookie.count..<cookie.count + 4] {
      guard let value = sextet(byte) else { return 0 }
      bits = bits << 6 | value
    }
    return bits
  }

  private static func sextet(_ byte: UInt8) -> UInt32? {
    switch byte {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt32(byte - UInt8(ascii: "A"))
    case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt32(byte - UInt8(ascii: "a")) + 26
    case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(byte - UInt8(ascii: "0")) + 52
    case UInt8(ascii: "+"): 62
    case UInt8(ascii: "/"): 63
    default: nil
    }
  }

  private static let cookie = Array("obMatJos2".utf8)
  /// RFC 8489 §18.1: bit 0 is the first of the 24.
  private static let algorithmsBit: UInt32 = 1 << 23
  private static let anonymityBit: UInt32 = 1 << 22
  /// RFC 8489 §14.9, §14.10: fewer than 128 characters, which can be as many as 763 bytes.
  private static let longest = 763
}
