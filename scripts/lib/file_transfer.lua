--- A file's way over a pipe, for both sides: what handlers/file.lua and its client share.
---
--- On the pipe (one message each):
---   =BYTES                  a piece of the file, in order, at most PIECE bytes
---   HASHING DONE TOTAL      still reading what is there already: a sign of life
---   DONE HASH               the end; HASH is the XXH64 of the whole file, 16 hexadecimal digits
---
--- Memory stays flat whatever the size: one piece at a time is read, sum and sent, and send() waits for the peer.
--- Reading and writing files blocks the engine's loop; pieces are small so that it is a fraction of a millisecond, and
--- a pause after each MiB lets everybody else have a turn (it also tells the engine that this is no endless loop).

local p2pd = require "p2pd"
local xxh64 = require "xxh64"

local transfer = {}

--- Bytes of one piece.
transfer.PIECE = 64 * 1024

local PIECES_A_TURN <const> = 16
local SIGN_OF_LIFE <const> = 64 << 20    -- bytes hashed between two HASHING messages

-- Counts pieces, and gives way now and then.
local function turns()
  local n = 0
  return function()
    n = n + 1
    if n % PIECES_A_TURN == 0 then p2pd.sleep(0) end
  end
end

--- A file's size in bytes; the position goes back to the start.
function transfer.size(file)
  local size = file:seek("end")
  file:seek("set", 0)
  return size
end

--- The sum of the first `n` bytes of an open file, which is then at position n. nil and why when it is shorter.
--- progress(done, n) is called now and then.
function transfer.sum_of(file, n, progress)
  file:seek("set", 0)
  local sum, done, turn, next_sign = xxh64.new(), 0, turns(), SIGN_OF_LIFE
  while done < n do
    local piece = file:read(math.min(transfer.PIECE, n - done))
    if not piece then return nil, "the file is shorter than before" end
    sum:update(piece)
    done = done + #piece
    turn()
    if progress and done >= next_sign then
      progress(done, n)
      next_sign = done + SIGN_OF_LIFE
    end
  end
  return sum
end

--- What tells the peer of a long hashing, for sum_of.
function transfer.signs_of_life(pipe)
  return function(done, total) pipe:send(("HASHING %d %d"):format(done, total)) end
end

--- Sends an open file from its position `offset` to `size`, then DONE. `sum` is the sum of what comes before.
--- true, or nil and why. progress(done, size) is called after each piece.
function transfer.send(pipe, file, size, offset, sum, progress)
  local turn = turns()
  while offset < size do
    local piece = file:read(math.min(transfer.PIECE, size - offset))
    if not piece then return nil, "the file became shorter" end
    local ok, err = pipe:send("=" .. piece)
    if not ok then return nil, err end
    sum:update(piece)
    offset = offset + #piece
    if progress then progress(offset, size) end
    turn()
  end
  return pipe:send("DONE " .. sum:hex())
end

-- ---------------------------------------------------------------------------------------------------------------------

local Receiver = {}
Receiver.__index = Receiver
Receiver.__name = "file.receiver"

--- Receives into PATH.part and renames it to PATH when it is whole. `offset` and `sum` say what of PATH.part is kept;
--- without them it begins anew. The receiver, or nil and why.
function transfer.receiver(path, size, offset, sum)
  offset = offset or 0
  local file, why = io.open(path .. ".part", offset > 0 and "r+b" or "wb")
  if not file then return nil, why end
  file:seek("set", offset)
  return setmetatable({
    path = path, part = path .. ".part", file = file,
    size = size, done = offset, sum = sum or xxh64.new(), turn = turns(),
  }, Receiver)
end

--- What is there of an earlier attempt: its size and sum, or nil.
function transfer.earlier(path, progress)
  local file = io.open(path .. ".part", "rb")
  if not file then return nil end
  local size = transfer.size(file)
  local sum = size > 0 and transfer.sum_of(file, size, progress)
  file:close()
  if not sum then return nil end
  return size, sum
end

--- Takes one piece. true, or nil and why.
function Receiver:take(piece)
  if self.done + #piece > self.size then return nil, "more came than was announced" end
  local ok, why = self.file:write(piece)
  if not ok then return nil, why end
  self.sum:update(piece)
  self.done = self.done + #piece
  self.turn()
  return true
end

--- The end: checks size and sum, and gives the file its name. true, or nil and why.
function Receiver:finish(hash)
  local ok, why = self:close()
  if not ok then return nil, why end
  if self.done ~= self.size then return nil, ("%d of %d bytes came"):format(self.done, self.size) end
  if self.sum:hex() ~= hash then
    os.remove(self.part)    -- what is damaged must not be built on
    return nil, "the checksum is wrong: what came is not what was sent"
  end
  return os.rename(self.part, self.path)
end

--- Ends without the rest; what came is kept in PATH.part.
function Receiver:close()
  local file = self.file
  self.file = nil
  if not file then return true end
  return file:close()
end

return transfer
