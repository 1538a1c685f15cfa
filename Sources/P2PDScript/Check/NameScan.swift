/// Finds p2pd names that do not exist: `p2pd.pipe_opne`, `pipe:recieve`, `{ framming = "line" }`. It reads words, not
/// types, so it only speaks where the name is clear: the module under the local it was required as, variables
/// called `pipe`, `node`, `client_tup` and so on that were never given another meaning, and options written in place.
struct NameScan {
  private let tokens: [LuaToken]
  private var findings: [(line: Int, text: String)] = []
  /// The locals that hold the module.
  private var modules: Set<String> = ["p2pd"]

  static func findings(in source: [UInt8]) -> [(line: Int, text: String)] {
    var scan = NameScan(tokens: LuaLexer.tokens(source))
    scan.run()
    return scan.findings
  }

  private init(tokens: [LuaToken]) { self.tokens = tokens }

  /// Whether the file's last statement is `return NAME` or `return {...}`: how handlers end.
  static func returnsTable(_ source: [UInt8]) -> Bool {
    let tokens = LuaLexer.tokens(source).filter { $0.text != ";" }
    guard let last = tokens.lastIndex(where: { $0.kind == .name && $0.text == "return" }), last + 1 < tokens.count
    else { return false }
    let next = tokens[last + 1]
    if next.kind == .symbol, next.text == "{" { return tokens.last?.text == "}" }
    return next.kind == .name && last + 2 == tokens.count && !["true", "false", "nil", "end"].contains(next.text)
  }

  private func text(_ index: Int) -> String {
    tokens.indices.contains(index) && tokens[index].kind != .string ? tokens[index].text : ""
  }

  private func isName(_ index: Int) -> Bool { tokens.indices.contains(index) && tokens[index].kind == .name }

  private mutating func run() {
    for index in tokens.indices where isName(index) && text(index + 1) == "=" && text(index + 2) == "require" {
      let argument = text(index + 3) == "(" ? index + 4 : index + 3
      guard tokens.indices.contains(argument),
        tokens[argument] == LuaToken(kind: .string, text: "p2pd", line: tokens[argument].line)
      else { continue }
      modules.insert(tokens[index].text)
    }
    for index in tokens.indices where isName(index) && !isMember(index) {
      if modules.contains(tokens[index].text) { module(at: index) } else { object(at: index) }
    }
  }

  /// Whether the name follows a dot or colon, so that it belongs to something else.
  private func isMember(_ index: Int) -> Bool {
    let before = text(index - 1)
    return (before == "." && text(index - 2) != ".") || before == ":"
  }

  private mutating func module(at index: Int) {
    guard text(index + 1) == ".", isName(index + 2) else { return }
    let name = tokens[index + 2].text
    guard API.moduleNames.contains(name) else {
      // An assignment is a script's own business: `p2pd.helper = ...` fails nothing.
      if text(index + 3) == "=", text(index + 4) != "=" { return }
      return add(index + 2, "unknown name 'p2pd.\(name)'" + Spelling.hint(name, among: API.moduleNames))
    }
    let inner = API.entries.filter { $0.owner == "p2pd.\(name)" && !API.classNames.contains($0.owner) }.map(\.name)
    if name != "state", !inner.isEmpty, text(index + 3) == ".", isName(index + 4),
      !inner.contains(tokens[index + 4].text)
    {
      let word = tokens[index + 4].text
      add(index + 4, "unknown name 'p2pd.\(name).\(word)'" + Spelling.hint(word, among: inner))
    }
    if let entry = API.byName["p2pd.\(name)"] { options(of: entry, from: index + 3) }
  }

  private mutating func object(at index: Int) {
    guard let known = API.classes.first(where: { $0.variable == tokens[index].text }), known.variable != "err" else {
      return
    }
    guard isName(index + 2), !isOtherwiseDefined(known.variable) else { return }
    let members = API.members(of: known.name)
    let name = tokens[index + 2].text
    switch text(index + 1) {
    case ":":
      let methods = members.filter { $0.kind == .method }
      guard let entry = methods.first(where: { $0.name == name }) else {
        return add(
          index + 2, "unknown method '\(known.variable):\(name)'" + Spelling.hint(name, among: methods.map(\.name)))
      }
      options(of: entry, from: index + 3)
    case "." where text(index + 3) != "." && !members.contains { $0.name == name }:
      add(index + 2, "unknown field '\(known.variable).\(name)'" + Spelling.hint(name, among: members.map(\.name)))
    default: break
    }
  }

  /// `local queue = {}` and `function queue...`: the script's own thing under one of our names.
  private func isOtherwiseDefined(_ name: String) -> Bool {
    for index in tokens.indices where text(index) == name {
      if text(index - 1) == "function" { return true }
      if text(index + 1) == "=",
        text(index + 2) == "{" || text(index + 2) == "setmetatable" || text(index + 2) == "require"
      {
        return true
      }
    }
    return false
  }

  /// The keys of a table constructor among the arguments of a call that begins at `start`.
  private mutating func options(of entry: APIEntry, from start: Int) {
    let names = entry.arguments.compactMap { argument -> String? in
      if case .options(let name) = argument.type { name } else { nil }
    }
    guard let table = names.first.flatMap(API.options(named:)), let brace = constructor(from: start) else { return }
    let known = table.allFields.map(\.name)
    var depth = 0
    for index in brace..<tokens.count where tokens[index].kind == .symbol || tokens[index].kind == .name {
      switch text(index) {
      case "{", "(", "function", "if", "do", "repeat": depth += 1
      case "}", ")", "end", "until":
        depth -= 1
        if depth == 0 { return }
      case let word
      where depth == 1 && isName(index) && text(index + 1) == "=" && text(index + 2) != "="
        && ["{", ",", ";"].contains(text(index - 1)):
        if !known.contains(word) {
          add(index, "unknown option '\(word)' of \(entry.fullName)" + Spelling.hint(word, among: known))
        }
      default: break
      }
    }
  }

  /// The `{` of `f{...}` or of the first table among `f(a, {...})`'s own arguments.
  private func constructor(from start: Int) -> Int? {
    if text(start) == "{" { return start }
    guard text(start) == "(" else { return nil }
    var depth = 0
    for index in start..<tokens.count {
      switch text(index) {
      case "(": depth += 1
      case ")":
        depth -= 1
        if depth == 0 { return nil }
      // `{ "host", port }` in place of an option table has no keys and passes.
      case "{" where depth == 1: return index
      default: break
      }
    }
    return nil
  }

  private mutating func add(_ index: Int, _ text: String) { findings.append((tokens[index].line, text)) }
}
