import Crypto
import Glibc
import P2PDNet
import P2PDTraversal
import Testing

@testable import P2PDNode

/// Bytes from strangers, thousands of them: whatever they are, reading them ends in an address or in a named error.
@Suite struct NodeAddressFuzzTests {
  private static let identity = Identity.ephemeral()

  /// Every file of Tests/Fuzz/node-address is a token; its name begins with the error it must give, or with `valid`.
  @Test func theCorpus() throws {
    var seen = 0
    let folder =
      #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(2).joined(separator: "/")
      + "/Fuzz/node-address"
    let stream = try #require(opendir(folder))
    defer { closedir(stream) }
    while let entry = readdir(stream) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      if name.hasPrefix(".") { continue }
      seen += 1
      let text = String(decoding: try #require(bytes(of: "\(folder)/\(name)")), as: UTF8.self)
      #expect(outcome(text) == String(name.prefix { $0 != "." }), "\(name)")
    }
    #expect(seen >= 20)
  }

  private func outcome(_ text: String) -> String {
    do {
      let address = try NodeAddress(text)
      _ = address.explanation(now: 0)
      return "valid"
    } catch {
      switch error {
      case .notAnAddress: return "not-an-address"
      case .unknownVersion: return "unknown-version"
      case .tooLong: return "too-long"
      case .damaged: return "damaged"
      case .badSignature: return "bad-signature"
      case .malformed: return "malformed"
      }
    }
  }

  private func bytes(of path: String) -> [UInt8]? {
    guard let file = fopen(path, "r") else { return nil }
    defer { fclose(file) }
    var buffer = [UInt8](repeating: 0, count: 65536)
    let count = fread(&buffer, 1, buffer.count, file)
    return Array(buffer.prefix(count))
  }

  /// Signed bodies reach the field reader, which random tokens never would.
  @Test func signedBodiesOfAnyKind() throws {
    var random = SplitMix64(42)
    var valid = 0
    for _ in 0..<1500 {
      var body = Self.identity.key.bytes + [0, 0, 0, 1]
      for _ in 0..<Int.random(in: 0...6, using: &random) {
        let type = UInt8.random(in: 0...3, using: &random)
        let value = (0..<Int.random(in: 0...40, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
        // Now and then the length lies.
        let length =
          Int.random(in: 0...9, using: &random) == 0 ? UInt8.random(in: 0...255, using: &random) : UInt8(value.count)
        body += [type, length] + value
      }
      do {
        let address = try NodeAddress.make(by: Self.identity, body: body)
        #expect(try NodeAddress(address.description) == address)
        _ = address.explanation(now: 1)
        _ = DirectPlan(
          to: address.routes.map(\.path), from: [LocalAddress(ip: .loopback(.v4), prefix: 8, interface: 1)])
        valid += 1
      } catch is NodeAddressError {}
    }
    #expect(valid > 20)
  }

  @Test func changedTokens() throws {
    let route = NodeRoute(interface: 0, nic: .loopback(.v6), port: 9, external: .none)
    let good = Array(try NodeAddress.make(by: Self.identity, issued: 1, routes: [route]).description.utf8)
    var random = SplitMix64(7)
    for _ in 0..<5000 {
      var bad = good
      for _ in 0...Int.random(in: 0...3, using: &random) {
        switch Int.random(in: 0...3, using: &random) {
        case 0: bad[Int.random(in: bad.indices, using: &random)] = UInt8.random(in: 0...255, using: &random)
        case 1: bad.remove(at: Int.random(in: bad.indices, using: &random))
        case 2: bad.insert(UInt8.random(in: 0...255, using: &random), at: Int.random(in: bad.indices, using: &random))
        default: bad += bad.prefix(Int.random(in: 0...bad.count, using: &random))
        }
      }
      let text = String(decoding: bad, as: UTF8.self)
      if outcome(text) == "valid" { #expect(try NodeAddress(text).routes == [route]) }
    }
  }

  /// The codecs hold to one text per value.
  @Test func textCodes() {
    var random = SplitMix64(3)
    for length in 0..<80 {
      let bytes = (0..<length).map { _ in UInt8.random(in: 0...255, using: &random) }
      #expect(Base64URL.decode(Array(Base64URL.encode(bytes).utf8)) == bytes)
      #expect(Base32.decode(Array(Base32.encode(bytes).utf8)) == bytes)
    }
    // RFC 4648 §10, without its padding.
    #expect(
      ["f", "fo", "foo", "foob", "fooba", "foobar"].map { Base64URL.encode(Array($0.utf8)) } == [
        "Zg", "Zm8", "Zm9v", "Zm9vYg", "Zm9vYmE", "Zm9vYmFy",
      ])
    #expect(
      ["f", "fo", "foo", "foob", "fooba", "foobar"].map { Base32.encode(Array($0.utf8)) } == [
        "my", "mzxq", "mzxw6", "mzxw6yq", "mzxw6ytb", "mzxw6ytboi",
      ])
    for text in ["A", "Zh", "Zm9", "AAAAA", "Zg=", "Zg\n", "Z g"] {
      #expect(Base64URL.decode(Array(text.utf8)) == nil, "\(text)")
    }
    for text in ["a", "mz", "mzx", "mzxw6y", "m1", "m8"] { #expect(Base32.decode(Array(text.utf8)) == nil, "\(text)") }
  }
}

extension [UInt8] {
  /// With the four bytes that an address ends with.
  var checksummed: [UInt8] { self + SHA256.hash(data: self).prefix(4) }
}
