--- A bounded queue of outgoing messages for one pipe, with a task of its own that sends them.
---
--- pipe:send() waits while the peer is slow. Who sends the same thing to many pipes must not wait for the slowest: it
--- puts the message in each pipe's outbox, which never waits. When an outbox is full the message is dropped and
--- counted, and the peer is told how many it missed as soon as it reads again.
---
---   local outbox = require "p2pd_outbox"
---   local box = outbox.new(pipe, { max = 200, missed = function(n) return ("(%d lines missed)"):format(n) end })
---   box:put("hello")      -- true, or false when it was dropped
---
--- Where pipe.data is a table the outbox lies in its field `outbox`, so that one made after a reload goes on with what
--- the one before had queued.

local p2pd = require "p2pd"

local outbox = {}
local Outbox = {}
Outbox.__index = Outbox
Outbox.__name = "p2pd.outbox"

--- Messages and bytes an outbox holds unless told otherwise.
outbox.max_messages = 200
outbox.max_bytes = 256 * 1024

local FLUSH <const> = 2    -- seconds the pipe gets for what the kernel has not taken yet

-- The sending task: lives while there is something to send, so an idle pipe costs no coroutine.
local function drain(self)
  -- However the task ends: whoever comes after it may send.
  local _ <close> = setmetatable({}, { __close = function()
    self.sending = false
    if self.heir then self.heir:release() end
  end })
  while not self.closed do
    local message
    if self.first <= self.last then
      message = self[self.first]
      self[self.first] = nil
      self.first = self.first + 1
      self.bytes = self.bytes - #message
    elseif self.missed > 0 then
      message = self.missed_text and self.missed_text(self.missed)
      self.missed = 0
    end
    if not message then break end
    if not self.pipe:send(message) then
      self:close()    -- the pipe is gone; its end_cb tells the handler
    end
  end
  if self.finishing and not self.closed then
    self:close()
    self.pipe:close { flush = FLUSH }
  end
end

local function start(self)
  if self.sending or self.waiting or self.closed then return end
  self.sending = true
  p2pd.spawn(drain, self)
end

-- What an outbox of the code before a reload still has goes on in the new one.
local function take_over(self, old)
  table.move(old, old.first, old.last, 1, self)
  self.last, self.bytes = old.last - old.first + 1, old.bytes
  self.missed, self.dropped, self.finishing = old.missed, old.dropped, old.finishing
  self.waiting = old.sending or old.waiting
  old.closed, old.heir = true, self
  if not self.waiting and (#self > 0 or self.missed > 0) then start(self) end
end

--- options: max (messages), max_bytes, missed (f(count) -> the message that tells the peer what was dropped, or nil).
function outbox.new(pipe, options)
  options = options or {}
  local self = setmetatable({
    pipe = pipe,
    max = options.max or outbox.max_messages,
    max_bytes = options.max_bytes or outbox.max_bytes,
    missed_text = options.missed,
    first = 1, last = 0, bytes = 0,    -- the queue: self[first .. last]
    missed = 0,                        -- dropped since the peer was last told
    dropped = 0,                       -- dropped in all
    sending = false,
    finishing = false,
    closed = false,
    waiting = false,                   -- one before it has a message under way
    release = outbox.release,          -- of the code that made it
  }, Outbox)
  local data = pipe.data
  if type(data) == "table" then
    if data.outbox and not data.outbox.closed then take_over(self, data.outbox) end
    data.outbox = self
  end
  return self
end

--- The message that an earlier outbox had under way is through: the latest one goes on.
function outbox.release(self)
  self.waiting = false
  if self.heir then return self.heir:release() end
  start(self)
end

--- Queues one message. false when it had to be dropped, or the outbox is closed.
function Outbox:put(message)
  if self.closed or self.finishing then return false end
  -- Once something was dropped nothing may follow it until the peer has been told, or the gap would not show.
  local fits = self.missed == 0 and #self < self.max and self.bytes + #message <= self.max_bytes
  if fits then
    self.last = self.last + 1
    self[self.last] = message
    self.bytes = self.bytes + #message
  else
    self.missed = self.missed + 1
    self.dropped = self.dropped + 1
  end
  start(self)
  return fits
end

--- Messages waiting to be sent.
function Outbox:__len()
  return self.last - self.first + 1
end

--- Sends what is queued, then closes the pipe. Nothing more is taken.
function Outbox:finish()
  self.finishing = true
  start(self)
end

--- Forgets what is queued; the sending task ends. The pipe stays as it is.
function Outbox:close()
  self.closed = true
  for i = self.first, self.last do self[i] = nil end
  self.first, self.last, self.bytes = 1, 0, 0
end

return outbox
