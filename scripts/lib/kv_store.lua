--- The store behind handlers/kv.lua: keys and values in bounded memory, expiry, and a file.
---
--- A store is a table of plain data (it lives in p2pd.state): `values` and `deadlines` by key; `list` and `index` hold
--- the keys so that a loop can go by number, which stays valid when a time slice lets another handler change the store.

local p2pd = require "p2pd"
local xxh64 = require "xxh64"

local store = {}

store.limits = {
  keys = 10000,
  bytes = 16 << 20,    -- of all keys and values, with OVERHEAD for each key
  key = 256,           -- bytes of one key
  value = 1 << 20,     -- bytes of one value
}

--- Called with "CHANGED" or "GONE" and the key.
store.on_change = function() end

local OVERHEAD <const> = 64    -- about what Lua keeps for an entry besides its bytes

function store.new()
  return { values = {}, deadlines = {}, list = {}, index = {}, count = 0, bytes = 0, dirty = false }
end

local function expired(kv, key)
  local deadline = kv.deadlines[key]
  return deadline ~= nil and p2pd.now() >= deadline
end

--- Removes a key. false when it was not there.
function store.delete(kv, key)
  local value, at = kv.values[key], kv.index[key]
  if not value then return false end
  local last = kv.list[kv.count]    -- the last key takes the free place in the list
  kv.list[at], kv.index[last] = last, at
  kv.list[kv.count], kv.index[key] = nil, nil
  kv.values[key], kv.deadlines[key] = nil, nil
  kv.count = kv.count - 1
  kv.bytes = kv.bytes - #key - #value - OVERHEAD
  kv.dirty = true
  store.on_change("GONE", key)
  return true
end

--- The value, or nil.
function store.get(kv, key)
  if expired(kv, key) then store.delete(kv, key) end
  return kv.values[key]
end

--- Sets a value: true, or false and why not. keep_deadline: an expiry stays as it is.
function store.set(kv, key, value, keep_deadline)
  local limits = store.limits
  if #key > limits.key then return false, ("a key has at most %d bytes"):format(limits.key) end
  if #value > limits.value then return false, ("a value has at most %d bytes"):format(limits.value) end
  local old = store.get(kv, key)
  local grows = #value - (old and #old or -#key - OVERHEAD)
  if not old and kv.count >= limits.keys then return false, ("there are %d keys"):format(kv.count) end
  if kv.bytes + grows > limits.bytes then return false, "the store is full" end
  if not old then
    kv.count = kv.count + 1
    kv.list[kv.count], kv.index[key] = key, kv.count
  end
  kv.values[key] = value
  kv.bytes = kv.bytes + grows
  kv.dirty = true
  if not keep_deadline then kv.deadlines[key] = nil end
  store.on_change("CHANGED", key)
  return true
end

--- Lets a key end in `seconds`; nil: never. false when it is not there.
function store.expire(kv, key, seconds)
  if not store.get(kv, key) then return false end
  kv.deadlines[key] = seconds and p2pd.now() + seconds
  kv.dirty = true
  if expired(kv, key) then store.delete(kv, key) end
  return true
end

--- Seconds until a key ends, or nil.
function store.ttl(kv, key)
  local deadline = kv.deadlines[key]
  return deadline and deadline - p2pd.now()
end

--- The keys that begin with `prefix` and sort after `after`, in no order.
function store.keys(kv, prefix, after)
  local found = {}
  for i = kv.count, 1, -1 do
    local key = kv.list[i]
    if key and key:sub(1, #prefix) == prefix and key > after and not expired(kv, key) then found[#found + 1] = key end
  end
  return found
end

--- Removes what has expired.
function store.sweep(kv)
  for i = kv.count, 1, -1 do
    local key = kv.list[i]
    if key and expired(kv, key) then store.delete(kv, key) end
  end
end

-- ---------------------------------------------------------------------------------------------------------------------
-- The file: MAGIC, the time it was written (<i8, Unix), the entries as <s4s4d (key, value, seconds left or inf),
-- an entry with an empty key, and the XXH64 of all of that (<i8).

local MAGIC <const> = "p2pd-kv1"

--- Writes the store beside the file and renames: the file is either the old or the new one, never half of one.
--- true, or nil and why.
function store.save(kv, path)
  local file, why = io.open(path .. ".tmp", "wb")
  if not file then
    return nil, why
  end
  file:setvbuf("full", 1 << 16)
  kv.dirty = false    -- first: what changes meanwhile shall be saved next time
  local sum = xxh64.new()
  local ok = true
  local function write(bytes)
    sum:update(bytes)
    ok = ok and file:write(bytes)
  end
  write(MAGIC .. string.pack("<i8", os.time()))
  for i = kv.count, 1, -1 do
    local key = kv.list[i]
    local value = key and kv.values[key]
    local left = value and store.ttl(kv, key) or math.huge
    if value and left > 0 then write(string.pack("<s4s4d", key, value, left)) end
  end
  write(string.pack("<s4s4d", "", "", 0))
  ok = ok and file:write(string.pack("<i8", sum:digest()))
  ok = file:close() and ok
  if ok then ok, why = os.rename(path .. ".tmp", path) end
  if ok then return true end
  kv.dirty = true
  return nil, why or "the disk is full?"
end

-- Reads the entries into kv; true, or nil and what is wrong.
local function read(kv, file)
  local sum = xxh64.new()
  local function take(n)
    local bytes = n == 0 and "" or file:read(n)
    if not bytes or #bytes ~= n then error("it ends too early", 0) end
    sum:update(bytes)
    return bytes
  end
  local function text(limit)
    local n = string.unpack("<I4", take(4))
    if n > limit then error("it holds more than the store's limits allow", 0) end
    return take(n)
  end
  return pcall(function()
    if take(#MAGIC) ~= MAGIC then error("it is no store", 0) end
    local away = math.max(0, os.time() - string.unpack("<i8", take(8)))
    while true do
      local key, value = text(store.limits.key), text(store.limits.value)
      local left = string.unpack("<d", take(8))
      if key == "" then break end
      if left > away then
        local ok, why = store.set(kv, key, value)
        if not ok then error(why, 0) end
        if left < math.huge then store.expire(kv, key, left - away) end
      end
    end
    local digest = sum:digest()
    if string.unpack("<i8", take(8)) ~= digest then error("its checksum is wrong", 0) end
  end)
end

--- Fills an empty store from a file. A file that is not there is an empty store; a damaged one is set aside, never
--- overwritten. true, or nil and why.
function store.load(kv, path)
  local file = io.open(path, "rb")
  if not file then return true end
  local ok, why = read(kv, file)
  file:close()
  if ok then
    kv.dirty = false
    return true
  end
  for i = kv.count, 1, -1 do store.delete(kv, kv.list[i]) end
  os.rename(path, path .. ".damaged")
  return nil, ("%s is damaged (%s): set aside as %s.damaged"):format(path, why, path)
end

return store
