/// Bytes as URL-safe text: base64url without padding (RFC 4648 §5) for addresses, where short counts, and lower-case
/// base32 (RFC 4648 §6) for node ids, which people read aloud and file systems must keep apart.
package enum Base64URL {
  package static func encode(_ bytes: some Collection<UInt8>) -> String { encodeBits(bytes, perCharacter: 6, alphabet) }

  /// nil for a foreign character, an impossible length, or unused bits that are not 0: one value has one text.
  package static func decode(_ text: some Collection<UInt8>) -> [UInt8]? {
    decodeBits(text, perCharacter: 6) { character in
      switch character {
      case UInt8(ascii: "A")...UInt8(ascii: "Z"): character - UInt8(ascii: "A")
      case UInt8(ascii: "a")...UInt8(ascii: "z"): character - UInt8(ascii: "a") + 26
      case UInt8(ascii: "0")...UInt8(ascii: "9"): character - UInt8(ascii: "0") + 52
      case UInt8(ascii: "-"): 62
      case UInt8(ascii: "_"): 63
      default: nil
      }
    }
  }

  private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)
}

package enum Base32 {
  package static func encode(_ bytes: some Collection<UInt8>) -> String { encodeBits(bytes, perCharacter: 5, alphabet) }

  /// Reads either case; nil as ``Base64URL/decode(_:)``.
  package static func decode(_ text: some Collection<UInt8>) -> [UInt8]? {
    decodeBits(text, perCharacter: 5) { character in
      switch character {
      case UInt8(ascii: "a")...UInt8(ascii: "z"): character - UInt8(ascii: "a")
      case UInt8(ascii: "A")...UInt8(ascii: "Z"): character - UInt8(ascii: "A")
      case UInt8(ascii: "2")...UInt8(ascii: "7"): character - UInt8(ascii: "2") + 26
      default: nil
      }
    }
  }

  private static let alphabet = Array("abcdefghijklmnopqrstuvwxyz234567".utf8)
}

private func encodeBits(_ bytes: some Collection<UInt8>, perCharacter width: UInt32, _ alphabet: [UInt8]) -> String {
  var out: [UInt8] = []
  out.reserveCapacity((bytes.count * 8 + Int(width) - 1) / Int(width))
  var pending: UInt32 = 0
  var bits: UInt32 = 0
  for byte in bytes {
    pending = pending << 8 | UInt32(byte)
    bits += 8
    while bits >= width {
      bits -= width
      out.append(alphabet[Int(pending >> bits & (1 << width - 1))])
    }
  }
  if bits > 0 { out.append(alphabet[Int(pending << (width - bits) & (1 << width - 1))]) }
  return String(decoding: out, as: UTF8.self)
}

private func decodeBits(_ text: some Collection<UInt8>, perCharacter width: UInt32, value: (UInt8) -> UInt8?)
  -> [UInt8]?
{
  var out: [UInt8] = []
  out.reserveCapacity(text.count * Int(width) / 8)
  var pending: UInt32 = 0
  var bits: UInt32 = 0
  for character in text {
    guard let digit = value(character) else { return nil }
    pending = pending << width | UInt32(digit)
    bits += width
    if bits >= 8 {
      bits -= 8
      out.append(UInt8(truncatingIfNeeded: pending >> bits))
      pending &= 1 << bits - 1
    }
  }
  // A whole character that adds nothing, or bits that no byte holds, would be a second text of the same value.
  return bits < width && pending == 0 ? out : nil
}
