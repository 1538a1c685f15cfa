extension PromptLua {
  /// `--read-only`: values are seen through views that refuse every change, functions that act are not called.
  static let views = #"""
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
      local seen = setmetatable({}, {
        __metatable = false,
        __index = function(_, key)
          if key == "state" then return view(module.state) end
          return shown[key]
        end,
        __newindex = meta.__newindex,
        __pairs = function() return next, shown end,
      })
      real[seen] = shown
      return seen
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
}
