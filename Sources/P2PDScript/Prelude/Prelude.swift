/// The part of the API that is written in Lua: what handles a script's own values, which then never leave the VM.
/// One chunk, run once with the module's table and `host`, the engine's functions.
enum Prelude {
  static var text: String {
    "local module, host = ...\nlocal engine = {}\n" + tables
      + [base, pipes, tasks, json, module].map { "do\n\($0)\nend\n" }.joined()
  }

  /// Words of the API table that the Lua side needs.
  private static var tables: String {
    let names = API.callbacks.map { "\($0.name) = true" }.joined(separator: ", ")
    return """
      engine.handler_names = { \(names) }
      engine.constants = {
        TCP = "tcp", UDP = "udp", IP4 = 4, IP6 = 6, DIRECT = "direct", REVERSE = "reverse", PUNCH = "punch", RELAY = "relay",
      }

      """
  }

  private static let base = #"""
    local type, getmetatable, error, rawget = type, getmetatable, error, rawget

    engine.pcall = pcall
    -- What the objects made here are: their metatables are locked, since all scripts of the VM share them.
    engine.kinds = setmetatable({}, { __mode = "k" })
    engine.null = host.word("null")
    engine.empty_array = host.word("[]")

    function engine.callable(f) return type(f) == "function" end

    -- The name of a value's type as errors give it.
    local function type_name(value)
      local kind = type(value)
      if kind == "userdata" then return host.type_name(value) end
      if kind == "table" then
        if engine.kinds[value] then return engine.kinds[value] end
        local meta = getmetatable(value)
        local name = type(meta) == "table" and rawget(meta, "__name")
        if type(name) == "string" then return name end
      end
      return kind
    end
    engine.type_name = type_name

    -- Misuse, raised where the function that calls this was called.
    function engine.bad_argument(index, name, expected, value)
      error(("bad argument #%d to '%s' (%s expected, got %s)"):format(index, name, expected, type_name(value)), 3)
    end
    """#
}
