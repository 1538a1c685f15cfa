--- Key-value store: a small shared memory for programs and people, with expiry, counters and notices of changes.
---
---   $ p2pd-lua run scripts/handlers/kv.lua                           # prints the node's address; forgets at its end
---   $ P2PD_KV_FILE=store.kv p2pd-lua run scripts/handlers/kv.lua     # keeps it in a file
---   $ p2pd-lua connect ADDRESS --protocol kv                         # in another terminal
---   SET colour blue
---   OK
---   GET colour
---   VALUE blue
---   INCR visits
---   INT 1
---   KEYS
---   KEYS 2 of 2
---   colour
---   visits
---   WATCH col
---   OK
---   SET colour green
---   OK
---   CHANGED colour
---
--- One message is one command; everything after the key of SET and ADD is the value, bytes as they are. HELP lists the
--- commands. An answer is one message and begins with OK, VALUE, NONE, INT, TTL, KEYS, SIZE, HELP or ERR (a code, then
--- a sentence); CHANGED, GONE and MISSED come on their own to who watches.
--- With a file, changes are on disk two seconds later at the latest, and when the node ends.

local p2pd = require "p2pd"
local outbox = require "p2pd_outbox"
local store = require "kv_store"

local M = {}

--- Limits; a test or a script that hosts this module may change them. Those of the store are in kv_store.limits.
M.limits = {
  listed = 500,         -- keys in one answer to KEYS
  watches = 16,         -- prefixes one pipe may watch
  watchers = 1000,      -- pipes that watch
}

--- Where the store is kept; nil: nowhere. (In a sandbox there is no os.getenv, and no file.)
M.file = os.getenv and os.getenv("P2PD_KV_FILE")

local SAVE_EVERY <const> = 2    -- seconds
local SWEEP_EVERY <const> = 1

-- Pipes that watch, as a list: { pipe, box, prefixes }. Time slices may run other handlers inside a loop, so by index.
local watchers = {}

