--- The files of a folder that peers may have: a list made by find(1), which takes regular files only and follows no
--- symbolic link. A name is served because it stands in the list, never because a peer put a path together: "..",
--- absolute paths and links that lead out have no way in.
---
--- Hidden files, unfinished ones (.part) and names with control characters are left out.

local folder = {}

--- Files listed of one folder; more are left out.
folder.MAX_FILES = 10000

local READ_AT_ONCE <const> = 1 << 16

local function quoted(path)
  if path:sub(1, 1) == "-" then path = "./" .. path end    -- or find would take it for an option
  return "'" .. path:gsub("'", "'\\''") .. "/'"           -- the slash: the folder itself may be a link
end

--- Whether a name is one that may be offered.
function folder.is_offered(name)
  return not (name:find("%c") or name:find("^%.") or name:find("/.", 1, true) or name:find("%.part$"))
end

--- The files below `path`: { [name] = size }, their names as a list, and their bytes in all. `every` takes those too
--- that are not offered. nil and why when the folder cannot be read.
function folder.read(path, every)
  if not (rawget(_G, "io") and io.popen) then return nil, "listing a folder needs io.popen: not in a sandbox" end
  local pipe, why = io.popen("find " .. quoted(path) .. " -type f -printf '%s %P\\0' 2>/dev/null", "r")
  if not pipe then return nil, why end
  local sizes, names, bytes, rest = {}, {}, 0, ""
  while #names < folder.MAX_FILES do
    local piece = pipe:read(READ_AT_ONCE)
    if not piece then break end
    rest = (rest .. piece):gsub("(%d+) ([^\0]*)\0", function(size, name)
      if (every or folder.is_offered(name)) and #names < folder.MAX_FILES then
        sizes[name] = math.tointeger(tonumber(size))
        names[#names + 1] = name
        bytes = bytes + sizes[name]
      end
      return ""
    end)
  end
  local ok = pipe:close()
  if not ok and #names == 0 then return nil, "cannot read the folder " .. path end
  table.sort(names)
  return sizes, names, bytes
end

return folder
