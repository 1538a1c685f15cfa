/// Rows of text in aligned columns, two spaces apart. What is in a cell cannot upset the terminal.
struct TextTable: Sendable {
  private var rows: [[String]] = []
  private let right: Set<Int>

  /// - Parameters:
  ///   - head: the columns' names; empty for none.
  ///   - right: the columns whose texts stand at the right, as numbers do.
  init(_ head: [String] = [], right: Set<Int> = []) {
    self.right = right
    if !head.isEmpty { rows.append(head) }
  }

  mutating func add(_ cells: [String]) { rows.append(cells.map(Printable.line)) }

  /// The rows, without line ends and without blanks at their ends.
  var lines: [String] {
    var widths: [Int] = []
    for row in rows {
      for (column, cell) in row.enumerated() {
        let width = TextWidth.columns(cell)
        if column < widths.count { widths[column] = max(widths[column], width) } else { widths.append(width) }
      }
    }
    return rows.map { row in
      var line = ""
      for (column, cell) in row.enumerated() {
        let space = String(repeating: " ", count: widths[column] - TextWidth.columns(cell))
        if column > 0 { line += "  " }
        line += right.contains(column) ? space + cell : cell + space
      }
      while line.last == " " { line.removeLast() }
      return line
    }
  }

  var text: String { lines.map { $0 + "\n" }.joined() }
}

/// Numbers as people read them.
enum Figures {
  /// `0.3 ms`, `12 s`, `5 min`, `2 h 10 min`, `3 days`.
  static func time(_ seconds: Double) -> String {
    if seconds < 0.9995 { return "\(short(seconds * 1000)) ms" }
    let whole = Int(seconds.rounded())
    switch whole {
    case ..<120: return "\(whole) s"
    case ..<7200: return "\(whole / 60) min"
    case ..<172_800: return "\(whole / 3600) h\(whole / 60 % 60 == 0 ? "" : " \(whole / 60 % 60) min")"
    default: return "\(whole / 86_400) days"
    }
  }

  static func bytes(_ count: Int) -> String { Progress.amount(Double(count)) }

  /// `1 234 567`, in groups of three.
  static func count(_ number: Int) -> String {
    let digits = Array(String(number.magnitude))
    var out = number < 0 ? "-" : ""
    for (index, digit) in digits.enumerated() {
      if index > 0, (digits.count - index) % 3 == 0 { out += " " }
      out.append(digit)
    }
    return out
  }

  /// One digit behind the point below ten, none above.
  static func short(_ number: Double) -> String {
    guard number.isFinite, abs(number) < 1e15 else { return "?" }
    let tenths = Int((abs(number) * 10).rounded())
    let text = tenths >= 100 || tenths % 10 == 0 ? "\(Int(abs(number).rounded()))" : "\(tenths / 10).\(tenths % 10)"
    return number < 0 && text != "0" ? "-" + text : text
  }
}
