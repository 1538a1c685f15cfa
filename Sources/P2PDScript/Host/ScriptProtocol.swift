import LuaVM
import NIOCore
import P2PDNet
import P2PDNode

/// A protocol written in Lua: what a handler file returned.
public final class ScriptProtocol: @unchecked Sendable {
  /// What peers choose it by.
  public let name: String
  public let path: String
  /// `M.version`: the version of what the script keeps in `p2pd.state`.
  public let version: Int
  /// The loading in service. Confined to the host's loop.
  let generation: Generation

  init(name: String, path: String, version: Int, generation: Generation) {
    self.name = name
    self.path = path
    self.version = version
    self.generation = generation
  }
}

extension ScriptHost {
  /// Loads and checks handler files; a folder stands for its `*.lua` files. Nothing is live before ``attach(_:)``.
  /// - Throws: ``ScriptError`` for the first that is unreadable, has a syntax error, fails at its top level, returns
  ///   no table of callbacks, has an unknown one, or has another's name. What was loaded before stays loaded.
  public func loadProtocols(_ paths: [String]) async throws -> [ScriptProtocol] {
    try await loop.submit {
      try paths.flatMap { try ScriptFiles.handlers(at: $0) }.map { try self.loadProtocol($0) }
    }.get()
  }

  func loadProtocol(_ path: String) throws -> ScriptProtocol {
    let source = try ScriptFiles.read(path)
    let generation = makeGeneration(name: ScriptFiles.baseName(path), path: path)
    do {
      let shape = try runTopLevel(source, generation)
      let made = try HandlerShape(path: path, shape).apply(to: generation)
      if let other = loaded.first(where: { $0.name == made.name }) {
        throw ScriptError(
          file: path, message: "\(path): the protocol name '\(made.name)' is taken by \(other.path); set M.protocol")
      }
      loaded.append(made)
      return made
    } catch {
      generation.retire("not loaded")
      drop(generation)
      throw error
    }
  }

  /// Runs a handler file; what it returned comes as the table that the prelude's `run_handler` makes of it.
  private func runTopLevel(_ source: [UInt8], _ generation: Generation) throws -> [(key: LuaValue, value: LuaValue)] {
    let path = generation.path
    do {
      try prepare(generation, arguments: nil)
      guard let environment = generation.environment, let run = generation.runner else { return [] }
      let chunk = try vm.load(source, name: path, environment: environment)
      defer { vm.release(chunk) }
      loading = generation
      defer { loading = nil }
      let results = try vm.callNow(run, [.ref(chunk), .string(generation.name)])
      afterRun()
      guard case .table(let shape)? = results.first else { return [] }
      return shape
    } catch let failure as LuaFailure {
      throw ScriptError(file: path, failure)
    }
  }

  /// Gives a generation its environment and its `p2pd`.
  func prepare(_ generation: Generation, arguments: [String]?) throws {
    let environment = try vm.makeEnvironment(
      directory: ScriptFiles.directory(generation.path), moduleDirectories: options.moduleDirectories,
      printTag: "\(generation.id)")
    generation.environment = environment
    let module = try vm.module("p2pd", in: environment)
    defer { vm.release(module) }
    // The prelude leaves its two functions for Swift in the module's first fields, and takes them out itself.
    guard let install = try vm.field(module, .int(1)).ref else { return }
    defer { vm.release(install) }
    generation.runner = try vm.field(module, .int(2)).ref
    _ = try vm.callNow(install, [.ref(module), .int(generation.id), .string(generation.path)])
    guard let arguments else { return }
    var pairs: [(key: LuaValue, value: LuaValue)] = [(.int(0), .string(generation.path))]
    for (index, argument) in arguments.enumerated() { pairs.append((.int(Int64(index + 1)), .string(argument))) }
    try vm.setField(environment, "arg", .table(pairs))
  }

  /// Hosts every loaded protocol on the node under its name; the first one serves the default protocol too. From now
  /// on the scripts are live: timers run, `M.start` is called.
  /// - Throws: NetError when the node refuses a name.
  public func attach(_ node: Node) async throws {
    try await loop.submit {
      for (index, hosted) in self.loaded.enumerated() {
        let generation = hosted.generation
        let face = NodeFace(node, generation: generation, isOwn: false)
        generation.hostingNode = face
        try face.host(hosted.name, generation.handlers)
        if index == 0 { try face.host("", generation.handlers) }
      }
      for hosted in self.loaded {
        let generation = hosted.generation
        generation.activate()
        // A task and not a callback: a loop in `start` must not hold up the end.
        if let start = generation.startCallback {
          generation.startCallback = nil
          TaskHandle(generation, isQuiet: false, place: "start").run(start)
        }
      }
    }.get()
  }
}

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
  func apply(to generation: Generation) throws -> ScriptProtocol {
    let vm = generation.host.vm
    do {
      try check()
    } catch {
      OptionReader.release(.table(values), vm)
      throw error
    }
    var name = ScriptFiles.baseName(path)
    var version = 1
    for case (.string(let key), let value) in values {
      switch (String(decoding: key, as: UTF8.self), value) {
      case ("msg_cb", .ref(let ref)): generation.handlers.add(ref, .message)
      case ("up_cb", .ref(let ref)): generation.handlers.add(ref, .up)
      case ("end_cb", .ref(let ref)): generation.handlers.add(ref, .end)
      case ("error_cb", .ref(let ref)): generation.errorCallback = ref
      case ("start", .ref(let ref)): generation.startCallback = ref
      case ("stop", .ref(let ref)): generation.stopCallback = ref
      case ("protocol", .string(let bytes)): name = String(decoding: bytes, as: UTF8.self)
      case ("version", .int(let number)): version = Int(clamping: number)
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
    return ScriptProtocol(name: name, path: path, version: version, generation: generation)
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
    guard types.contains(where: { ["msg_cb", "up_cb", "end_cb", "start"].contains($0.name) }) else {
      throw ScriptError(file: path, message: "\(path): the table has no msg_cb, up_cb, end_cb or start")
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
