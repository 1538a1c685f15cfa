import LuaVM

/// What a handler file returned, checked.
struct HandlerShape {
  let path: String
  private var types: [(name: String, type: String)] = []
  private var values: [(key: LuaValue, value: LuaValue)] = []
  private var kind = "nothing"

  init(path: String, _ shape: [(key: LuaValue, value: LuaValue)]) {
    self.path = path
    if case .string(let bytes)? = shape.named("kind") { kind = String(decoding: bytes, as: UTF8.self) }
    if case .table(let pairs)? = shape.named("types") {
      types = pairs.compactMap {
        guard case (.string(let name), .string(let type)) = $0 else { return nil }
        return (String(decoding: name, as: UTF8.self), String(decoding: type, as: UTF8.self))
      }
    }
    if case .table(let pairs)? = shape.named("values") { values = pairs }
  }

  /// Gives the generation its callbacks.
  /// - Returns: the protocol's name.
  func apply(to generation: Generation) throws -> String {
    let vm = generation.host.vm
    do {
      try check()
    } catch {
      OptionReader.release(.table(values), vm)
      throw error
    }
    var name = ScriptFiles.baseName(path)
    for case (.string(let key), let value) in values {
      switch (String(decoding: key, as: UTF8.self), value) {
      case ("msg_cb", .ref(let ref)): generation.handlers.add(ref, .message)
      case ("up_cb", .ref(let ref)): generation.handlers.add(ref, .up)
      case ("path_cb", .ref(let ref)): generation.handlers.add(ref, .path)
      case ("end_cb", .ref(let ref)): generation.handlers.add(ref, .end)
      case ("session", .ref(let ref)): generation.handlers.set(session: ref)
      case ("accept_cb", .ref(let ref)): generation.handlers.set(accept: ref)
      case ("error_cb", .ref(let ref)): generation.errorCallback = ref
      case ("start", .ref(let ref)): generation.startCallback = ref
      case ("stop", .ref(let ref)): generation.stopCallback = ref
      case ("check", .ref(let ref)): generation.checkCallback = ref
      case ("migrate", .ref(let ref)): generation.migrateCallback = ref
      case ("adopt", .ref(let ref)): generation.adoptCallback = ref
      case ("drain", .bool(let drains)): generation.drains = drains
      case ("protocol", .string(let bytes)): name = String(decoding: bytes, as: UTF8.self)
      case ("version", .int(let number)): generation.version = Int(clamping: number)
      default: OptionReader.release(value, vm)
      }
    }
    guard !name.isEmpty, name.utf8.count <= Self.longestName, name.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else {
      throw ScriptError(
        file: path,
        message:
          "\(path): bad protocol name '\(name)': 1 to \(Self.longestName) printable ASCII letters without spaces; set M.protocol"
      )
    }
    return name
  }

  private func check() throws {
    guard kind == "table" else {
      throw ScriptError(
        file: path,
        message:
          "\(path): a handler must return a table of callbacks, this returned \(kind): is 'return M' missing at the end?"
      )
    }
    let known = API.callbacks.map(\.name)
    for (name, type) in types.sorted(by: { $0.name < $1.name }) {
      guard let callback = API.callbacks.first(where: { $0.name == name }) else {
        guard let meant = misspelt(name, known) else { continue }
        throw ScriptError(file: path, message: "\(path): unknown callback '\(name)'" + meant)
      }
      guard type == callback.type.words || (type == "number" && callback.type == .integer) else {
        throw ScriptError(file: path, message: "\(path): '\(name)' must be a \(callback.type.words), not a \(type)")
      }
    }
    guard types.contains(where: { ["msg_cb", "session", "up_cb", "end_cb", "start"].contains($0.name) }) else {
      throw ScriptError(file: path, message: "\(path): the table has no msg_cb, session, up_cb, end_cb or start")
    }
    if types.contains(where: { $0.name == "msg_cb" }), types.contains(where: { $0.name == "session" }) {
      throw ScriptError(
        file: path, message: "\(path): msg_cb and session are both given: a pipe's messages go to one of them")
    }
  }

  /// A name that ends in `_cb`, or is a callback's but for case and underscores. Other names are the script's own.
  private func misspelt(_ name: String, _ known: [String]) -> String? {
    let plain = name.lowercased().filter { $0 != "_" && $0 != "-" }
    let same = known.first { $0.filter { $0 != "_" } == plain }
    if let same { return " (did you mean '\(same)'?)" }
    guard name.hasSuffix("_cb") else { return nil }
    return Spelling.hint(name, among: known)
  }

  /// ALPN names are at most 255 bytes (RFC 7301 §3.1), and the node needs some for itself.
  private static let longestName = 100
}
