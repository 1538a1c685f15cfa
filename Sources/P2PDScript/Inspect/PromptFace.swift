import LuaVM
import P2PDNet
import P2PDNode

/// What the prompt's Lua side may ask of the host.
final class PromptFace {
  private let host: ScriptHost
  private let generation: Generation
  private let print: (String) -> Void

  init(_ host: ScriptHost, _ generation: Generation, _ print: @escaping (String) -> Void) {
    self.host = host
    self.generation = generation
    self.print = print
  }

  static var luaClass: LuaClass {
    LuaClass(
      name: "p2pd.prompt", type: PromptFace.self,
      methods: [
        (
          "print",
          method {
            $0.print(String(($1.string(1) ?? "").prefix(longestLine))); return .none
          }
        ),
        ("type_name", method { .string($1.kindName(1)) }),
        ("protocols", method { face, _ in .values([.list(face.host.hosted.map { .string($0.name) })]) }),
        ("protocol", method { try $0.protocolFacts($1) }),
        ("pipes", method { try $0.pipes($1) }),
        ("pipe", method { try $0.pipe($1) }),
        ("node", method { face, _ in face.node() }),
      ])
  }

  private static func method(_ body: @escaping (PromptFace, borrowing LuaCall) throws -> LuaReturn)
    -> HostFunction
  {
    bound { call in
      guard let face = call.object(0, as: PromptFace.self) else { throw call.need(0, 0, "prompt", "p2pd.prompt") }
      return try body(face, call)
    }
  }

  /// `protocol(name)`: a table with its globals and its module of `p2pd`, through which its state is reached; nil.
  private func protocolFacts(_ call: borrowing LuaCall) throws -> LuaReturn {
    guard let name = call.string(1), let hosted = host.hostedProtocol(name) else { return .one(.nil) }
    let of = hosted.current
    guard let environment = of.environment else { return .one(.nil) }
    let module = try host.vm.module("p2pd", in: environment)
    defer { host.vm.release(module) }
    let facts: [(String, LuaValue)] = [
      ("name", .string(hosted.name)), ("path", .string(hosted.path)), ("version", .int(Int64(of.version))),
      ("generation", .int(of.id)), ("messages", .int(Int64(clamping: of.counters.messages))),
      ("errors", .int(Int64(clamping: of.counters.errors))), ("pipes", .int(Int64(hosted.slot.pipes.count))),
      ("globals", .ref(environment)), ("module", .ref(module)),
    ]
    // Into the table before the module's reference is given back.
    let table = try host.vm.reference(.table(facts.map { (key: .string($0.0), value: $0.1) }))
    return .one(.taken(table))
  }

  /// `pipes([protocol])`
  private func pipes(_ call: borrowing LuaCall) throws -> LuaReturn {
    let name = call.string(1)
    let faces = host.openFaces.filter { name == nil || $0.protocolName == name }
    return .values([.list(try faces.map { .ref(try $0.reference()) })])
  }

  private func pipe(_ call: borrowing LuaCall) throws -> LuaReturn {
    guard let id = call.int(1), let number = UInt64(exactly: id), let face = host.face(number) else {
      return .one(.nil)
    }
    return .one(.ref(try face.reference()))
  }

  /// The node that hosts the scripts; nil before it does.
  private func node() -> LuaReturn {
    guard let node = host.node else { return .one(.nil) }
    return .object(NodeFace(node, generation: generation, isOwn: false, book: host.hosted.first?.book ?? NodeBook()))
  }

  private static let longestLine = 64 << 10
}

/// Where in a line a name is to be completed: `pipes[3].pee` is the path `pipes`, 3 and the letters `pee`.
struct CompletionPlace: Equatable {
  enum Step: Equatable {
    case name(String)
    case index(Int64)
  }

  var path: [Step] = []
  var typed = ""
  /// After a colon: only methods fit.
  var isMethod = false

  /// nil where nothing can be completed: inside a number, after a call, in a string's middle.
  init?(_ text: String) {
    var rest = Array(text.utf8)[...]
    typed = Self.takeName(&rest)
    if typed.isEmpty, let last = rest.last, Self.isWord(last) { return nil }
    if !typed.isEmpty, let first = typed.utf8.first, (0x30...0x39).contains(first) { return nil }
    guard let separator = rest.last, separator == UInt8(ascii: ".") || separator == UInt8(ascii: ":") else { return }
    isMethod = separator == UInt8(ascii: ":")
    rest.removeLast()
    // Two dots are Lua's concatenation: a name of its own follows.
    if rest.last == UInt8(ascii: ".") {
      isMethod = false
      return
    }
    repeat {
      guard let step = Self.takeStep(&rest) else { return nil }
      path.insert(step, at: 0)
      if case .index = step { continue }
      guard rest.last == UInt8(ascii: ".") else { return }
      rest.removeLast()
    } while path.count < Self.deepest
    return nil
  }

  private static func takeStep(_ rest: inout ArraySlice<UInt8>) -> Step? {
    if rest.last == UInt8(ascii: "]") {
      rest.removeLast()
      let digits = takeName(&rest)
      guard let index = Int64(digits), rest.last == UInt8(ascii: "[") else { return nil }
      rest.removeLast()
      return .index(index)
    }
    let name = takeName(&rest)
    return isName(name) ? .name(name) : nil
  }

  private static func takeName(_ rest: inout ArraySlice<UInt8>) -> String {
    let start = rest.lastIndex { !isWord($0) }.map { $0 + 1 } ?? rest.startIndex
    let name = String(decoding: rest[start...], as: UTF8.self)
    rest = rest[..<start]
    return name
  }

  private static func isWord(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"):
      true
    default: false
    }
  }

  /// Whether Lua lets the text be a name.
  static func isName(_ text: String) -> Bool {
    guard let first = text.utf8.first, !(0x30...0x39).contains(first) else { return false }
    return text.utf8.allSatisfy(isWord)
  }

  static let keywords: Set<String> = [
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in", "local", "nil",
    "not",
    "or", "repeat", "return", "then", "true", "until", "while",
  ]
  private static let deepest = 16
}
