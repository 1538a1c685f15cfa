-- Run in a network namespace of its own, where lo is up and carries 239.0.0.0/8 and broadcasts.
local p2pd = require "p2pd"

local group, port = "239.1.2.3", 42424
local function listener()
  return assert(p2pd.pipe_open("udp", { bind = { "0.0.0.0", port }, reuse_addr = true, multicast = { group } }))
end
local first, second = listener(), listener()

local sender = assert(p2pd.pipe_open("udp", { dest = { group, port }, multicast_ttl = 1, multicast_loop = true }))
assert(sender:send("to the group"))
for _, pipe in ipairs { first, second } do
  local msg, from = pipe:recv(5)
  assert(msg == "to the group", msg)
  assert(pipe:send("from " .. tostring(pipe.id), from))
end
local heard = {}
for _ = 1, 2 do
  local msg = assert(sender:recv(5))
  heard[msg] = true
end
assert(heard["from " .. first.id] and heard["from " .. second.id])

-- Broadcast needs to be asked for.
local silent = assert(p2pd.pipe_open("udp", { bind = { "0.0.0.0", 0 } }))
local ok, err = silent:send("to all", { "10.77.0.255", port })
assert(not ok and err.code == "permission", tostring(err))
local loud = assert(p2pd.pipe_open("udp", { dest = { "10.77.0.255", port }, broadcast = true }))
assert(loud:send("to all"))
assert(first:recv(5) == "to all")

-- Held to an interface, and it says how.
local held = assert(p2pd.pipe_open("udp", { bind = { "10.77.0.1", 0 }, interface = "lo" }))
assert(held.held_by == "device", held.held_by)
assert(first.held_by == nil)

local fine, why = pcall(p2pd.pipe_open, "udp", { bind = { "0.0.0.0", 0 }, multicast = { "10.0.0.1" } })
assert(not fine and tostring(why):find("no multicast group", 1, true), tostring(why))
print("heard")
