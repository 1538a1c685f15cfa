extension Prelude {
  /// Makes the table that `require "p2pd"` gives, one for each generation: what a script registers is known to be its own.
  static let module = #"""
    local type, tostring, setmetatable, select, next, error = type, tostring, setmetatable, select, next, error
    local concat = table.concat

    -- Functions that take the generation as a first argument; tail calls, so that errors point at the script.
    local owned = { "pipe_open", "daemon", "node", "turn_client", "after", "every", "reload", "watch", "pipes" }
    local plain = { "list_interfaces", "interface", "resolve", "stun_client", "ntp", "sleep", "now", "error" }

    local function words(...)
      local parts = {}
      for i = 1, select("#", ...) do parts[i] = tostring((select(i, ...))) end
      return concat(parts, "\t")
    end

    local at_top_level = "p2pd.state is not available at the top level of a file: use it in a callback, or in 'function M.start()'"

    -- p2pd: the environment's own table of the module. holder: its field `cell`, once the script may have it, is the table
    -- with the protocol's state in its field `root`. Cells outlive generations.
    local function fill(p2pd, generation, holder)
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
      p2pd.generation = generation

      p2pd.names = {
        lookup = host.names_lookup,
        delete = function(...) return host.names_delete(generation, ...) end,
      }
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
          local cell = holder.cell
          if not cell then error(at_top_level, 2) end
          return cell.root
        end,
        __newindex = function(_, key, value)
          if key ~= "state" then error(("p2pd.%s cannot be set: keep your own things in a table of your own"):format(tostring(key)), 2) end
          local cell = holder.cell
          if not cell then error(at_top_level, 2) end
          if type(value) ~= "table" then error("p2pd.state must be a table", 2) end
          local ok, path, what = host.check_state(value, "p2pd.state")
          if not ok then error(("%s %s: p2pd.state holds plain data (and pipes)"):format(path, what), 2) end
          cell.root = value
        end,
      })
      return holder
    end

    -- What Swift calls. Each environment's copy of the module has it in its first field, until `install` takes it out.
    local doors = {}
    module[1] = doors

    -- Makes an environment's `p2pd`; gives the table whose `cell` is its state.
    function doors.install(p2pd, generation)
      p2pd[1] = nil
      return fill(p2pd, generation, {})
    end

    -- The `print` of a script whose lines somebody reads.
    function doors.patient(print)
      local await_output = host.await_output
      return function(...)
        print(...)
        await_output()
      end
    end

    function doors.new_cell() return { root = {} } end

    -- Runs a handler file and tells what it returned, in plain values.
    function doors.run_handler(chunk, name)
      local m = chunk(name)
      local kind = engine.type_name(m)
      if type(m) ~= "table" then return { kind = kind } end
      local shape = { kind = "table", types = {}, values = {} }
      for key, value in next, m do
        if type(key) == "string" then
          local t = type(value)
          shape.types[key] = math.type(value) == "integer" and "integer" or engine.type_name(value)
          local simple = t == "function" or t == "string" or t == "number" or t == "boolean"
          if simple and engine.handler_names[key] then shape.values[key] = value end
        end
      end
      return shape
    end

    -- `M.check()`: nothing, or why the file is refused.
    function doors.check(f)
      local results = table.pack(f())
      if results.n == 0 or results[1] then return nil end
      return results[2] ~= nil and tostring(results[2]) or "M.check() returned " .. tostring(results[1])
    end

    -- Whether the state may go on to other code: nothing, or why not.
    function doors.audit(cell)
      local ok, path, what = host.check_state(cell.root, "p2pd.state")
      if not ok then return ("%s %s: old code would live on in it; p2pd.state holds plain data (and pipes)"):format(path, what) end
    end

    function doors.is_empty(cell) return next(cell.root) == nil end

    -- `M.migrate(copy, old_version)`: a cell with the new state; nil and why there is none.
    function doors.migrate(f, cell, old_version)
      local copy, path, what = host.copy_state(cell.root, "p2pd.state")
      if copy == nil then return nil, ("%s %s: it cannot be migrated; p2pd.state holds plain data (and pipes)"):format(path, what) end
      local root = f(copy, old_version)
      if type(root) ~= "table" then
        return nil, "M.migrate must return the new state, a table (got " .. engine.type_name(root) .. ")"
      end
      local ok
      ok, path, what = host.check_state(root, "the state M.migrate returned")
      if not ok then return nil, ("%s %s: p2pd.state holds plain data (and pipes)"):format(path, what) end
      return { root = root }
    end

    -- `M.session(pipe, data)`: the data stays with the pipe.
    function doors.session(f, pipe)
      if pipe.data == nil then pipe.data = {} end
      return f(pipe, pipe.data)
    end

    -- The pipes that a state holds, each once.
    function doors.pipes_in(cell)
      local found, seen, rest = {}, {}, { cell.root }
      while #rest > 0 do
        local value = table.remove(rest)
        if not seen[value] then
          seen[value] = true
          if type(value) == "table" then
            for k, v in next, value do
              if type(k) == "table" or type(k) == "userdata" then rest[#rest + 1] = k end
              if type(v) == "table" or type(v) == "userdata" then rest[#rest + 1] = v end
            end
          elseif host.type_name(value) == "p2pd.pipe" then
            found[#found + 1] = value
          end
        end
      end
      return found
    end
    """#
}
