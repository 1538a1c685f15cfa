/// The Lua side of a prompt, run once for each of them with `(session, read_only, own, p2pd)`: the prompt's environment,
/// how values are shown, and what names a Tab completes. It is the engine's own code with libraries of its own, so what
/// a script did to its globals does not matter here.
enum PromptLua {
  static let text =
    environment + show + views + complete + #"""

      return { enter = enter, show = show, complete = complete }
      """#

  /// `protocols`, `pipes`, `node`, `help`, and where a line's names are looked for.
  private static let environment = #"""
    local session, read_only, own, p2pd = ...
    local type, tostring, rawget, rawset, rawlen, next, pairs, ipairs = type, tostring, rawget, rawset, rawlen, next, pairs, ipairs
    local getmetatable, setmetatable, pcall, error, select = getmetatable, setmetatable, pcall, error, select
    local format, gsub, sub, find, byte = string.format, string.gsub, string.sub, string.find, string.byte
    local concat, sort, pack, unpack = table.concat, table.sort, table.pack, table.unpack
    local utf8_len, math_type = utf8.len, math.type

    -- Helpers that look like tables and ask the node each time.
    local helpers = {}
    local function helper(fields)
      fields.__metatable = false
      local value = setmetatable({}, fields)
      helpers[value] = true
      return value
    end

    -- What is known of a hosted protocol; its state and globals are the script's own.
    local function protocol(name)
      local facts = session:protocol(name)
      if not facts then return nil end
      local module = facts.module
      facts.module = nil
      local good, state = pcall(function() return module.state end)
      facts.state = good and state or nil
      return facts
    end

    local protocols = helper {
      __index = function(_, name) return protocol(name) end,
      __len = function() return #session:protocols() end,
      __pairs = function()
        local names, i = session:protocols(), 0
        return function()
          i = i + 1
          if names[i] then return names[i], protocol(names[i]) end
        end
      end,
    }

    local pipes = helper {
      __index = function(_, id) return session:pipe(id) end,
      __len = function() return #session:pipes() end,
      __call = function(_, name) return session:pipes(name) end,
      __pairs = function()
        local list, i = session:pipes(), 0
        return function()
          i = i + 1
          if list[i] then return list[i].id, list[i] end
        end
      end,
    }

    local help = helper {
      __tostring = function()
        return [[
    protocols.NAME          a hosted protocol: version, generation, messages, errors, state, globals
    pipes[ID], pipes(NAME)  an open pipe; the pipes of a protocol
    node                    the node: node:address(), node:connect(...)
    p2pd                    what scripts get from require "p2pd"
    _                       the value shown last
    A line may wait: p2pd.sleep(1), pipes[3]:recv(). Control-C ends it. What a line started ends with the prompt.]]
      end,
    }

    local extras = { protocols = protocols, pipes = pipes, node = session:node(), help = help, p2pd = p2pd }
    for name, value in pairs(extras) do own[name] = value end

    function own.print(...)
      local parts = {}
      for i = 1, select("#", ...) do parts[i] = tostring((select(i, ...))) end
      session:print(concat(parts, "\t"))
    end
    extras.print = own.print

    """#

  /// Values as text of a bounded size.
  private static let show = #"""
    local DEPTH, ITEMS, NODES, TEXT, STRING, WIDTH, SCAN = 6, 100, 3000, 48 * 1024, 2000, 96, 20000
    local real = setmetatable({}, { __mode = "k" })  -- a read-only view -> what it shows

    local escapes = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\\"] = "\\\\", ['"'] = '\\"', ["\0"] = "\\0" }
    local function escape(c) return escapes[c] or format("\\x%02X", byte(c)) end

    local function quote(s)
      local cut = #s > STRING and #s
      if cut then
        s = sub(s, 1, STRING)
        -- Not in the middle of a letter.
        if not utf8_len(s) then
          for back = 1, 3 do
            if utf8_len(s, 1, -1 - back) then s = sub(s, 1, -1 - back) break end
          end
        end
      end
      s = gsub(s, utf8_len(s) and '[%c\\"]' or '[%c\\"\127-\255]', escape)
      return '"' .. s .. '"' .. (cut and format(" (%d bytes in all)", cut) or "")
    end

    local words = {}
    for word in ("and break do else elseif end false for function goto if in local nil not or repeat return then true until while"):gmatch("%a+") do
      words[word] = true
    end

