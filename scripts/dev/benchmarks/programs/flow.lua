-- Keeps messages in flight through one pipe to an echo server and prints what came back as JSON.
--
--   p2pd-lua exec flow.lua KIND TARGET SIZE DEPTH SECONDS
--
-- KIND     node: TARGET is a node's address (echo_node.lua); raw, u32: a plain TCP pipe with that framing, TARGET is
--          the port of echo_pipes.lua started with the same framing
-- SIZE     bytes in a message;  DEPTH  messages in flight
local p2pd = require "p2pd"
local figures = require "figures"

local WARMUP = 0.4

local kind, target = arg[1], arg[2]
local size, depth, seconds = math.tointeger(tonumber(arg[3])), math.tointeger(tonumber(arg[4])), tonumber(arg[5])
assert(seconds, "usage: flow.lua KIND TARGET SIZE DEPTH SECONDS")

local function open()
  if kind == "node" then
    local node = assert(p2pd.node())
    return assert(node:connect(target))
  end
  return assert(p2pd.pipe_open("tcp", { dest = { "127.0.0.1", math.tointeger(tonumber(target)) }, framing = kind }))
end

local pipe = open()
local message = ("x"):rep(size)
local sent_at = {}                    -- a ring: answers come back in order
local sent, received, bytes, running = 0, 0, 0, true
local latencies = figures.latencies()

local function send()
  sent_at[sent % depth] = p2pd.now()
  sent = sent + 1
  assert(pipe:send(message))
end

pipe:add_msg_cb(function(msg)
  -- A raw pipe brings a message in pieces, or several at once.
  bytes = bytes + #msg
  while bytes >= size do
    bytes = bytes - size
    latencies.record(p2pd.now() - sent_at[received % depth])
    received = received + 1
    if running then send() end
  end
end)

for _ = 1, depth do send() end
p2pd.sleep(WARMUP)
latencies.clear()
local start = p2pd.now()
p2pd.sleep(seconds)
local elapsed = p2pd.now() - start
running = false

local count = latencies.total()
figures.report {
  messages = count,
  seconds = elapsed,
  rate = count / elapsed,
  mb_per_s = count * size / elapsed / 1e6,
  p50 = latencies.percentile(0.50),
  p99 = latencies.percentile(0.99),
}
return count > 0
