/// "did you mean": the nearest known word.
enum Spelling {
  /// The known word that a typing error away from `word` lies, if one is near enough to be meant.
  static func nearest(to word: String, among known: some Sequence<String>) -> String? {
    let limit = word.count <= 3 ? 1 : word.count <= 6 ? 2 : 3
    var best: (word: String, distance: Int)?
    for candidate in known.sorted() {
      let distance = distance(Array(fold(word)), Array(fold(candidate)))
      if distance <= limit, distance < best?.distance ?? .max { best = (candidate, distance) }
    }
    return best?.word
  }

  /// ` (did you mean 'x'?)`, or nothing.
  static func hint(_ word: String, among known: some Sequence<String>) -> String {
    nearest(to: word, among: known).map { " (did you mean '\($0)'?)" } ?? ""
  }

  /// Case and underscores aside, `msgCb` is `msg_cb`.
  private static func fold(_ word: String) -> [Character] { word.lowercased().filter { $0 != "_" } }

  /// Edits (one letter added, removed, changed, or two neighbours swapped) between two words.
  static func distance(_ a: [Character], _ b: [Character]) -> Int {
    guard a.count <= longest, b.count <= longest else { return .max }
    var rows = [Array(0...b.count)]
    for i in 0..<a.count {
      var row = [i + 1]
      for j in 0..<b.count {
        var cost = min(rows[i][j + 1] + 1, row[j] + 1, rows[i][j] + (a[i] == b[j] ? 0 : 1))
        if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { cost = min(cost, rows[i - 1][j - 1] + 1) }
        row.append(cost)
      }
      rows.append(row)
    }
    return rows[a.count][b.count]
  }

  private static let longest = 64
}