    local function key_text(key)
      if type(key) == "string" then
        if find(key, "^[%a_][%w_]*$") and not words[key] then return key end
        return "[" .. quote(sub(key, 1, 200)) .. "]"
      end
      if type(key) == "number" or type(key) == "boolean" then return "[" .. tostring(key) .. "]" end
      return "[" .. format("%s", type(key)) .. "]"
    end

    local order = { number = 1, string = 2, boolean = 3 }
    local function before(a, b)
      local x, y = order[type(a)] or 4, order[type(b)] or 4
      if x ~= y then return x < y end
      if x <= 2 then return a < b end
      return false
    end

    -- A word for a table that speaks for itself (a task, a queue, an object with __tostring); nil for a plain one.
    local function own_words(value)
      local meta = getmetatable(value)
      -- A script's __tostring may do anything.
      if meta == nil or read_only and not helpers[value] then return nil end
      if type(meta) == "table" and rawget(meta, "__tostring") == nil then return nil end
      local good, text = pcall(tostring, value)
      if good and type(text) == "string" and not find(text, "^table: ") then return sub(text, 1, STRING) end
    end

    local write

    local function write_table(value, depth, path, budget)
      if budget.path[value] then return "<cycle: " .. budget.path[value] .. ">" end
      local words = own_words(value)
      if words then return words end
      if depth > DEPTH then return "{...}" end
      budget.path[value] = path
      local parts, length, lines, left = {}, 0, false, 0
      local function add(text)
        parts[#parts + 1] = text
        length = length + #text + 2
        if find(text, "\n", 1, true) then lines = true end
      end
      local count, walk, state, first = 0, next, value, nil
      local sequence = 0
      if helpers[value] then
        walk, state, first = pairs(value)
      else
        while sequence < ITEMS and rawget(value, sequence + 1) ~= nil do
          sequence = sequence + 1
          add(write(rawget(value, sequence), depth + 1, path .. "[" .. sequence .. "]", budget))
        end
        local all = rawlen(value)
        if all > sequence and sequence == ITEMS then left = all - sequence end
      end
      local keys, values, whole = {}, {}, left > 0 and sequence + left or sequence
      for key, item in walk, state, first do
        local in_sequence = math_type(key) == "integer" and key >= 1 and key <= whole and not helpers[value]
        if not in_sequence then
          count = count + 1
          if count > SCAN then break end
          if #keys < ITEMS then
            keys[#keys + 1] = key
            values[key] = item
          else
            left = left + 1
          end
        end
      end
      pcall(sort, keys, before)
      for _, key in ipairs(keys) do
        local name = key_text(key)
        local step = sub(name, 1, 1) == "[" and name or "." .. name
        budget.size = budget.size + #name
        add(name .. " = " .. write(values[key], depth + 1, path .. step, budget))
      end
      if count > SCAN then add("... more than " .. SCAN) elseif left > 0 then add("... " .. left .. " more") end
      budget.path[value] = nil
      if #parts == 0 then return "{}" end
      if not lines and length + 2 * depth <= WIDTH then return "{ " .. concat(parts, ", ") .. " }" end
      local indent = ("  "):rep(depth)
      return "{\n  " .. indent .. concat(parts, ",\n  " .. indent) .. "\n" .. indent .. "}"
    end

    function write(value, depth, path, budget)
      value = real[value] or value
      local kind = type(value)
      budget.nodes = budget.nodes + 1
      if budget.nodes > NODES or budget.size > TEXT then return "..." end
      local text
      if kind == "string" then
        text = quote(value)
      elseif kind == "table" then
        return write_table(value, depth, path, budget)
      elseif kind == "function" or kind == "thread" then
        text = format("%s: %p", kind, value)
      else
        local good, words = pcall(tostring, value)
        text = good and words or kind
      end
      budget.size = budget.size + #text
      return text
    end

    -- quoted: a string is shown as Lua writes it, and not as it is.
    local function show(quoted, ...)
      local parts, lines = {}, false
      local count = select("#", ...)
      for i = 1, count < ITEMS and count or ITEMS do
        local value = (select(i, ...))
        if type(value) == "string" and not quoted then
          parts[i] = sub(value, 1, TEXT)
        else
          parts[i] = write(value, 0, "top", { nodes = 0, size = 0, path = {} })
        end
        if find(parts[i], "\n", 1, true) then lines = true end
      end
      if count > ITEMS then parts[#parts + 1] = "... " .. count - ITEMS .. " more" end
      if count > 0 then rawset(own, "_", (...)) end
      return concat(parts, lines and "\n" or "\t")
    end

    """#

  /// `--read-only`: values are seen through views that refuse every change, functions that act are not called.
  private static let views = #"""
    local view
    local seen = setmetatable({}, { __mode = "kv" })  -- a value -> its view
    local harmless = setmetatable({}, { __mode = "k" })  -- functions made here, which may be called

    local function views(...)
      local values = pack(...)
      for i = 1, values.n do values[i] = view(values[i]) end
      return unpack(values, 1, values.n)
    end

    local function refuse(what)
      error("read-only: " .. what .. " (start the prompt without --read-only)", 3)
    end

    -- The methods that only tell.
    local telling = {
      ["p2pd.pipe"] = { getsockname = true, getpeername = true, stats = true },
      ["p2pd.node"] = { address = true, pipes = true },
      ["p2pd.interface"] = { supported = true },
    }

    -- A field without running any of the script's code.
    local function field(value, key, depth)
      if type(value) == "table" then
        if helpers[value] then return value[key] end
        local found = rawget(value, key)
        if found ~= nil or depth == 0 then return found end
        local meta = getmetatable(value)
        local index = type(meta) == "table" and rawget(meta, "__index")
        if type(index) == "table" then return field(index, key, depth - 1) end
        return nil
      end
      if type(value) ~= "userdata" then return nil end
      local allowed = telling[session:type_name(value)]
      local good, found = pcall(function() return value[key] end)
      if not good then return nil end
      if type(found) == "function" and allowed and allowed[key] then
        local function method(_, ...) return views(found(value, ...)) end
        harmless[method] = true
        return method
      end
      return found
    end

    local meta = {
      __metatable = false,
      __index = function(self, key)
        return view(field(real[self], real[key] or key, 8))
      end,
      __newindex = function() refuse("nothing can be changed") end,
      __call = function(self, ...)
        if helpers[real[self]] then return view(real[self](...)) end
        refuse("this cannot be called")
      end,
      __len = function(self)
        local value = real[self]
        if helpers[value] or type(value) == "userdata" then return #value end
        return rawlen(value)
      end,
      __pairs = function(self)
        local value = real[self]
        local walk, state, key = next, value, nil
        if helpers[value] then walk, state, key = pairs(value) end
        local item
        return function()
          key, item = walk(state, key)
          if key ~= nil then return view(key), view(item) end
        end
      end,
      __tostring = function(self)
        local value = real[self]
        if type(value) == "userdata" or helpers[value] then return tostring(value) end
        return format("table: %p", value)
      end,
      __close = function() end,
    }

    function view(value)
      local kind = type(value)
      if kind ~= "table" and kind ~= "userdata" and kind ~= "function" and kind ~= "thread" then return value end
      if real[value] or harmless[value] then return value end
      if seen[value] then return seen[value] end
      local made
      if kind == "function" or kind == "thread" then
        made = function() refuse("a function of the node or of a script is not called") end
      else
        made = setmetatable({}, meta)
      end
      real[made], seen[value] = value, made
      return made
    end

    -- A value of the prompt's own with the views in it replaced by what they show, for functions that only read it.
    local function plain(value, depth)
      if real[value] then return real[value] end
      if type(value) ~= "table" then return value end
      if depth > 100 then error("too deep, or a cycle", 3) end
      local copy = {}
      for key, item in next, value do copy[plain(key, depth + 1)] = plain(item, depth + 1) end
      return copy
    end

    local function copy_of(from, ...)
      local to = {}
      for _, name in ipairs { ... } do to[name] = from[name] end
      return to
    end

    -- Functions that read values, and what they may be given.
    local function reading(f) return function(value) return f(plain(value, 0)) end end

    local function read_only_module(module)
      local shown = copy_of(module, "now", "sleep", "error")
      for name, value in next, module do
        if type(value) ~= "function" and type(value) ~= "table" then shown[name] = value end
        if type(value) == "function" and not shown[name] then
          shown[name] = function() refuse("p2pd." .. name .. " acts") end
        end
      end
      shown.list_interfaces = function() return view(module.list_interfaces()) end
      shown.json = { encode = reading(module.json.encode), decode = module.json.decode, null = module.json.null }
      shown.log = {}
      for level in next, module.log do shown.log[level] = function() refuse("p2pd.log." .. level .. " acts") end end
      return setmetatable(shown, {
        __metatable = false,
        __index = function(_, key) if key == "state" then return view(module.state) end end,
      })
    end

    local function read_only_globals(module)
      local globals = copy_of(own, "assert", "error", "ipairs", "pairs", "pcall", "xpcall", "select", "setmetatable", "getmetatable",
        "tonumber", "tostring", "print", "_VERSION")
      globals.string = copy_of(own.string, "byte", "char", "find", "format", "gmatch", "gsub", "len", "lower", "match", "pack",
        "packsize", "rep", "reverse", "sub", "unpack", "upper")
      globals.table = copy_of(own.table, "concat", "insert", "move", "pack", "remove", "sort", "unpack")
      globals.utf8 = copy_of(own.utf8, "char", "charpattern", "codepoint", "codes", "len", "offset")
      globals.os = copy_of(own.os, "time", "date", "clock", "difftime")
      globals.math = {}
      for name, value in next, own.math do
        if name ~= "random" and name ~= "randomseed" then globals.math[name] = value end
      end
      function globals.type(...)
        if select("#", ...) == 0 then error("bad argument #1 to 'type' (value expected)", 2) end
        local value = ...
        return type(real[value] or value)
      end
      function globals.next(value, key)
        if not real[value] then return next(value, key) end
        local k, item = next(real[value], real[key] or key)
        if k ~= nil then return view(k), view(item) end
      end
      globals.protocols, globals.pipes, globals.help = view(protocols), view(pipes), help
      globals.node = view(extras.node)
      globals.p2pd = read_only_module(module)
      function globals.require(name)
        if name == "p2pd" then return globals.p2pd end
        refuse("require loads code")
      end
      globals._G = globals
      for _, name in ipairs { "collectgarbage", "dofile", "load", "loadfile", "rawset", "rawget", "rawlen", "rawequal" } do
        globals[name] = function() refuse(name .. " is not there") end
      end
      return globals
    end

    -- The environment of the lines to come: the prompt's own, or in front of a protocol's globals.
    local env, behind
    local function enter(base, module)
      if read_only then
        behind = base
        if not env then
          env = setmetatable(read_only_globals(module or p2pd), {
            __metatable = false,
            __index = function(_, key) return behind and view(rawget(behind, key)) end,
          })
        end
        rawset(env, "p2pd", read_only_module(module or p2pd))
        own = env
      elseif base then
        extras.p2pd = module
        env = setmetatable({}, {
          __metatable = false,
          __index = function(_, key)
            local value = rawget(extras, key)
            if value == nil then value = rawget(base, key) end
            return value
          end,
          __newindex = base,
        })
        own = extras
      else
        env = own
      end
      return env
    end

    """#

  /// The names that may follow `a.b.` or `a:`, or begin a line.
  private static let complete = #"""
    local function names_of(value, into, methods, depth)
      if type(value) ~= "table" then return end
      if helpers[value] then
        for key in pairs(value) do if type(key) == "string" then into[#into + 1] = key end end
        return
      end
      local scanned = 0
      for key, item in next, value do
        scanned = scanned + 1
        if scanned > SCAN then break end
        if type(key) == "string" and (not methods or type(item) == "function") then into[#into + 1] = key end
      end
      local meta = getmetatable(value)
      local index = type(meta) == "table" and rawget(meta, "__index")
      if depth > 0 and type(index) == "table" then names_of(index, into, methods, depth - 1) end
    end

    -- path: the names before the last dot or colon. Gives the names, and the class of an engine's object.
    local function complete(base, path, methods)
      local names = {}
      if #path == 0 then
        names_of(real[env] or env, names, false, 0)
        names_of(own, names, false, 0)
        if base then names_of(base, names, false, 0) end
        return names
      end
      local value = rawget(own, path[1])
      if value == nil then value = rawget(env, path[1]) end
      if value == nil and base then value = rawget(base, path[1]) end
      for i = 2, #path do
        value = real[value] or value
        if value == nil then return names end
        value = field(value, path[i], 8)
      end
      value = real[value] or value
      if type(value) == "string" then value = string end
      names_of(value, names, methods, 8)
      return names, type(value) == "userdata" and session:type_name(value) or nil
    end
    """#
}
