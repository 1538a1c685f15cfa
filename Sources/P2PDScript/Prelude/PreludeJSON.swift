extension Prelude {
  /// JSON (RFC 8259) under lua-cjson's names. In Lua, so that a peer's text is parsed within the VM's memory and time
  /// limits. Reads strictly: no comments, no trailing commas, no NaN, UTF-8 only, at most 100 levels.
  static let json = #"""
    local type, pairs, next, tostring, error = type, pairs, next, tostring, error
    local find, sub, byte, format, gsub, char = string.find, string.sub, string.byte, string.format, string.gsub, string.char
    local utf8_len, utf8_char, math_type, tointeger, tonumber = utf8.len, utf8.char, math.type, math.tointeger, tonumber
    local concat = table.concat
    local null, empty_array = engine.null, engine.empty_array
    local MAX_DEPTH = 100

    local json = { null = null, empty_array = empty_array }
    engine.json = json

    -- Encoding. Failures that come from the data travel as a table in `fail`; the rest is misuse and raises.
    local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }
    local function escape(c) return escapes[c] or format("\\u%04x", byte(c)) end

    local encode_value

    local function encode_string(out, s, fail)
      if not utf8_len(s) then
        fail[1] = "a string is not UTF-8"
        return
      end
      if find(s, '[%c"\\]') then s = gsub(s, '[%z\1-\31\127"\\]', escape) end
      out[#out + 1] = '"' .. s .. '"'
    end

    local function encode_number(out, n, fail)
      if math_type(n) == "integer" then
        out[#out + 1] = format("%d", n)
      elseif n ~= n or n == math.huge or n == -math.huge then
        fail[1] = "JSON has no " .. tostring(n)
      else
        local text = format("%.14g", n)
        if tonumber(text) ~= n then text = format("%.17g", n) end
        -- A float stays a float for the reader.
        if not find(text, "[.eE]") then text = text .. ".0" end
        out[#out + 1] = text
      end
    end

    -- The length of an array, or nil for an object. Small gaps are filled with null.
    local function array_length(t)
      local count, max = 0, 0
      for k in next, t do
        if math_type(k) ~= "integer" or k < 1 then return nil end
        count = count + 1
        if k > max then max = k end
      end
      if count == 0 then return nil end
      if max > 2 * count + 10 then error("json.encode: excessively sparse array", 0) end
      return max
    end

    local function encode_table(out, t, fail, path, depth)
      if depth > MAX_DEPTH then
        fail[1] = format("more than %d levels", MAX_DEPTH)
        return
      end
      if path[t] then error("json.encode: the table contains itself", 0) end
      path[t] = true
      local length = array_length(t)
      if length then
        out[#out + 1] = "["
        for i = 1, length do
          if i > 1 then out[#out + 1] = "," end
          local value = t[i]
          encode_value(out, value == nil and null or value, fail, path, depth)
          if fail[1] then return end
        end
        out[#out + 1] = "]"
      else
        out[#out + 1] = "{"
        local first = true
        for k, v in pairs(t) do
          if type(k) == "number" then k = tostring(k) end
          if type(k) ~= "string" then error("json.encode: a key is a " .. type(k), 0) end
          if not first then out[#out + 1] = "," end
          first = false
          encode_string(out, k, fail)
          if fail[1] then return end
          out[#out + 1] = ":"
          encode_value(out, v, fail, path, depth)
          if fail[1] then return end
        end
        out[#out + 1] = "}"
      end
      path[t] = nil
    end

    function encode_value(out, v, fail, path, depth)
      local kind = type(v)
      if kind == "string" then
        encode_string(out, v, fail)
      elseif kind == "number" then
        encode_number(out, v, fail)
      elseif kind == "boolean" then
        out[#out + 1] = v and "true" or "false"
      elseif v == nil or v == null then
        out[#out + 1] = "null"
      elseif v == empty_array then
        out[#out + 1] = "[]"
      elseif kind == "table" then
        encode_table(out, v, fail, path, depth + 1)
      else
        error("json.encode: cannot encode a " .. kind, 0)
      end
    end

    function json.encode(value)
      local out, fail = {}, {}
      local ok, problem = engine.pcall(encode_value, out, value, fail, {}, 0)
      if not ok then
        if type(problem) ~= "string" then error(problem, 0) end
        error(problem, 2)
      end
      if fail[1] then return nil, host.error("invalid", "json.encode: " .. fail[1]) end
      return concat(out)
    end

    -- Decoding. A problem is a table {position, text}, raised and caught here.
    local function bad(at, what) error({ at, what }, 0) end

    local function skip(s, at)
      local _, last = find(s, "^[ \t\r\n]*", at)
      return last + 1
    end

    local unescape = { ['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }

    local function hex4(s, at)
      local text = sub(s, at, at + 3)
      if not find(text, "^%x%x%x%x$") then bad(at - 2, "bad \\u escape") end
      return tonumber(text, 16)
    end

    local function decode_escape(s, at)
      local c = sub(s, at, at)
      if unescape[c] then return unescape[c], at + 1 end
      if c ~= "u" then bad(at - 1, "bad escape") end
      local code = hex4(s, at + 1)
      at = at + 5
      if code >= 0xD800 and code <= 0xDBFF then
        if sub(s, at, at + 1) ~= "\\u" then bad(at - 6, "half a surrogate pair") end
        local low = hex4(s, at + 2)
        if low < 0xDC00 or low > 0xDFFF then bad(at, "half a surrogate pair") end
        return utf8_char(0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)), at + 6
      end
      if code >= 0xDC00 and code <= 0xDFFF then bad(at - 6, "half a surrogate pair") end
      return utf8_char(code), at
    end

    local function decode_string(s, at)
      local start = at
      local plain = find(s, '["\\%c]', at)
      if plain and byte(s, plain) == 34 then return sub(s, at, plain - 1), plain + 1 end
      local parts = {}
      while true do
        local stop = find(s, '["\\%c]', at)
        if not stop then bad(start - 1, "a string without end") end
        parts[#parts + 1] = sub(s, at, stop - 1)
        local c = byte(s, stop)
        if c == 34 then return concat(parts), stop + 1 end
        if c == 92 then
          parts[#parts + 1], at = decode_escape(s, stop + 1)
        elseif c == 127 then
          parts[#parts + 1], at = "\127", stop + 1
        else
          bad(stop, "a control character in a string")
        end
      end
    end

    local function decode_number(s, at)
      local _, last = find(s, "^-?%d+", at)
      if not last then bad(at, "unexpected character") end
      local digits = sub(s, at, last)
      if find(digits, "^-?0%d") then bad(at, "a number with a leading zero") end
      local is_float = false
      local _, fraction = find(s, "^%.%d+", last + 1)
      if fraction then last, is_float = fraction, true end
      local _, exponent = find(s, "^[eE][+-]?%d+", last + 1)
      if exponent then last, is_float = exponent, true end
      local text = sub(s, at, last)
      if is_float then
        local value = tonumber(text)
        if value == math.huge or value == -math.huge then bad(at, "a number too large") end
        return value, last + 1
      end
      -- Integers outside 64 bits come as floats, as in Lua itself.
      return tointeger(digits) or tonumber(digits .. ".0"), last + 1
    end

    local decode_value

    local function decode_array(s, at, depth)
      local out, n = {}, 0
      at = skip(s, at)
      if byte(s, at) == 93 then return out, at + 1 end
      while true do
        n = n + 1
        out[n], at = decode_value(s, at, depth)
        at = skip(s, at)
        local c = byte(s, at)
        if c == 93 then return out, at + 1 end
        if c ~= 44 then bad(at, "',' or ']' expected") end
        at = at + 1
      end
    end

    local function decode_object(s, at, depth)
      local out = {}
      at = skip(s, at)
      if byte(s, at) == 125 then return out, at + 1 end
      while true do
        at = skip(s, at)
        if byte(s, at) ~= 34 then bad(at, "a key expected") end
        local key
        key, at = decode_string(s, at + 1)
        at = skip(s, at)
        if byte(s, at) ~= 58 then bad(at, "':' expected") end
        out[key], at = decode_value(s, at + 1, depth)
        at = skip(s, at)
        local c = byte(s, at)
        if c == 125 then return out, at + 1 end
        if c ~= 44 then bad(at, "',' or '}' expected") end
        at = at + 1
      end
    end

    local words = { [116] = { "true", true }, [102] = { "false", false }, [110] = { "null", null } }

    function decode_value(s, at, depth)
      if depth > MAX_DEPTH then bad(at, "more than 100 levels") end
      at = skip(s, at)
      local c = byte(s, at)
      if c == 34 then return decode_string(s, at + 1) end
      if c == 123 then return decode_object(s, at + 1, depth + 1) end
      if c == 91 then return decode_array(s, at + 1, depth + 1) end
      local word = words[c]
      if word then
        if sub(s, at, at + #word[1] - 1) ~= word[1] then bad(at, "unexpected character") end
        return word[2], at + #word[1]
      end
      if not c then bad(at, "unexpected end") end
      return decode_number(s, at)
    end

    local function decode_all(s)
      local good, at = utf8_len(s)
      if not good then bad(at, "not UTF-8") end
      local value, stop = decode_value(s, 1, 1)
      stop = skip(s, stop)
      if stop <= #s then bad(stop, "something after the value") end
      return value
    end

    function json.decode(text)
      if type(text) ~= "string" then engine.bad_argument(1, "decode", "string", text) end
      local ok, value = engine.pcall(decode_all, text)
      if ok then return value end
      if type(value) ~= "table" then error(value, 0) end
      return nil, host.error("invalid", format("json.decode: %s at byte %d", value[2], value[1]))
    end
    """#
}
