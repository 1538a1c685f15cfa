/// What a person did on the keyboard.
enum Key: Equatable, Sendable {
  case text(String)
  case enter, backspace, delete, tab
  case left, right, up, down, home, end, wordLeft, wordRight
  /// Control and a letter, as the letter in lower case.
  case control(Character)
  /// Text put in by the terminal's paste (bracketed paste): line breaks in it do not send.
  case paste(String)
}

/// Bytes of a terminal in raw mode become keys. Takes them in any pieces: a letter or an escape sequence may arrive in
/// two reads. Unknown sequences are swallowed whole.
struct KeyDecoder: Sendable {
  private enum State {
    case ground
    case escape
    /// After `ESC [` or `ESC O`: parameters until a final byte (ECMA-48 §5.4).
    case sequence([UInt8])
    case pasting([UInt8])
  }

  private var state = State.ground
  private var pending: [UInt8] = []
  private var missing = 0

  mutating func decode(_ bytes: some Sequence<UInt8>) -> [Key] {
    var keys: [Key] = []
    for byte in bytes {
      if let key = decode(byte) { keys.append(key) }
    }
    return keys
  }

  private mutating func decode(_ byte: UInt8) -> Key? {
    switch state {
    case .ground: return ground(byte)
    case .escape:
      state = byte == UInt8(ascii: "[") || byte == UInt8(ascii: "O") ? .sequence([]) : .ground
      switch byte {
      case UInt8(ascii: "b"): return .wordLeft
      case UInt8(ascii: "f"): return .wordRight
      case 0x7f, 0x08: return .control("w")
      default: return nil
      }
    case .sequence(var parameters):
      guard (0x40...0x7e).contains(byte) else {
        parameters.append(byte)
        state = parameters.count > Self.longestSequence ? .ground : .sequence(parameters)
        return nil
      }
      state = .ground
      return sequence(parameters, final: byte)
    case .pasting(var text):
      state = .ground  // gives the buffer up, so that appending does not copy it
      text.append(byte)
      if byte == Self.pasteEnd.last, text.suffix(Self.pasteEnd.count).elementsEqual(Self.pasteEnd) {
        return .paste(String(decoding: text.dropLast(Self.pasteEnd.count), as: UTF8.self))
      }
      if text.count > Self.longestPaste { return .paste(String(decoding: text, as: UTF8.self)) }
      state = .pasting(text)
      return nil
    }
  }

  private mutating func ground(_ byte: UInt8) -> Key? {
    if missing > 0 {
      if byte & 0xc0 == 0x80 {
        pending.append(byte)
        missing -= 1
        guard missing == 0 else { return nil }
        return .text(String(decoding: pending, as: UTF8.self))
      }
      missing = 0
    }
    switch byte {
    case 0x1b:
      state = .escape
      return nil
    case 0x0d, 0x0a: return .enter
    case 0x09: return .tab
    case 0x7f, 0x08: return .backspace
    case 1..<0x1b: return .control(Character(Unicode.Scalar(byte + 0x60)))
    case 0x20..<0x7f: return .text(String(Unicode.Scalar(byte)))
    default:
      let length = Printable.sequenceLength(byte)
      guard length > 1 else { return nil }
      pending = [byte]
      missing = length - 1
      return nil
    }
  }

  /// The sequences of xterm and its many likes; the parameter `;5` is Control, `;3` is Alt.
  private mutating func sequence(_ parameters: [UInt8], final: UInt8) -> Key? {
    let text = String(decoding: parameters, as: UTF8.self)
    let modified = text.hasSuffix(";5") || text.hasSuffix(";3")
    switch final {
    case UInt8(ascii: "A"): return .up
    case UInt8(ascii: "B"): return .down
    case UInt8(ascii: "C"): return modified ? .wordRight : .right
    case UInt8(ascii: "D"): return modified ? .wordLeft : .left
    case UInt8(ascii: "H"): return .home
    case UInt8(ascii: "F"): return .end
    case UInt8(ascii: "~"):
      switch text {
      case "1", "7": return .home
      case "4", "8": return .end
      case "3": return .delete
      case "200":
        state = .pasting([])
        return nil
      default: return nil
      }
    default: return nil
    }
  }

  private static let longestSequence = 32
  private static let longestPaste = 1 << 20
  private static let pasteEnd: [UInt8] = Array("\u{1b}[201~".utf8)
}
