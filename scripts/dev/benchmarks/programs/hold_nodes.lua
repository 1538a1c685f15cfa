-- hold.c for encrypted pipes: opens COUNT pipes to a node, has one message echoed on each, prints how many came
-- about as JSON, and keeps them open, idle, until it is ended.
--
--   p2pd-lua exec hold_nodes.lua ADDRESS COUNT       ADDRESS is that of echo_node.lua
local p2pd = require "p2pd"
local figures = require "figures"

-- Handshakes under way at once: enough to keep both CPUs busy, below the server's limit.
local WORKERS = 16

local address, count = arg[1], math.tointeger(tonumber(arg[2]))
assert(count, "usage: hold_nodes.lua ADDRESS COUNT")

local node = assert(p2pd.node())
local message = ("x"):rep(64)
local pipes, echoed, begun, ended, failure = {}, 0, 0, 0, nil

local function worker()
  while begun < count and not failure do
    begun = begun + 1
    local pipe, err = node:connect(address)
    if not pipe then
      failure = err
      break
    end
    pipes[#pipes + 1] = pipe
    pipe:send(message)
    if pipe:recv(20) == message then echoed = echoed + 1 end
  end
  ended = ended + 1
end

for _ = 1, WORKERS do p2pd.spawn(worker) end
while ended < WORKERS do p2pd.sleep(0.05) end
if failure then io.stderr:write("hold_nodes: ", tostring(failure), "\n") end
figures.report { opened = #pipes, echoed = echoed }
while true do p2pd.sleep(3600) end
