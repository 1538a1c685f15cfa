extension Prelude {
  /// Makes the table that `require "p2pd"` gives, one for each generation: what a script registers is known to be its own.
  static let module = #"""
    local type, tostring, setmetatable, select, next, error = type, tostring, setmetatable, select, next, error
    local concat = table.concat

    -- Functions that take the generation as a first argument; tail calls, so that errors point at the script.
    local owned = { "pipe_open", "daemon", "node", "after", "every" }
    local plain = { "list_interfaces", "interface", "resolve", "sleep", "now", "error" }

    local function words(...)
      local parts = {}
      for i = 1, select("#", ...) do parts[i] = tostring((select(i, ...))) end
      return concat(parts, "\t")
    end

    -- p2pd: the environment's own table of the module. state: holds the protocol's state in its field `root`, which
    -- outlives generations.
    local function fill(p2pd, generation, state)
      for _, name in ipairs(owned) do
        local f = host[name]
        p2pd[name] = function(...) return f(generation, ...) end
      end
      for _, name in ipairs(plain) do p2pd[name] = host[name] end
      for name, value in pairs(engine.constants) do p2pd[name] = value end
      function p2pd.spawn(f, ...) return engine.spawn(generation, f, ...) end
      function p2pd.with_timeout(seconds, f, ...) return engine.with_timeout(generation, seconds, f, ...) end
      function p2pd.gather(...) return engine.gather(generation, ...) end
      p2pd.join, p2pd.queue = engine.join, engine.queue

      p2pd.json = {}
      for name, value in pairs(engine.json) do p2pd.json[name] = value end
      p2pd.log = {}
      for _, level in ipairs { "debug", "info", "warn", "error" } do
        p2pd.log[level] = function(...) return host.log(generation, level, words(...)) end
      end

      setmetatable(p2pd, {
        __metatable = false,
        __index = function(_, key)
          if key ~= "state" then return nil end
          host.check_state(generation)
          return state.root
        end,
        __newindex = function(_, key, value)
          if key ~= "state" then error(("p2pd.%s cannot be set: keep your own things in a table of your own"):format(tostring(key)), 2) end
          host.check_state(generation)
          if type(value) ~= "table" then error("p2pd.state must be a table", 2) end
          state.root = value
        end,
      })
    end

    -- The state belongs to the file, whatever generation runs it.
    local states = {}
    module[1] = function(p2pd, generation, path)
      p2pd[1], p2pd[2] = nil, nil
      local state = states[path]
      if not state then
        state = { root = {} }
        states[path] = state
      end
      fill(p2pd, generation, state)
    end

    -- Runs a handler file and tells what it returned, in plain values.
    module[2] = function(chunk, name)
      local m = chunk(name)
      local kind = engine.type_name(m)
      if type(m) ~= "table" then return { kind = kind } end
      local shape = { kind = "table", types = {}, values = {} }
      for key, value in next, m do
        if type(key) == "string" then
          shape.types[key] = math.type(value) == "integer" and "integer" or engine.type_name(value)
          local simple = type(value) == "function" or type(value) == "string" or type(value) == "number"
          if simple and engine.handler_names[key] then shape.values[key] = value end
        end
      end
      return shape
    end
    """#
}
