--- Chat: rooms, a nickname in the room, and the last lines for who comes later.
---
---   $ p2pd-lua run scripts/handlers/chat.lua                         # prints the node's address
---   $ p2pd-lua connect ADDRESS --protocol chat                       # in other terminals
---   * you are guest1 in #lobby; /help lists the commands
---   /nick ana
---   * guest1 is now ana
---   hello everybody
---   <ana> hello everybody
---   <bob> hi ana
---   /join garden
---   * you are ana in #garden
---   /who
---   * in #garden: ana
---   /quit
---   * bye
---
--- One message is one line. What a peer sends is cleaned before others see it (no control characters, one line, at most
--- 1000 bytes). A member who does not read holds up nobody: each has a bounded queue, and is told what it missed.
--- Rooms, nicknames and history live in p2pd.state and pipe.data.

local p2pd = require "p2pd"
local outbox = require "p2pd_outbox"
local text = require "p2pd_text"

local M = {}

--- Limits; a test or a script that hosts this module may change them.
M.limits = {
  rooms = 64,            -- rooms in all; a new one takes the place of the empty room that was left longest ago
  members = 200,         -- in one room
  history = 50,          -- lines kept of each room
  line = 1000,           -- bytes of one line
  queue = 200,           -- lines waiting for one member
  rate = 5, burst = 20,  -- lines a second a member may send on average, and at once
}

M.lobby = "lobby"

-- Members by pipe id: { pipe, box, nick, room, tokens, refilled }. After a reload of this file they are made again,
-- from what pipe.data holds.
-- The engine may let other handlers run in the middle of a loop here (time slices): loops go over lists, by index.
local members = {}
local roster = {}      -- room -> list of its members
local commands = {}

local function rooms()
  local state = p2pd.state
  state.rooms = state.rooms or {}
  return state.rooms
end

local function say(member, line)
  return member.box:put(line)
end

local function in_room(name)
  return roster[name] or {}
end

local function count(t)
  local n = 0
  for _ in pairs(t) do n = n + 1 end
  return n
end

local function tell_room(name, line)
  for _, member in ipairs(in_room(name)) do say(member, line) end
end

local function nick_taken(nick, room, but)
  local wanted = nick:lower()
  for _, member in ipairs(in_room(room)) do
    if member ~= but and member.nick:lower() == wanted then return true end
  end
  return false
end

-- In pipe.data too: what stands there lives through a reload of this file.
local function set(member, field, value)
  member[field] = value
  member.pipe.data[field] = value
end

-- ---------------------------------------------------------------------------------------------------------------------
-- Rooms

