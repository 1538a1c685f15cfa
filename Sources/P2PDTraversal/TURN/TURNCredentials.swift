import Crypto
import Glibc
import P2PDNet

/// Who we are to a TURN server.
public enum TURNCredentials: Hashable, Sendable {
  /// A user the server knows (RFC 8489 §9.2).
  case longTerm(user: String, password: String)
  /// A secret shared with the server, from which names of limited life are made: coturn's `use-auth-secret`
  /// (draft-uberti-behave-turn-rest-00).
  case secret(String, name: String?)

  /// What a URL says; nil where it names neither a password nor a secret. With a secret, the user is the name that the server
  /// writes into its log.
  public init?(_ url: ServerURL) {
    if let secret = url.secret {
      self = .secret(secret, name: url.user)
    } else if let user = url.user, let password = url.password {
      self = .longTerm(user: user, password: password)
    } else {
      return nil
    }
  }

  /// The user and password to use from now on.
  /// - Parameter time: Unix time in seconds; ``now`` asks the system.
  public func login(at time: Int64) -> TURNLogin {
    switch self {
    case .longTerm(let user, let password): return TURNLogin(user: user, password: password)
    case .secret(let secret, let name):
      // The draft's form: `expiry:name`, or the expiry alone.
      let user = "\(time + Self.life)" + (name.map { ":" + $0 } ?? "")
      let key = SymmetricKey(data: Array(secret.utf8))
      let code = HMAC<Insecure.SHA1>.authenticationCode(for: Array(user.utf8), using: key)
      return TURNLogin(user: user, password: Base64.encode(Array(code)))
    }
  }

  /// Seconds since 1970.
  public static var now: Int64 {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)  // clock: the server compares the name's expiry with its calendar
    return Int64(time.tv_sec)
  }

  /// A day, as the draft has it: long enough for a server whose clock is some hours off.
  private static let life: Int64 = 86_400
}

/// A name and a password, as the server will hash them.
public struct TURNLogin: Hashable, Sendable {
  public let user: String
  public let password: String

  public init(user: String, password: String) {
    self.user = user
    self.password = password
  }
}

/// RFC 4648 §4, with padding: the form of a password made of a secret.
enum Base64 {
  static func encode(_ bytes: [UInt8]) -> String {
    var text = ""
    for start in stride(from: 0, to: bytes.count, by: 3) {
      let group = bytes[start..<min(start + 3, bytes.count)]
      let bits = group.reduce(UInt32(0)) { $0 << 8 | UInt32($1) } << (8 * UInt32(3 - group.count))
      for index in 0..<4 {
        let isFilled = index <= group.count
        text.unicodeScalars.append(isFilled ? letters[Int(bits >> (18 - 6 * UInt32(index)) & 63)] : "=")
      }
    }
    return text
  }

  private static let letters = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".unicodeScalars)
}
