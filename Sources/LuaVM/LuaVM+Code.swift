internal import CLua

// Loading, environments, references and the fields of tables. All of these may be called while Lua runs.
extension LuaVM {
  /// Compiles text; bytecode is refused. Errors and tracebacks show `name:line:`. Without an environment it gets one of its own kind,
  /// shared by all such functions. Run the result with `start` or `callNow`.
  public func load(_ source: [UInt8], name: String, environment: LuaRef? = nil) throws(LuaFailure) -> LuaRef {
    var id: Int32 = 0
    let kind = source.withUnsafeBytes { s in
      withCharacters(name) {
        clua_load(
          raw, s.baseAddress?.assumingMemoryBound(to: CChar.self), s.count, $0, $1, environment?.id ?? 0, &id)
      }
    }
    if kind != CLUA_OK { throw lastFailure(kind) }
    return LuaRef(id: id)
  }

  public func load(_ source: String, name: String, environment: LuaRef? = nil) throws(LuaFailure) -> LuaRef {
    try load(Array(source.utf8), name: name, environment: environment)
  }

  /// A globals table of its own, with its own copies of the libraries and its own `require` cache. Modules are looked for beside the
  /// script (`directory`), then in `moduleDirectories`, then in the system's `package.path`; C modules in `package.cpath`.
  /// `print` goes to `onPrint` with `printTag`.
  public func makeEnvironment(directory: String, moduleDirectories: [String] = [], printTag: String = "")
    throws(LuaFailure) -> LuaRef
  {
    var encoder = LuaEncoder(self)
    encoder.addString(directory.utf8)
    for d in moduleDirectories { encoder.addString(d.utf8) }
    var id: Int32 = 0
    let kind = withCharacters(printTag) { tag, length in
      encoder.withValues(moduleDirectories.count + 1) { clua_make_environment(raw, $0, tag, length, &id) }
    }
    if kind != CLUA_OK { throw lastFailure(kind) }
    return LuaRef(id: id)
  }

  /// The environment's own table of a module made with `defineModule`: what `require(name)` gives there.
  public func module(_ name: String, in environment: LuaRef) throws(LuaFailure) -> LuaRef {
    var id: Int32 = 0
    let kind = withCharacters(name) { clua_environment_module(raw, environment.id, $0, $1, &id) }
    if kind != CLUA_OK { throw lastFailure(kind) }
    return LuaRef(id: id)
  }

  /// The files that gave modules to `require` in an environment, in the order they were loaded.
  public func loadedModules(in environment: LuaRef) throws(LuaFailure) -> [(name: String, path: String)] {
    var values = clua_values()
    let kind = clua_environment_files(raw, environment.id, &values)
    if kind != CLUA_OK { throw lastFailure(kind) }
    let list = LuaDecoder.decode(values).first ?? .nil
    var texts: [String] = []
    while let text = list[texts.count + 1].text { texts.append(text) }
    return stride(from: 0, to: texts.count - 1, by: 2).map { (name: texts[$0], path: texts[$0 + 1]) }
  }

  /// Retains `object` until the environment, and with it all of its code, was collected: its `deinit` is the proof.
  /// An environment has one sentinel; the next replaces it. Closing the VM releases it as well.
  public func setSentinel(_ object: AnyObject, on environment: LuaRef) throws(LuaFailure) {
    let kind = clua_set_sentinel(raw, environment.id, Unmanaged.passUnretained(object).toOpaque())
    if kind != CLUA_OK { throw lastFailure(kind) }
  }