local function remember(name, line)
  local history = rooms()[name].history
  history[#history + 1] = line
  if #history > M.limits.history then table.remove(history, 1) end
end

-- Makes room for one more: the empty room left longest ago goes. false when every room is in use.
local function make_place()
  if count(rooms()) < M.limits.rooms then return true end
  local oldest
  for name, room in pairs(rooms()) do
    local empty = name ~= M.lobby and #in_room(name) == 0
    if empty and (not oldest or room.left < rooms()[oldest].left) then oldest = name end
  end
  if oldest then rooms()[oldest] = nil end
  return oldest ~= nil
end

-- Why the member cannot enter the room, or nil.
local function refusal(member, name)
  if not text.is_name(name) then return "a room's name has 1 to 24 letters, digits, _ or -" end
  if member.room == name then return "you are in #" .. name end
  if #in_room(name) >= M.limits.members then return "#" .. name .. " is full" end
  if nick_taken(member.nick, name, member) then return member.nick .. " is taken in #" .. name .. ": /nick first" end
  if not rooms()[name] and not make_place() then return "there are too many rooms" end
end

local function put_in(member, name)
  roster[name] = roster[name] or {}
  table.insert(roster[name], member)
end

local function take_out(member, name)
  local list = in_room(name)
  for i = #list, 1, -1 do
    if list[i] == member then table.remove(list, i) end
  end
  if #list == 0 then roster[name] = nil end
end

local function leave(member, notice)
  local name = member.room
  if not name then return end
  set(member, "room", nil)
  take_out(member, name)
  local room = rooms()[name]
  if room then room.left = p2pd.now() end
  tell_room(name, notice)
end

local function enter(member, name)
  local all = rooms()
  all[name] = all[name] or { history = {}, left = 0 }
  tell_room(name, ("* %s joined #%s"):format(member.nick, name))
  set(member, "room", name)
  put_in(member, name)
  for _, line in ipairs(all[name].history) do say(member, line) end
end

-- ---------------------------------------------------------------------------------------------------------------------
-- Commands: each gets the member and the rest of the line.

function commands.join(member, name)
  name = name:gsub("^#", "")
  local why = refusal(member, name)
  if why then return say(member, "! " .. why) end
  leave(member, ("* %s left for #%s"):format(member.nick, name))
  enter(member, name)
  say(member, ("* you are %s in #%s"):format(member.nick, name))
end

function commands.nick(member, nick)
  if not text.is_name(nick) then return say(member, "! a nickname has 1 to 24 letters, digits, _ or -") end
  if nick_taken(nick, member.room, member) then return say(member, "! " .. nick .. " is taken in #" .. member.room) end
  local before = member.nick
  set(member, "nick", nick)
  tell_room(member.room, ("* %s is now %s"):format(before, nick))
end

function commands.who(member)
  local names = {}
  for _, other in ipairs(in_room(member.room)) do names[#names + 1] = other.nick end
  table.sort(names)
  say(member, ("* in #%s: %s"):format(member.room, table.concat(names, ", ")))
end

function commands.rooms(member)
  local list = {}
  for name in pairs(rooms()) do list[#list + 1] = ("#%s (%d)"):format(name, #in_room(name)) end
  table.sort(list)
  say(member, "* rooms: " .. table.concat(list, ", "))
end

function commands.help(member)
  say(member, "* /join ROOM, /nick NAME, /who, /rooms, /help, /quit; anything else is said in the room")
end

function commands.quit(member)
  leave(member, ("* %s left"):format(member.nick))
  members[member.pipe.id] = nil
  say(member, "* bye")
  member.box:finish()
end

local function talk(member, line)
  line = ("<%s> %s"):format(member.nick, line)
  remember(member.room, line)
  tell_room(member.room, line)
end

-- ---------------------------------------------------------------------------------------------------------------------
-- Members

local function missed(n)
  return ("* %d lines missed: this connection is slower than the room"):format(n)
end

local function adopt(pipe)
  local member = {
    pipe = pipe,
    box = outbox.new(pipe, { max = M.limits.queue, missed = missed }),
    nick = pipe.data.nick,
    room = pipe.data.room,
    tokens = pipe.data.tokens or M.limits.burst,
    refilled = pipe.data.refilled or p2pd.now(),
  }
  members[pipe.id] = member
  if member.room then put_in(member, member.room) end
  return member
end

-- Everybody who was here before the code was reloaded.
local function meet()
  for _, pipe in ipairs(p2pd.pipes()) do
    if not members[pipe.id] and pipe.data and pipe.data.room then adopt(pipe) end
  end
end

local function fresh_nick()
  local state = p2pd.state
  repeat
    state.guests = (state.guests or 0) + 1
    local nick = "guest" .. state.guests
    if not nick_taken(nick, M.lobby) then return nick end
  until false
end

-- A token bucket: `burst` lines at once, then `rate` a second.
local function too_fast(member)
  local now = p2pd.now()
  local tokens = math.min(M.limits.burst, member.tokens + (now - member.refilled) * M.limits.rate)
  set(member, "refilled", now)
  set(member, "tokens", tokens < 1 and tokens or tokens - 1)
  return tokens < 1
end

local function arrive(pipe)
  if #in_room(M.lobby) >= M.limits.members then
    pipe:send("! #" .. M.lobby .. " is full")
    pipe:close { flush = 1 }
    return
  end
  pipe.data = { nick = fresh_nick() }
  local member = adopt(pipe)
  enter(member, M.lobby)
  say(member, ("* you are %s in #%s; /help lists the commands"):format(member.nick, M.lobby))
end

-- The first pipe that this code hears of after a reload brings the others with it.
function M.adopt(pipe)
  if not members[pipe.id] then meet() end
end

function M.start()
  meet()
end

function M.up_cb(pipe)
  arrive(pipe)
end

function M.msg_cb(msg, _, pipe)
  local member = members[pipe.id]
  if not member then return end    -- turned away, or it has quit: what it still sends has no room
  if too_fast(member) then return say(member, "! slow down: that line was not delivered") end
  local line = text.clean(msg, M.limits.line)
  if line == "" then return end
  local name, rest = line:match("^/(%S*) *(.*)$")
  if not name then return talk(member, line) end
  local command = rawget(commands, name:lower())
  if not command then return say(member, "! there is no /" .. name .. "; /help lists the commands") end
  command(member, rest)
end

function M.end_cb(pipe)
  local member = members[pipe.id]
  if not member then return end
  members[pipe.id] = nil
  member.box:close()
  leave(member, ("* %s left"):format(member.nick))
end

return M