local function notify(event, key)
  local notice = event .. " " .. key
  for _, watcher in ipairs(watchers) do
    for _, prefix in ipairs(watcher.prefixes) do
      if key:sub(1, #prefix) == prefix then
        watcher.box:put(notice)
        break
      end
    end
  end
end

store.on_change = notify

local function open_store()
  if not p2pd.state.kv then
    p2pd.state.kv = store.new()
    if M.file then
      local ok, why = store.load(p2pd.state.kv, M.file)
      if ok then p2pd.log.info(("kv: %d keys from %s"):format(p2pd.state.kv.count, M.file)) else p2pd.log.error(why) end
    end
  end
  return p2pd.state.kv
end

local function save()
  local kv = p2pd.state.kv
  if not (M.file and kv and kv.dirty) then return end
  local ok, why = store.save(kv, M.file)
  if not ok then p2pd.log.error("kv: not saved: " .. why) end
end

-- ---------------------------------------------------------------------------------------------------------------------
-- Commands: name -> { arguments, what it does, pattern of the rest, function(kv, pipe, captures...) -> answer }

local commands, order = {}, {}

local function command(name, arguments, text, pattern, f)
  commands[name] = { arguments = arguments, text = text, pattern = pattern, run = f }
  order[#order + 1] = name
end

local function failed(code, sentence)
  return ("ERR %s %s"):format(code, sentence)
end

local KEY <const> = "([^%s%c]+)"

command("GET", "KEY", "the value", "^" .. KEY .. "$", function(kv, _, key)
  local value = store.get(kv, key)
  return value and "VALUE " .. value or "NONE"
end)

local function put(kv, key, value)
  local ok, why = store.set(kv, key, value)
  return ok and "OK" or failed("limit", why)
end

command("SET", "KEY VALUE", "set it; an expiry it had is forgotten", "^" .. KEY .. " (.*)$", function(kv, _, key, value)
  return put(kv, key, value)
end)

command("ADD", "KEY VALUE", "set it where it is not there yet", "^" .. KEY .. " (.*)$", function(kv, _, key, value)
  if store.get(kv, key) then return failed("exists", key .. " is there") end
  return put(kv, key, value)
end)

command("DEL", "KEY", "remove it", "^" .. KEY .. "$", function(kv, _, key)
  return store.delete(kv, key) and "OK" or "NONE"
end)

command("INCR", "KEY [N]", "add N, or 1; a key that is not there counts as 0", "^" .. KEY .. " ?(%-?%d*)$",
  function(kv, _, key, by)
    local n = by == "" and 1 or math.tointeger(tonumber(by))
    local old = math.tointeger(tonumber(store.get(kv, key) or "0"))
    if not n or not old then return failed("type", "not a whole number of 64 bits") end
    local sum = old + n
    if (n > 0) ~= (sum > old) and n ~= 0 then return failed("range", "the sum has more than 64 bits") end
    local ok, why = store.set(kv, key, tostring(sum), true)
    return ok and "INT " .. sum or failed("limit", why)
  end)

command("EXPIRE", "KEY SECONDS|never", "remove it after that time", "^" .. KEY .. " (%S+)$",
  function(kv, _, key, seconds)
    local s = tonumber(seconds)
    if seconds ~= "never" and not (s and s >= 0 and s <= 1e9) then
      return failed("syntax", "seconds: a number from 0 to 1e9, or never")
    end
    return store.expire(kv, key, s) and "OK" or "NONE"
  end)

command("TTL", "KEY", "seconds until it expires", "^" .. KEY .. "$", function(kv, _, key)
  if not store.get(kv, key) then return "NONE" end
  local left = store.ttl(kv, key)
  return left and ("TTL %.3f"):format(left) or "TTL never"
end)

command("KEYS", "[PREFIX [AFTER]]", "the keys that begin so, sorted, those after AFTER", "^(%S*) ?(%S*)$",
  function(kv, _, prefix, after)
    local found = store.keys(kv, prefix, after)
    table.sort(found)
    local shown = math.min(#found, M.limits.listed)
    local lines = { ("KEYS %d of %d"):format(shown, #found) }
    table.move(found, 1, shown, 2, lines)
    return table.concat(lines, "\n")
  end)

command("SIZE", "", "how many keys and bytes there are, and may be", "^$", function(kv)
  return ("SIZE %d of %d keys, %d of %d bytes"):format(kv.count, store.limits.keys, kv.bytes, store.limits.bytes)
end)

command("WATCH", "PREFIX", "tell me of each change of a key that begins so", "^(%S*)$", function(_, pipe, prefix)
  return M.watch(pipe, prefix)
end)

command("UNWATCH", "", "no more notices", "^$", function(_, pipe)
  M.unwatch(pipe)
  return "OK"
end)

command("HELP", "", "this list", "^$", function()
  local lines = { "HELP" }
  for _, name in ipairs(order) do
    local c = commands[name]
    lines[#lines + 1] = ("%-24s %s"):format(name .. " " .. c.arguments, c.text)
  end
  return table.concat(lines, "\n")
end)

-- ---------------------------------------------------------------------------------------------------------------------
-- Watching

local function missed(n)
  return "MISSED " .. n
end

local function watcher_of(pipe)
  for i, watcher in ipairs(watchers) do
    if watcher.pipe.id == pipe.id then return watcher, i end
  end
end

local function add_watcher(pipe)
  local watcher = { pipe = pipe, box = outbox.new(pipe, { missed = missed }), prefixes = pipe.data.watches }
  watchers[#watchers + 1] = watcher
  return watcher
end

--- Begins to tell a pipe of changes; the answer to WATCH. What it watches is in pipe.data, and so outlives a reload.
function M.watch(pipe, prefix)
  if #prefix > store.limits.key then return failed("limit", "the prefix is too long") end
  local watcher = watcher_of(pipe)
  if not watcher then
    if #watchers >= M.limits.watchers then return failed("limit", "too many are watching") end
    pipe.data = pipe.data or {}
    pipe.data.watches = pipe.data.watches or {}
    watcher = add_watcher(pipe)
  end
  for _, known in ipairs(watcher.prefixes) do
    if known == prefix then return "OK" end
  end
  if #watcher.prefixes >= M.limits.watches then return failed("limit", "you watch enough") end
  table.insert(watcher.prefixes, prefix)
  return "OK"
end

function M.unwatch(pipe)
  local watcher, i = watcher_of(pipe)
  if watcher then
    pipe.data.watches = nil
    watcher.box:close()
    table.remove(watchers, i)
  end
end

-- ---------------------------------------------------------------------------------------------------------------------

local function answer(msg, pipe)
  local name, rest = msg:match("^(%a+) ?(.*)$")
  local c = name and rawget(commands, name:upper())
  if not c then return failed("syntax", "no such command; HELP lists them") end
  local a, b = rest:match(c.pattern)
  if not a then return failed("syntax", name:upper() .. " " .. c.arguments) end
  return c.run(open_store(), pipe, a, b)
end

function M.msg_cb(msg, client_tup, pipe)
  pipe:send(answer(msg, pipe), client_tup)
end

-- Those who watched before the code was reloaded.
local function meet()
  for _, pipe in ipairs(p2pd.pipes()) do
    if pipe.data and pipe.data.watches and not watcher_of(pipe) then add_watcher(pipe) end
  end
end

--- The first pipe that this code hears of after a reload brings the others with it.
function M.adopt(pipe)
  if not watcher_of(pipe) then meet() end
end

function M.end_cb(pipe)
  M.unwatch(pipe)
end

function M.start()
  meet()
  open_store()
end

function M.stop()
  save()
end

--- What the timers do, for tests: removes what has expired; saves what has changed.
function M.sweep()
  if p2pd.state.kv then store.sweep(p2pd.state.kv) end
end
M.save = save

p2pd.every(SWEEP_EVERY, function() M.sweep() end)
p2pd.every(SAVE_EVERY, function() save() end)

return M
