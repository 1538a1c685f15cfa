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
    local helpers = setmetatable({}, { __mode = "k" })
    local function helper(fields)
      fields.__metatable = false
      local value = setmetatable({}, fields)
      helpers[value] = true
      return value
    end

    -- A script's globals; those that every script has are there, but not listed.
    local standard = {}
    for name in next, own do standard[name] = true end
    local function globals_of(environment)
      return helper {
        __index = function(_, name) return rawget(environment, name) end,
        __newindex = function(_, name, value) rawset(environment, name, value) end,
        __pairs = function()
          return function(_, name)
            local value
            repeat name, value = next(environment, name) until name == nil or not standard[name]
            return name, value
          end
        end,
      }
    end

    -- What is known of a hosted protocol; its state and globals are the script's own.
    local function protocol(name)
      local facts = session:protocol(name)
      if not facts then return nil end
      local module = facts.module
      facts.module = nil
      local good, state = pcall(function() return module.state end)
      facts.state = good and state or nil
      facts.globals = globals_of(facts.globals)
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

    -- The items of a long list, as many on a line as fit.
    local function filled(items, width)
      local rows, row = {}, ""
      for _, item in ipairs(items) do
        if row ~= "" and #row + #item + 2 > width then
          rows[#rows + 1] = row
          row = ""
        end
        row = row == "" and item or row .. ", " .. item
      end
      rows[#rows + 1] = row
      return rows
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
      if not lines and #keys == 0 then parts = filled(parts, WIDTH - 2 * depth) end
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
