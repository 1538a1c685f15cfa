--- The client's side of handlers/file.lua. Each function takes an open pipe to the `file` protocol and returns
--- nil and a sentence when it fails. progress(text, done, total) is called often.

local transfer = require "file_transfer"

local client = {}

--- Seconds without a word from the other side after which it counts as lost.
client.PATIENCE = 60

local function hear(pipe)
  local message, err = pipe:recv(client.PATIENCE)
  if not message then return nil, tostring(err) end
  local sentence = message:match("^ERR %S+ (.*)$")
  if sentence then return nil, sentence end
  return message
end

-- The next message that is no sign of life.
local function answer(pipe, progress)
  while true do
    local message, why = hear(pipe)
    if not message then return nil, why end
    local done, total = message:match("^HASHING (%d+) (%d+)$")
    if not done then return message end
    progress("comparing", tonumber(done), tonumber(total))
  end
end

local function no_progress() end

--- The files offered whose names begin with `prefix`: a list of { name, size }, and how many there are in all.
function client.list(pipe, prefix)
  pipe:send("LIST " .. (prefix or ""))
  local message, why = hear(pipe)
  if not message then return nil, why end
  local total = message:match("^FILES %d+ of (%d+)")
  if not total then return nil, "the answer makes no sense" end
  local files = {}
  for size, name in message:gmatch("\n(%d+) ([^\n]+)") do
    files[#files + 1] = { name = name, size = math.tointeger(tonumber(size)) }
  end
  return files, tonumber(total)
end

--- Gets a file into `dest`, going on from dest.part if that is there. Its size and checksum, or nil and why; what came
--- is then kept in dest.part.
function client.get(pipe, name, dest, progress)
  progress = progress or no_progress
  local there = io.open(dest, "rb")
  if there then
    there:close()
    return nil, dest .. " is there already"
  end
  local kept, sum = transfer.earlier(dest, function(done, total) progress("comparing", done, total) end)
  if kept then
    pipe:send(("RESUME %d %s %s"):format(kept, sum:hex(), name))
  else
    pipe:send("GET " .. name)
  end
  local message, why = answer(pipe, progress)
  if not message then return nil, why end
  local size, offset = message:match("^FILE (%d+) (%d+) ")
  size, offset = math.tointeger(tonumber(size)), math.tointeger(tonumber(offset))
  if not (size and offset and (offset == 0 or offset == kept)) then return nil, "the answer makes no sense" end
  local receiver
  receiver, why = transfer.receiver(dest, size, offset, offset > 0 and sum)
  if not receiver then return nil, why end
  while true do
    message, why = hear(pipe)
    if not message then break end
    local hash = message:match("^DONE (%x+)$")
    if hash then
      local ok
      ok, why = receiver:finish(hash)
      if not ok then return nil, why end
      return size, hash
    end
    if message:byte() ~= 0x3D then    -- "="
      why = "the answer makes no sense"
      break
    end
    local ok
    ok, why = receiver:take(message:sub(2))
    if not ok then break end
    progress("receiving", receiver.done, size)
  end
  receiver:close()
  return nil, why
end

--- Sends a file, going on where an earlier attempt stopped. Its size and checksum, or nil and why.
function client.put(pipe, path, name, progress)
  progress = progress or no_progress
  local file <close>, why = io.open(path, "rb")
  if not file then return nil, why end
  local size = transfer.size(file)
  if not size then return nil, path .. " cannot be read" end
  pipe:send(("PUT %d %s"):format(size, name))
  local message
  message, why = answer(pipe, progress)
  if not message then return nil, why end
  local offset, hash = message:match("^READY (%d+) (%S+)$")
  offset = math.tointeger(tonumber(offset))
  if not offset or offset > size then return nil, "the answer makes no sense" end
  local sum = transfer.sum_of(file, offset, function(done, total) progress("comparing", done, total) end)
  if not sum or (offset > 0 and sum:hex() ~= hash) then
    offset, sum = 0, transfer.sum_of(file, 0)
  end
  pipe:send("FROM " .. offset)
  local ok
  ok, why = transfer.send(pipe, file, size, offset, sum, function(done, total) progress("sending", done, total) end)
  if not ok then
    -- The other side says why, if it can: a full disk, say.
    local _, reason = hear(pipe)
    return nil, reason or tostring(why)
  end
  message, why = hear(pipe)
  if not message then return nil, why end
  return size, sum:hex()
end

return client
