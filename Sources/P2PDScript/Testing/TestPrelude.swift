/// `require "p2pd.test"`, which only `p2pd-lua test` gives to scripts: describe/it, assertions, and the laboratory. One chunk,
/// run once with the module's table and `host`, the engine's functions.
enum TestPrelude {
  static let moduleName = "p2pd.test"

  static let text =
    "local module, host = ...\nlocal engine = {}\n"
    + [show, assertions, blocks, running, lab].map { "do\n\($0)\nend\n" }.joined()

  /// How values look in a failure: short ones in one line, tables with a line for each field.
  private static let show = #"""
    local type, tostring, getmetatable, next, pairs, ipairs = type, tostring, getmetatable, next, pairs, ipairs
    local concat, sort, rep, format = table.concat, table.sort, string.rep, string.format

    local DEPTH <const>, WIDTH <const>, LENGTH <const>, LINE <const> = 6, 40, 400, 72

    local escapes = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ['"'] = '\\"', ["\\"] = "\\\\" }
    local function escape(c) return escapes[c] or format("\\x%02X", c:byte()) end

    local function quote(s)
      local text = #s > LENGTH and s:sub(1, LENGTH) or s
      text = text:gsub('[%c"\\\x7F]', escape)
      if not utf8.len(text) then text = text:gsub("[\x80-\xFF]", escape) end
      return '"' .. text .. '"' .. (#s > LENGTH and format("... (%d bytes)", #s) or "")
    end

    -- A table without a text of its own: shown, and compared, by what is in it.
    local function is_plain(v)
      if type(v) ~= "table" then return false end
      local meta = getmetatable(v)
      return meta == nil or type(meta) == "table" and meta.__tostring == nil
    end
    engine.is_plain = is_plain

    local function sorted_keys(t)
      local keys = {}
      for k in next, t do keys[#keys + 1] = k end
      sort(keys, function(a, b)
        if type(a) == "number" and type(b) == "number" then return a < b end
        if type(a) ~= type(b) then return type(a) == "number" or type(b) ~= "number" and type(a) < type(b) end
        return tostring(a) < tostring(b)
      end)
      return keys
    end
    engine.sorted_keys = sorted_keys

    local render

    local function key_text(k)
      if type(k) == "string" and k:find("^[%a_][%w_]*$") then return k end
      return "[" .. (is_plain(k) and tostring(k) or render(k, "", DEPTH, {})) .. "]"
    end

    function render(v, indent, depth, above)
      if type(v) == "string" then return quote(v) end
      if not is_plain(v) then
        local text = tostring(v)
        return math.type(v) == "float" and not text:find("[.einf]") and text .. ".0" or text
      end
      if above[v] then return "{ its own parent }" end
      if next(v) == nil then return "{}" end
      if depth >= DEPTH then return "{ ... }" end
      above[v] = true
      local parts, inner, length, broken = {}, indent .. "  ", 4, false
      for i, k in ipairs(sorted_keys(v)) do
        if i > WIDTH then
          parts[#parts + 1] = "..."
          break
        end
        local part = render(v[k], inner, depth + 1, above)
        if k ~= i then part = key_text(k) .. " = " .. part end
        parts[#parts + 1] = part
        length = length + #part + 2
        broken = broken or part:find("\n", 1, true)
      end
      above[v] = nil
      if not broken and #indent + length <= LINE then return "{ " .. concat(parts, ", ") .. " }" end
      return "{\n" .. inner .. concat(parts, ",\n" .. inner) .. "\n" .. indent .. "}"
    end

    function engine.show(v, indent) return render(v, indent or "", 0, {}) end

    -- Where a value lies in another: `.rooms[3].name`.
    function engine.step(path, k)
      if type(k) == "string" and k:find("^[%a_][%w_]*$") then return path .. "." .. k end
      return path .. key_text(k):gsub("^([^%[].*)$", "[%1]")
    end
    """#
}
