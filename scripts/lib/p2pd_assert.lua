--- busted's assertions (luassert's names): the expected value comes first.
--
--   assert(value, message)                   as Lua's own
--   assert.equal(expected, actual)           ==
--   assert.same(expected, actual)            equal in depth: tables by content
--   assert.is_true(v)  is_false  is_nil  truthy  falsy  is_string  is_number  is_table  is_function  is_userdata ...
--   assert.near(expected, actual, tolerance)
--   assert.matches(pattern, text)            a Lua pattern
--   assert.contains(part, text)              plain text
--   assert.has_error(f [, message])          f raises (with this message, its position apart); returns the error
--   assert.error_matches(f, pattern)
--
-- The words between are free and `not`/`no` turns the sense: assert.is_not_nil(v), assert.are.same(a, b),
-- assert.has_no_error(f), assert.is_not.equal(a, b).

local fillers = {}
for word in ("is are was were be has have does do to a an"):gmatch("%a+") do fillers[word] = true end

local DEPTH, WIDTH, LENGTH = 4, 24, 400    -- how much of a value a failure shows

local function sorted_keys(t)
  local keys = {}
  for k in pairs(t) do keys[#keys + 1] = k end
  table.sort(keys, function(a, b)
    if type(a) == "number" and type(b) == "number" then return a < b end
    return type(a) .. tostring(a) < type(b) .. tostring(b)
  end)
  return keys
end

local function show(v, depth)
  depth = depth or 0
  if type(v) == "string" then
    local text = #v > LENGTH and (v:sub(1, LENGTH) .. "...") or v
    text = text:gsub('[%c"\\\x7F-\xFF]', function(c) return c == '"' and '\\"' or ("\\x%02X"):format(c:byte()) end)
    return '"' .. text .. '"' .. (#v > LENGTH and (" (%d bytes)"):format(#v) or "")
  elseif type(v) ~= "table" or (getmetatable(v) or {}).__tostring then
    return ("%s"):format(tostring(v)) .. (math.type(v) == "float" and " (float)" or "")
  elseif depth >= DEPTH then
    return "{...}"
  end
  local parts = {}
  for i, k in ipairs(sorted_keys(v)) do
    if i > WIDTH then
      parts[#parts + 1] = "..."
      break
    end
    local name = type(k) == "string" and k:match("^[%a_][%w_]*$") or ("[" .. show(k, depth + 1) .. "]")
    parts[#parts + 1] = (math.type(k) == "integer" and "" or name .. " = ") .. show(v[k], depth + 1)
  end
  return "{ " .. table.concat(parts, ", ") .. " }"
end

-- Equal by content; `seen` ends cycles: a pair being compared already counts as equal.
local function same(a, b, seen)
  if a == b or (a ~= a and b ~= b) then return true end
  if type(a) ~= "table" or type(b) ~= "table" then return false end
  seen = seen or {}
  if seen[a] == b then return true end
  seen[a] = b
  for k, v in pairs(a) do
    if not same(v, b[k], seen) then return false end
  end
  for k in pairs(b) do
    if a[k] == nil then return false end
  end
  return true
end

local function strip_position(text)
  return (text:gsub("^[^\n]-:%d+: ", "", 1))
end

-- name -> function(...) returning: whether it holds, what was expected, what there was, and a value to return instead
-- of the arguments.
local checks = {}

function checks.equal(expected, actual)
  local holds = expected == actual
  return holds, show(expected), show(actual)
end
checks.equals = checks.equal

function checks.same(expected, actual)
  return same(expected, actual), show(expected), show(actual)
end

function checks.near(expected, actual, tolerance)
  local holds = type(actual) == "number" and math.abs(expected - actual) <= tolerance
  return holds, show(expected) .. " within " .. show(tolerance), show(actual)
end

function checks.matches(pattern, text)
  local holds = type(text) == "string" and text:find(pattern) ~= nil
  return holds, "text matching " .. show(pattern), show(text)
end
checks.match = checks.matches

function checks.contains(part, text)
  local holds = type(text) == "string" and text:find(part, 1, true) ~= nil
  return holds, "text containing " .. show(part), show(text)
end

checks["true"] = function(v) return v == true, "true", show(v) end
checks["false"] = function(v) return v == false, "false", show(v) end
checks.truthy = function(v) return not not v, "a true value", show(v) end
checks.falsy = function(v) return not v, "nil or false", show(v) end
for _, name in ipairs { "nil", "string", "number", "table", "boolean", "function", "userdata", "thread" } do
  checks[name] = function(v) return type(v) == name, name == "nil" and "nil" or "a " .. name, show(v) end
end

function checks.error(f, message)
  local ok, err = pcall(f)
  if ok then return false, "an error", "none" end
  local holds = message == nil or same(message, err)
    or (type(err) == "string" and type(message) == "string" and strip_position(err) == message)
  return holds, message == nil and "an error" or "the error " .. show(message), show(err), err
end
checks.errors = checks.error

function checks.error_matches(f, pattern)
  local ok, err = pcall(f)
  if ok then return false, "an error", "none" end
  return tostring(err):find(pattern) ~= nil, "an error matching " .. show(pattern), show(tostring(err)), err
end

-- ---------------------------------------------------------------------------------------------------------------------

local function checker(check, negated)
  return function(...)
    local holds, expected, actual, extra = check(...)
    if holds ~= negated then
      if extra ~= nil then return extra end
      return ...
    end
    error(("assertion failed: expected %s%s, got %s"):format(negated and "not " or "", expected, actual), 2)
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
      error(("there is no assertion %q"):format(name), 3)
    end
    rest = tail
  end
  return sentence(negated)
end

function sentence(negated)
  return setmetatable({}, { __index = function(_, name) return follow(negated, name:lower(), name) end })
end

local words = getmetatable(sentence(false))

return setmetatable({
  --- A value as failures print it.
  _show = show,
}, {
  __index = words.__index,
  __call = function(_, ok, ...)
    if ok then return ok, ... end
    local message = ...
    if message == nil then message = "assertion failed!" end
    error(type(message) == "string" and message or tostring(message), 2)
  end,
})
