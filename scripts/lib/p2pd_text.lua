--- Text from peers made safe to show, and cut to size. A peer's bytes may hold terminal escapes, direction overrides
--- and broken UTF-8; what clean() returns is one line of valid UTF-8 that a terminal shows as it is.

local text = {}

-- Zero-width and direction-changing code points: they make text look like something it is not (UTS #39, UAX #9).
local invisible = {
  ["\u{200B}"] = true, ["\u{200E}"] = true, ["\u{200F}"] = true, ["\u{2028}"] = true, ["\u{2029}"] = true,
  ["\u{202A}"] = true, ["\u{202B}"] = true, ["\u{202C}"] = true, ["\u{202D}"] = true, ["\u{202E}"] = true,
  ["\u{2066}"] = true, ["\u{2067}"] = true, ["\u{2068}"] = true, ["\u{2069}"] = true, ["\u{FEFF}"] = true,
}

-- The longest start of `s` of at most `max` bytes that does not cut a UTF-8 sequence. `s` is valid UTF-8.
local function cut(s, max)
  if #s <= max then return s end
  local stop = max
  while stop > 0 and s:byte(stop + 1) & 0xC0 == 0x80 do stop = stop - 1 end
  return s:sub(1, stop)
end

-- Every byte that is not part of a valid UTF-8 sequence becomes "?".
local function valid(s)
  local parts, from = {}, 1
  while true do
    local length, bad = utf8.len(s, from)
    if length then break end
    parts[#parts + 1] = s:sub(from, bad - 1)
    parts[#parts + 1] = "?"
    from = bad + 1
  end
  if from == 1 then return s end
  parts[#parts + 1] = s:sub(from)
  return table.concat(parts)
end

--- One line, at most `max` bytes (default 1000): invalid UTF-8 as "?", line ends and tabs as spaces, other control
--- characters and invisible ones removed, blanks at both ends removed.
function text.clean(s, max)
  max = max or 1000
  -- Cut first: a hostile megabyte shall not cost more than what is kept of it.
  s = valid(s:sub(1, max * 4))
  s = s:gsub("[\t\r\n]+", " "):gsub("%c", "")
  s = s:gsub("\xC2[\x80-\x9F]", ""):gsub("[\xE2\xEF][\x80-\xBF][\x80-\xBF]", function(c)
    return invisible[c] and "" or nil
  end)
  return cut(s, max):match("^ *(.-) *$")
end

--- Whether `s` is a name for people or rooms: 1 to `max` (default 24) letters, digits, "_" and "-", ASCII only, so that
--- two names that look alike are alike.
function text.is_name(s, max)
  return #s >= 1 and #s <= (max or 24) and s:find("^[%w_-]+$") ~= nil
end

--- A number of bytes for people: "512 B", "64.0 KiB", "1.2 GiB".
function text.size(n)
  local units, i = { "B", "KiB", "MiB", "GiB", "TiB" }, 1
  while n >= 1024 and i < #units do
    n, i = n / 1024, i + 1
  end
  return (i == 1 and "%d %s" or "%.1f %s"):format(n, units[i])
end

return text
