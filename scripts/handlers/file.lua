--- File transfer: offers the files of a folder; a broken transfer goes on where it stopped, and a checksum says that
--- what came is what was sent. Uploads too, where the host wants them.
---
---   $ P2PD_SHARE=~/public p2pd-lua run scripts/handlers/file.lua           # offers ~/public; ./shared without it
---   $ P2PD_INBOX=~/inbox p2pd-lua run scripts/handlers/file.lua            # takes uploads into ~/inbox
---
---   $ p2pd-lua exec scripts/handlers/clients/file.lua list ADDRESS         # in another terminal
---       1.0 GiB  film.mkv
---      12.3 KiB  notes/today.txt
---   $ p2pd-lua exec scripts/handlers/clients/file.lua get ADDRESS film.mkv
---   film.mkv  receiving 412.0 MiB of 1.0 GiB  40 %  118.3 MiB/s
---   film.mkv: 1.0 GiB received, XXH64 1f6c2a8d3b5e9047
---   $ p2pd-lua exec scripts/handlers/clients/file.lua put ADDRESS song.ogg
---
--- The same `get` again after a break goes on from film.mkv.part. Names come from a listing of the folder, so no peer
--- can name what is not in it (file_folder.lua). The checksum is XXH64, fast enough in Lua for files of GiBs; that
--- nobody on the way changed the bytes is the encrypted pipe's business. Messages, one line each unless said otherwise:
---
---   LIST [PREFIX]               FILES SHOWN of TOTAL, then a line `SIZE NAME` for each
---   GET NAME                    FILE SIZE 0 NAME, the pieces, DONE HASH            (file_transfer.lua)
---   RESUME OFFSET HASH NAME     the same from OFFSET, or from 0 when the first OFFSET bytes have another sum
---   PUT SIZE NAME               READY OFFSET HASH: what is there of it already; then the peer sends
---     FROM OFFSET                 OFFSET, or 0 to begin anew; the pieces; DONE HASH
---                               STORED NAME
---   anything that fails         ERR CODE SENTENCE

local p2pd = require "p2pd"
local folder = require "file_folder"
local transfer = require "file_transfer"

local M = {}

--- The folder whose files are offered, and the one uploads go to (nil: no uploads).
M.share = os.getenv and os.getenv("P2PD_SHARE") or "shared"
M.inbox = os.getenv and os.getenv("P2PD_INBOX")

--- Limits; a test or a script that hosts this module may change them.
M.limits = {
  transfers = 8,           -- at a time
  listed = 1000,           -- names in one answer to LIST
  inbox = 16 << 30,        -- bytes in the inbox
  refresh = 1,             -- seconds a listing is used
  stall = 60,              -- seconds without a byte after which a peer is cut off
}

local WATCH_EVERY <const> = 5    -- seconds between two looks for stalled transfers

local listing              -- { path, sizes, names, at }

-- What a pipe is busy with lies in its pipe.data, and so outlives a reload of this file: sending = { seen } while a
-- file is on its way to the peer, upload = { seen, name, size, kept, sum, receiver }.
local function work_of(pipe)
  pipe.data = pipe.data or {}
  return pipe.data
end

