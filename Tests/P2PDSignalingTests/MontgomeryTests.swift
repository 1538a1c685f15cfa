import Crypto
import P2PDNet
import Testing

@testable import P2PDSignaling

@Suite struct MontgomeryTests {
  @Test("the X25519 form of a public key belongs to the X25519 form of its secret key")
  func halvesMatch() throws {
    for _ in 0..<50 {
      let identity = try #require(SignalIdentity(seed: Array(Curve25519.Signing.PrivateKey().rawRepresentation)))
      let converted = try #require(Montgomery.publicKey(of: identity.key))
      #expect(converted == Array(identity.agreement.publicKey.rawRepresentation))
    }
  }

  @Test("the base points of RFC 7748 §4.1 belong together: y = 4/5 is u = 9")
  func basePoint() throws {
    let base = try #require(SignalKey(bytes: [0x58] + [UInt8](repeating: 0x66, count: 31)))
    #expect(Montgomery.publicKey(of: base) == [9] + [UInt8](repeating: 0, count: 31))
  }

  @Test("the sign of x does not matter, and what is no coordinate is refused")
  func edges() throws {
    var mirrored = [0x58] + [UInt8](repeating: 0x66, count: 31)
    mirrored[31] |= 0x80
    #expect(Montgomery.publicKey(of: try #require(SignalKey(bytes: mirrored)))?.first == 9)
    let one = [1] + [UInt8](repeating: 0, count: 31)
    #expect(Montgomery.publicKey(of: try #require(SignalKey(bytes: one))) == nil)
    // The prime itself, and the largest number 255 bits hold.
    let prime = [0xed] + [UInt8](repeating: 0xff, count: 30) + [0x7f]
    #expect(Montgomery.publicKey(of: try #require(SignalKey(bytes: prime))) == nil)
    #expect(Montgomery.publicKey(of: try #require(SignalKey(bytes: [UInt8](repeating: 0xff, count: 32)))) == nil)
    // The largest below it is y = -1: u = 0.
    let last = [0xec] + [UInt8](repeating: 0xff, count: 30) + [0x7f]
    #expect(Montgomery.publicKey(of: try #require(SignalKey(bytes: last))) == [UInt8](repeating: 0, count: 32))
  }

  @Test("the points of small order are those of which X25519 makes zeros")
  func smallOrder() throws {
    let secret = Curve25519.KeyAgreement.PrivateKey()
    for point in Montgomery.smallOrder {
      for top in [0, 0x80] as [UInt8] {
        var point = point
        point[31] |= top
        #expect(Montgomery.isSmallOrder(point))
        let key = try Curve25519.KeyAgreement.PublicKey(rawRepresentation: point)
        // Where the library refuses them by itself, so much the better.
        let shared = try? secret.sharedSecretFromKeyAgreement(with: key)
        #expect(shared?.withUnsafeBytes { $0.allSatisfy { $0 == 0 } } != false)
      }
    }
    #expect(!Montgomery.isSmallOrder([9] + [UInt8](repeating: 0, count: 31)))
    #expect(!Montgomery.isSmallOrder(secret.publicKey.rawRepresentation))
  }

  @Test("nothing is sealed to a key of small order, nor opened with one")
  func refused() throws {
    let sender = try identity(7)
    let points: [[UInt8]] = [
      [1] + [UInt8](repeating: 0, count: 31), [UInt8](repeating: 0, count: 32),
      [0xec] + [UInt8](repeating: 0xff, count: 30) + [0x7f],
    ]
    for point in points {
      let receiver = try #require(SignalKey(bytes: point))
      let error = #expect(throws: NetError.self) {
        _ = try SealedMessage.seal(
          SignalContent(kind: .message, payload: [1]), from: sender, to: receiver, issued: 1, lifetime: 1,
          gate: Gate(of: receiver))
      }
      #expect(error?.code == .badAddress, "y = \(point[0])...")
    }
    for point in Montgomery.smallOrder {
      #expect(SealedMessage(inner: [1, 30, 0, 0, 0, 1] + point + [UInt8](repeating: 0, count: 200)) == nil)
    }
  }
}
