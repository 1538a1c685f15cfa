import ArgumentParser
import Glibc

/// Variables that stand in for options not given. An option on the command line always wins.
enum Environment {
  static func value(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }

  /// All variables; of those named twice the first counts.
  static var all: [String: String] {
    var result: [String: String] = [:]
    var place = environ
    while let entry = place.pointee {
      let text = String(cString: entry)
      if let mark = text.firstIndex(of: "=") {
        let name = String(text[..<mark])
        if result[name] == nil { result[name] = String(text[text.index(after: mark)...]) }
      }
      place += 1
    }
    return result
  }

  /// A variable read as the option's type, nil where it is unset or empty.
  /// - Throws: a usage error naming the variable where it holds something else.
  static func value<T: ExpressibleByArgument>(_ name: String, as type: T.Type) throws -> T? {
    guard let text = value(name), !text.isEmpty else { return nil }
    guard let value = T(argument: text) else { throw ValidationError("\(name) is \"\(text)\", which is not valid.") }
    return value
  }

  /// True for `1`, `true`, `yes`, `on`; false for unset, empty, `0`, `false`, `no`, `off`.
  static func flag(_ name: String) throws -> Bool {
    switch (value(name) ?? "").lowercased() {
    case "", "0", "false", "no", "off": return false
    case "1", "true", "yes", "on": return true
    case let other: throw ValidationError("\(name) is \"\(other)\"; give 1 or 0.")
    }
  }

  /// How the user called the program, for commands shown to be typed: `scripts/run` says so by P2PD_PROGRAM.
  static var program: String {
    guard let name = value("P2PD_PROGRAM"), !name.isEmpty else { return "p2pd-lua" }
    return shellWord(name)
  }

  /// The word as a POSIX shell reads it back.
  static func shellWord(_ word: String) -> String {
    let plain =
      !word.isEmpty
      && word.utf8.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
          UInt8(ascii: "0")...UInt8(ascii: "9"):
          true
        default: "-_./:@%+=,".utf8.contains(byte)
        }
      }
    return plain ? word : "'" + word.replacing("'", with: "'\\''") + "'"
  }
}