-- The uploads, or files on their way, of all pipes: a list.
local function all_work(kind)
  local list = {}
  for _, pipe in ipairs(p2pd.pipes()) do list[#list + 1] = work_of(pipe)[kind] end
  return list
end

local function failed(code, sentence)
  return ("ERR %s %s"):format(code, tostring(sentence):gsub("%c+", " "))
end

local function list_share()
  local now = p2pd.now()
  if not listing or listing.path ~= M.share or now - listing.at >= M.limits.refresh then
    local sizes, names = folder.read(M.share)
    if not sizes then return nil, names end
    listing = { path = M.share, sizes = sizes, names = names, at = now }
  end
  return listing
end

-- Opens an offered file; the file and its size, or nil and the answer.
local function open(name)
  local list, why = list_share()
  if not list then return nil, failed("io", why) end
  if not list.sizes[name] then return nil, failed("not_found", "no such file is offered") end
  local file, err = io.open(M.share .. "/" .. name, "rb")
  if not file then return nil, failed("io", err) end
  return file, transfer.size(file)
end

-- One of the transfers allowed at a time, given back when the variable that holds it is closed. nil: none is free, and
-- the peer was told.
local function begin_sending(pipe)
  if #all_work("sending") >= M.limits.transfers then
    pipe:send(failed("busy", "too many transfers; try again later"))
    return nil
  end
  local work = work_of(pipe)
  work.sending = setmetatable({ seen = p2pd.now() }, { __close = function() work.sending = nil end })
  return work.sending
end

--- Cuts off peers that hold a transfer and neither take nor give bytes; a timer calls it.
function M.cut_off_stalled()
  local stalled, latest = {}, p2pd.now() - M.limits.stall
  for _, pipe in ipairs(p2pd.pipes()) do
    local work = work_of(pipe)
    local is_stalled = work.sending and work.sending.seen < latest or work.upload and work.upload.seen < latest
    if is_stalled then stalled[#stalled + 1] = pipe end
  end
  for _, pipe in ipairs(stalled) do
    p2pd.log.warn(("file: %s moved no byte for %g s: cut off"):format(pipe.peer or pipe.id, M.limits.stall))
    pipe:close { flush = 0 }
  end
end

-- ---------------------------------------------------------------------------------------------------------------------
-- Commands: each gets the pipe and what follows the word.

local commands = {}

function commands.LIST(pipe, prefix)
  local list, why = list_share()
  if not list then return pipe:send(failed("io", why)) end
  local lines, total = { "" }, 0
  for _, name in ipairs(list.names) do
    if name:sub(1, #prefix) == prefix then
      total = total + 1
      if total <= M.limits.listed then lines[#lines + 1] = ("%d %s"):format(list.sizes[name], name) end
    end
  end
  lines[1] = ("FILES %d of %d"):format(#lines - 1, total)
  pipe:send(table.concat(lines, "\n"))
end

-- Sends a file; the peer has `offset` bytes with the sum `hash` already.
local function send_file(pipe, name, offset, hash)
  local slot <close> = begin_sending(pipe)
  if not slot then return end
  local file <close>, size = open(name)
  if not file then return pipe:send(size) end
  local function seen() slot.seen = p2pd.now() end
  local signs = transfer.signs_of_life(pipe)
  local sum = offset <= size and transfer.sum_of(file, offset, function(done, total)
    seen()
    signs(done, total)
  end)
  if not sum or (offset > 0 and sum:hex() ~= hash) then    -- what the peer has is from another file of that name
    offset, sum = 0, transfer.sum_of(file, 0)
  end
  local ok, err = pipe:send(("FILE %d %d %s"):format(size, offset, name))
  if ok then ok, err = transfer.send(pipe, file, size, offset, sum, seen) end
  if not ok and type(err) == "string" then pipe:send(failed("io", err)) end    -- else the pipe is gone
end

function commands.GET(pipe, name)
  send_file(pipe, name, 0, "")
end

function commands.RESUME(pipe, rest)
  local offset, hash, name = rest:match("^(%d+) (%x+) (.+)$")
  offset = math.tointeger(tonumber(offset))
  if not offset then return pipe:send(failed("syntax", "RESUME OFFSET HASH NAME")) end
  send_file(pipe, name, offset, hash)
end

local function end_upload(pipe)
  local work = work_of(pipe)
  local upload = work.upload
  if not upload then return end
  work.upload = nil
  if upload.receiver then upload.receiver:close() end
end

-- Why an upload cannot be taken, or nil.
local function upload_refusal(size, name)
  if not M.inbox then return failed("refused", "this host takes no uploads") end
  if not size then return failed("syntax", "PUT SIZE NAME") end
  -- One plain name: letters, digits, blanks and ._- inside; no folder, no dot in front, nothing a shell would mind.
  if #name > 128 or not name:find("^[%w_][%w_. -]*$") or name:find("%.part$") then
    return failed("name", "a name has letters, digits, blanks and ._- in it")
  end
  local file = io.open(M.inbox .. "/" .. name, "rb")
  if file then
    file:close()
    return failed("exists", name .. " is there already")
  end
  local active = 0
  for _, upload in ipairs(all_work("upload")) do
    if upload.name == name then return failed("busy", name .. " is being uploaded") end
    active = active + 1
  end
  if active >= M.limits.transfers then return failed("busy", "too many transfers; try again later") end
  local sizes, _, bytes = folder.read(M.inbox, true)
  if not sizes then return failed("io", "the inbox cannot be read") end
  if bytes - (sizes[name .. ".part"] or 0) + size > M.limits.inbox then return failed("limit", "the inbox is full") end
end

function commands.PUT(pipe, rest)
  end_upload(pipe)
  local size, name = rest:match("^(%d+) (.+)$")
  size = math.tointeger(tonumber(size))
  local why = upload_refusal(size, name or "")
  if why then return pipe:send(why) end
  local upload = { seen = p2pd.now(), name = name, size = size, kept = 0 }
  work_of(pipe).upload = upload    -- before the first wait: the name is taken from now on
  local kept, sum = transfer.earlier(M.inbox .. "/" .. name, transfer.signs_of_life(pipe))
  if kept and kept <= size then
    upload.kept, upload.sum = kept, sum
  end
  pipe:send(("READY %d %s"):format(upload.kept, upload.sum and upload.sum:hex() or "-"))
end

function commands.FROM(pipe, rest)
  local upload = work_of(pipe).upload
  local offset = math.tointeger(tonumber(rest))
  if not upload or upload.receiver or not (offset == 0 or offset == upload.kept) then
    return pipe:send(failed("syntax", "FROM what READY said, or 0"))
  end
  local why
  local path = M.inbox .. "/" .. upload.name
  upload.receiver, why = transfer.receiver(path, upload.size, offset, offset > 0 and upload.sum)
  if not upload.receiver then
    end_upload(pipe)
    pipe:send(failed("io", why))
  end
end

local function piece_came(pipe, piece)
  local upload = work_of(pipe).upload
  if not (upload and upload.receiver) then return end    -- the rest of one that failed
  upload.seen = p2pd.now()
  local ok, why = upload.receiver:take(piece)
  if ok then return end
  end_upload(pipe)
  pipe:send(failed("io", why))
end

function commands.DONE(pipe, hash)
  local upload = work_of(pipe).upload
  if not (upload and upload.receiver) then return end
  local ok, why = upload.receiver:finish(hash)
  work_of(pipe).upload = nil
  if not ok then return pipe:send(failed("checksum", why)) end
  p2pd.log.info(("file: %s stored, %d bytes"):format(upload.name, upload.size))
  pipe:send("STORED " .. upload.name)
end

-- ---------------------------------------------------------------------------------------------------------------------

function M.msg_cb(msg, _, pipe)
  if msg:byte() == 0x3D then return piece_came(pipe, msg:sub(2)) end    -- "="
  local word, rest = msg:match("^(%u+) ?(.*)$")
  local command = word and rawget(commands, word)
  if not command then return pipe:send(failed("syntax", "LIST, GET, RESUME or PUT")) end
  command(pipe, rest)
end

function M.end_cb(pipe)
  end_upload(pipe)
end

function M.start()
  local list, why = list_share()
  if list then
    p2pd.log.info(("file: offering %d files of %s"):format(#list.names, M.share))
  else
    p2pd.log.warn("file: " .. why)
  end
end

p2pd.every(WATCH_EVERY, function() M.cut_off_stalled() end)

return M