  /// Starts a task that finds out what keeps the environment with this sentinel alive. It ends with one text, a path from
  /// the registry such as `registry[50] (p2pd.pipe 7).data.on_reply^_ENV`, or with nothing: the next collection takes the
  /// environment. It takes turns with the others, looks at the whole heap, and asks for memory accordingly: not for each reload.
  public func findHolder(of sentinel: AnyObject, tag: UInt64) throws(LuaFailure) -> LuaTask {
    var id: Int32 = 0
    let kind = clua_holder_search(raw, Unmanaged.passUnretained(sentinel).toOpaque(), &id)
    if kind != CLUA_OK { throw lastFailure(kind) }
    let function = LuaRef(id: id)
    defer { release(function) }
    return try spawn(function, tag: tag, wantsResults: true, noWait: "the search for a holder cannot wait")
  }

  // MARK: references

  /// Gives a reference back. At any time, also from a `deinit` during a collection, and after `close`.
  public func release(_ ref: LuaRef) {
    if isOpen { clua_release(raw, ref.id) }
  }

  /// A second reference to the same thing, released on its own.
  public func retain(_ ref: LuaRef) throws(LuaFailure) -> LuaRef {
    var id: Int32 = 0
    let kind = clua_retain(raw, ref.id, &id)
    if kind != CLUA_OK { throw lastFailure(kind) }
    return LuaRef(id: id)
  }

  /// Equal for references to the same function, table or object. Not for comparing after it was collected.
  public func identity(of ref: LuaRef) -> UInt { UInt(clua_identity(raw, ref.id)) }

  public func kind(_ ref: LuaRef) -> LuaKind { LuaKind(clua_kind(raw, ref.id)) }

  /// A new reference to a value: a new table, for instance.
  public func reference(_ value: LuaValue) throws(LuaFailure) -> LuaRef {
    var id: Int32 = 0
    let kind = try withEncoded([value]) { clua_make_reference(raw, $0, &id) }
    if kind != CLUA_OK { throw lastFailure(kind) }
    return LuaRef(id: id)
  }

  /// What a reference holds, copied out.
  public func value(_ ref: LuaRef, tablesAsRefs: Bool = false) throws(LuaFailure) -> LuaValue {
    var values = clua_values()
    let kind = clua_read(raw, ref.id, tablesAsRefs, &values)
    if kind != CLUA_OK { throw lastFailure(kind) }
    return LuaDecoder.decode(values).first ?? .nil
  }

  // MARK: fields, without metamethods

  public func field(_ table: LuaRef, _ key: LuaValue, tablesAsRefs: Bool = false) throws(LuaFailure) -> LuaValue {
    var values = clua_values()
    let kind = try withEncoded([key]) { clua_get_field(raw, table.id, $0, tablesAsRefs, &values) }
    if kind != CLUA_OK { throw lastFailure(kind) }
    return LuaDecoder.decode(values).first ?? .nil
  }

  /// `tablesAsRefs`: a table comes as a reference instead of a copy.
  public func field(_ table: LuaRef, _ key: String, tablesAsRefs: Bool = false) throws(LuaFailure) -> LuaValue {
    try field(table, .string(key), tablesAsRefs: tablesAsRefs)
  }

  public func setField(_ table: LuaRef, _ key: LuaValue, _ value: LuaValue) throws(LuaFailure) {
    let kind = try withEncoded([key, value]) { clua_set_field(raw, table.id, $0) }
    if kind != CLUA_OK { throw lastFailure(kind) }
  }

  public func setField(_ table: LuaRef, _ key: String, _ value: LuaValue) throws(LuaFailure) {
    try setField(table, .string(key), value)
  }

  func withCharacters<R>(_ text: String, _ body: (UnsafePointer<CChar>?, Int) -> R) -> R {
    var text = text
    return text.withUTF8 { $0.withMemoryRebound(to: CChar.self) { body($0.baseAddress, $0.count) } }
  }

  func withEncoded<R>(_ values: [LuaValue], _ body: (UnsafePointer<clua_values>) -> R) throws(LuaFailure) -> R {
    var encoder = LuaEncoder(self)
    for value in values { try encoder.add(value) }
    return withExtendedLifetime(values) { encoder.withValues(values.count, body) }
  }
}
