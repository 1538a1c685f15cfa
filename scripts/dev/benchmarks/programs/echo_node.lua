-- A node on 127.0.0.1 that echoes every message of its default protocol.
--
--   p2pd-lua exec echo_node.lua       prints READY and its address, and serves until it is ended
local p2pd = require "p2pd"

local node = assert(p2pd.node())
node:add_msg_cb(function(msg, client_tup, pipe)
  pipe:send(msg, client_tup)
end)

io.write("READY ", tostring(node:address()), "\n")
io.flush()
while true do p2pd.sleep(3600) end
