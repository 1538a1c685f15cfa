-- How long a connect takes: from the call to the first echo back, over and over, to one node.
--
--   p2pd-lua exec connect.lua ADDRESS COUNT       ADDRESS is that of echo_node.lua; prints JSON
local p2pd = require "p2pd"
local figures = require "figures"

local WARMUP = 5

local address, count = arg[1], math.tointeger(tonumber(arg[2]))
assert(count, "usage: connect.lua ADDRESS COUNT")

local node = assert(p2pd.node())
local total, connected = figures.latencies(), figures.latencies()
for i = 1, count + WARMUP do
  local start = p2pd.now()
  local pipe = assert(node:connect(address))
  local between = p2pd.now()
  assert(pipe:send("x" .. i))
  assert(pipe:recv(5) == "x" .. i, "the echo is not what was sent")
  local stop = p2pd.now()
  if i > WARMUP then
    connected.record(between - start)
    total.record(stop - start)
  end
  pipe:close()
end

figures.report {
  connects = count,
  p50 = total.percentile(0.50),
  p99 = total.percentile(0.99),
  connect_p50 = connected.percentile(0.50),
  connect_p99 = connected.percentile(0.99),
}
