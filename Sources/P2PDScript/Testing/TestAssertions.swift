extension TestPrelude {
  /// luassert's names. The words between are free and `not`/`no` turns the sense: `assert.is_not_nil(v)`,
  /// `assert.are.same(a, b)`, `assert.has_no.errors(f)`.
  static let assertions = #"""
    local type, tostring, pcall, error, next, pairs, select = type, tostring, pcall, error, next, pairs, select
    local show, step, is_plain, sorted_keys = engine.show, engine.step, engine.is_plain, engine.sorted_keys
    local format, concat = string.format, table.concat

    local fillers = {}
    for word in ("is are was were be has have does do to a an the"):gmatch("%a+") do fillers[word] = true end

    local MOST <const> = 10    -- differences that are listed

    -- Equal by content; `seen` ends cycles: a pair that is being compared already counts as equal.
    local function same(a, b, seen)
      if a == b or (a ~= a and b ~= b) then return true end
      if not is_plain(a) or not is_plain(b) then return false end
      seen = seen or {}
      if seen[a] == b then return true end
      seen[a] = b
      for k, v in next, a do
        if not same(v, b[k], seen) then return false end
      end
      for k in next, b do
        if a[k] == nil then return false end
      end
      return true
    end

    local function difference_of_texts(a, b)
      local at = 1
      while a:byte(at) == b:byte(at) do at = at + 1 end
      local from = math.max(1, at - 10)
      return format("differ at byte %d: %s, got %s", at, show(a:sub(from, at + 20)), show(b:sub(from, at + 20)))
    end

    local function differences(a, b, path, list, seen)
      if #list > MOST or a == b or (a ~= a and b ~= b) then return list end
      if is_plain(a) and is_plain(b) then
        if seen[a] == b then return list end
        seen[a] = b
        local both = {}
        for k in next, a do both[k] = true end
        for k in next, b do both[k] = true end
        for _, k in ipairs(sorted_keys(both)) do differences(a[k], b[k], step(path, k), list, seen) end
      elseif type(a) == "string" and type(b) == "string" and #a > 60 and #b > 60 then
        list[#list + 1] = path .. ": " .. difference_of_texts(a, b)
      else
        list[#list + 1] = path .. ": expected " .. show(a, "    ") .. ", got " .. show(b, "    ")
      end
      return list
    end

    -- What two values that should be the same have in difference; nil where a glance at both tells.
    local function explain(a, b)
      if type(a) == "string" and type(b) == "string" then
        return #a > 60 and #b > 60 and { difference_of_texts(a, b) } or nil
      end
      if not is_plain(a) or not is_plain(b) then return nil end
      local list = differences(a, b, "", {}, {})
      if #list > MOST then list[MOST + 1] = "..." end
      return list
    end

    -- The error's text without the place it was raised at.
    local function plain_error(text) return (text:gsub("^[^\n]-:%d+: ", "", 1)) end

    -- name -> { how many arguments, f(...) giving: whether it holds, what was expected, what there was, the differences
    -- or nil, and a value to return instead of the arguments }. One more argument is the caller's own message.
    local checks = {}
    local function check(names, arguments, f)
      for name in names:gmatch("%S+") do checks[name] = { arguments, f } end
    end

    check("equal equals", 2, function(expected, actual)
      local holds = expected == actual
      local detail = not holds and is_plain(expected) and same(expected, actual) and { "they look the same but are two tables; assert.same compares what is in them" }
      return holds, show(expected), show(actual), detail or not holds and explain(expected, actual) or nil
    end)

    check("same", 2, function(expected, actual)
      local holds = same(expected, actual)
      return holds, show(expected), show(actual), not holds and explain(expected, actual) or nil
    end)

    check("near", 3, function(expected, actual, tolerance)
      local holds = type(actual) == "number" and math.abs(expected - actual) <= tolerance
      return holds, show(expected) .. " within " .. show(tolerance), show(actual)
    end)

    check("matches match", 2, function(pattern, text)
      return type(text) == "string" and text:find(pattern) ~= nil, "a text that matches " .. show(pattern), show(text)
    end)

    check("contains", 2, function(part, text)
      local holds = type(text) == "string" and text:find(part, 1, true) ~= nil
      return holds, "a text that contains " .. show(part), show(text)
    end)

    check("true", 1, function(v) return v == true, "true", show(v) end)
    check("false", 1, function(v) return v == false, "false", show(v) end)
    check("truthy", 1, function(v) return not not v, "anything but nil and false", show(v) end)
    check("falsy", 1, function(v) return not v, "nil or false", show(v) end)
    check("nil", 1, function(v) return v == nil, "nil", show(v) end)
    for _, name in ipairs { "string", "number", "table", "boolean", "function", "userdata", "thread" } do
      check(name, 1, function(v) return type(v) == name, "a " .. name, show(v) end)
    end

    check("error errors", 2, function(f, message)
      local ok, err = pcall(f)
      if ok then return false, message == nil and "an error" or "the error " .. show(message), "none" end
      local holds = message == nil or same(message, err)
        or type(err) == "string" and type(message) == "string" and plain_error(err) == message
      return holds, message == nil and "an error" or "the error " .. show(message), show(err), nil, err
    end)

    check("error_matches", 2, function(f, pattern)
      local ok, err = pcall(f)
      if ok then return false, "an error that matches " .. show(pattern), "none" end
      return tostring(err):find(pattern) ~= nil, "an error that matches " .. show(pattern), show(tostring(err)), nil, err
    end)

    local function sentence_of(negated, expected, actual, detail, message)
      expected = (negated and "not " or "") .. expected
      local text = message ~= nil and tostring(message) .. "\n" or ""
      if #expected + #actual < 60 and not (expected .. actual):find("\n", 1, true) then
        text = text .. "expected " .. expected .. ", got " .. actual
      else
        text = text .. "expected:\n  " .. expected:gsub("\n", "\n  ") .. "\ngot:\n  " .. actual:gsub("\n", "\n  ")
      end
      if detail and not negated then text = text .. "\ndifferences:\n  " .. concat(detail, "\n  ") end
      return text
    end

    local function checker(known, negated)
      local arguments, f = known[1], known[2]
      return function(...)
        local holds, expected, actual, detail, instead = f(...)
        if holds ~= negated then
          if instead ~= nil then return instead end
          return ...
        end
        error(sentence_of(negated, expected, actual, detail, (select(arguments + 1, ...))), 2)
      end
    end

    local sentence    -- (negated) -> a table whose fields are the words that may follow

    local function follow(negated, words, name)
      local rest = words
      while rest ~= "" do
        if checks[rest] then return checker(checks[rest], negated) end
        local word, tail = rest:match("^([^_]*)_?(.*)$")
        if word == "not" or word == "no" then
          negated = not negated
        elseif not fillers[word] then
          error(format("there is no assertion %q", name), 3)
        end
        rest = tail
      end
      return sentence(negated)
    end

    local function index(negated)
      return function(_, name) return follow(negated, tostring(name):lower(), tostring(name)) end
    end
    function sentence(negated) return setmetatable({}, { __index = index(negated) }) end

    engine.assert = setmetatable({}, {
      __index = index(false),
      __call = function(_, ok, ...)
        if ok then return ok, ... end
        local message = ...
        if message == nil then message = "assertion failed!" end
        error(type(message) == "string" and message or is_plain(message) and show(message) or tostring(message), 2)
      end,
    })
    """#
}
