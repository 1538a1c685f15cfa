--- The client of file.lua.
---
---   $ p2pd-lua exec scripts/handlers/clients/file.lua list ADDRESS [PREFIX]
---       1.0 GiB  film.mkv
---      12.3 KiB  notes/today.txt
---   $ p2pd-lua exec scripts/handlers/clients/file.lua get ADDRESS NAME [DEST]
---   film.mkv  receiving 412.0 MiB of 1.0 GiB  40 %  118.3 MiB/s
---   film.mkv: 1.0 GiB received, XXH64 1f6c2a8d3b5e9047
---   $ p2pd-lua exec scripts/handlers/clients/file.lua put ADDRESS PATH [NAME]
---
--- DEST is the name in this folder unless given. After a break the same command goes on where it stopped. Messages go
--- to standard error. Exit status: 0, 1 when it failed, 2 for a wrong command line.

local p2pd = require "p2pd"
local client = require "file_client"
local text = require "p2pd_text"

local USAGE <const> = [[
usage: p2pd-lua exec file.lua list ADDRESS [PREFIX]
       p2pd-lua exec file.lua get ADDRESS NAME [DEST]
       p2pd-lua exec file.lua put ADDRESS PATH [NAME]
]]

local SHOW_EVERY <const> = 0.25    -- seconds between two lines of progress

local line_is_open = false    -- a line of progress stands there, without its end

local function say(...)
  io.stderr:write(line_is_open and "\n" or "", table.concat({ ... }), "\n")
  line_is_open = false
end

local function base_name(path)
  return path:match("([^/]+)/*$") or path
end

local function show_progress(name)
  local phase, began, first, shown
  return function(what, done, total)
    local now = p2pd.now()
    if what ~= phase then
      phase, began, first, shown = what, now, done, now
    end
    if now - shown < SHOW_EVERY then return end
    shown, line_is_open = now, true
    local rate = (done - first) / (now - began)
    io.stderr:write(("\r%s  %s %s of %s  %d %%  %s/s   "):format(
      name, what, text.size(done), text.size(total), total > 0 and done * 100 // total or 100, text.size(rate)))
  end
end

local commands = {}

function commands.list(pipe, prefix)
  local files, total = client.list(pipe, prefix)
  if not files then return nil, total end
  for _, file in ipairs(files) do
    io.write(("%10s  %s\n"):format(text.size(file.size), text.clean(file.name)))
  end
  if #files < total then say(("%d of %d; give the beginning of the names to see the others"):format(#files, total)) end
  return true
end

local function transferred(name, verb, size, hash)
  if not size then return nil, hash end
  say(("%s: %s %s, XXH64 %s"):format(name, text.size(size), verb, hash))
  return true
end

function commands.get(pipe, name, dest)
  if not name then return nil, USAGE end
  name = name:gsub("^%./", "")
  return transferred(name, "received", client.get(pipe, name, dest or base_name(name), show_progress(base_name(name))))
end

function commands.put(pipe, path, name)
  if not path then return nil, USAGE end
  name = name or base_name(path)
  return transferred(name, "sent", client.put(pipe, path, name, show_progress(name)))
end

local function main(command, address, ...)
  local run = command and rawget(commands, command)
  if not (run and address) then
    io.stderr:write(USAGE)
    return 2
  end
  local node, pipe, err
  node, err = p2pd.node()
  if node then pipe, err = node:connect(address, { protocol = "file" }) end
  if not pipe then
    say(tostring(err))
    return 1
  end
  local ok, why = run(pipe, ...)
  pipe:close()
  node:close()
  if ok then return 0 end
  say(tostring(why))
  return 1
end

os.exit(main(...))
