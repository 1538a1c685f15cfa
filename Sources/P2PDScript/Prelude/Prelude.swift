/// The part of the API that is written in Lua: what handles a script's own values, which then never leave the VM.
/// Every chunk gets `host` (the engine's functions) and `engine` (what the chunks share).
enum Prelude {
  /// In the order they run.
  static let chunks: [(name: String, text: String)] = [
    ("p2pd", base), ("p2pd.tasks", tasks), ("p2pd.json", json), ("p2pd.module", module),
  ]

  private static let base = #"""
    local host, engine = ...
    local type, getmetatable, error, rawget = type, getmetatable, error, rawget

    engine.classes = {}
    engine.getmetatable = host.metatable or getmetatable
    engine.pcall = pcall

    function engine.callable(f) return type(f) == "function" end

    -- The name of a value's type as errors give it.
    local function type_name(value)
      local kind = type(value)
      if kind == "userdata" then return host.type_name(value) end
      if kind == "table" then
        local meta = engine.getmetatable(value)
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
