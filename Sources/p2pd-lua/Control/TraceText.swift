import P2PDNet

/// A traced message for people to read.
enum TraceText {
  /// `12:00:00.123  in    12  192.0.2.1:7000  5 B  "hello"`; with `hex` the bytes follow on lines of their own.
  static func lines(_ event: String, _ line: JSONText, hex: Bool) -> String {
    let time = LogTime(line["time"]?.number ?? 0).local(withDate: false)
    let way = event == "message" ? line["direction"]?.string ?? "" : event
    var out = "\(time)  \(padded(way, 6))  \(padded("\(line["pipe"]?.int ?? 0)", 4))  "
    out += padded(Printable.line(line["peer"]?.string ?? ""), 21)
    guard event == "message" else {
      if let reason = line["reason"]?.string, !reason.isEmpty { out += "  \(Printable.line(reason))" }
      return trimmed(out) + "\n"
    }
    let size = line["size"]?.int ?? 0
    let bytes = HexText.decode(line["data"]?.string ?? "") ?? []
    let rest = size > bytes.count && !bytes.isEmpty ? " ..." : ""
    out += "  \(padded(Figures.bytes(size), 8))"
    if hex { return trimmed(out) + "\n" + dump(bytes) + (rest.isEmpty ? "" : "   \(rest)\n") }
    return trimmed(bytes.isEmpty ? out : out + "  \(quoted(bytes))\(rest)") + "\n"
  }

  /// Text in quotes, everything else as escapes, on one line.
  static func quoted(_ bytes: [UInt8]) -> String {
    // A letter of which the preview has only the beginning is no reason to show all of it as bytes.
    let whole = bytes.count - Printable.unfinished(bytes)
    let text = Printable.message(bytes[..<whole]) + bytes[whole...].map { "\\x" + HexText.encode([$0]) }.joined()
    let escaped = text.replacing("\"", with: "\\\"").replacing("\n", with: "\\n").replacing("\t", with: "\\t")
    return "\"\(escaped)\""
  }

  /// Sixteen bytes a line: where, which, and what of them is text.
  static func dump(_ bytes: [UInt8]) -> String {
    var out = ""
    for start in stride(from: 0, to: bytes.count, by: 16) {
      let row = bytes[start..<min(start + 16, bytes.count)]
      var digits = ""
      for (index, byte) in row.enumerated() { digits += (index == 8 ? "  " : " ") + HexText.encode([byte]) }
      let letters = row.map { (0x20..<0x7f).contains($0) ? Character(Unicode.Scalar($0)) : "." }
      let place = String(start, radix: 16)
      out +=
        "    \(String(repeating: "0", count: max(0, 4 - place.count)))\(place) \(padded(digits, 49))  |\(String(letters))|\n"
    }
    return out
  }

  private static func padded(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(0, width - TextWidth.columns(text)))
  }

  private static func trimmed(_ line: String) -> String {
    var line = line
    while line.last == " " { line.removeLast() }
    return line
  }
}

extension LogTime {
  /// Seconds since 1970.
  init(_ seconds: Double) {
    let clamped = min(max(seconds, 0), 253_402_300_799)
    let whole = clamped.rounded(.down)
    self.init(seconds: Int(whole), milliseconds: min(999, Int((clamped - whole) * 1000)))
  }
}
