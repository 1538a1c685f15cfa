-- The program measured: an echo through a Lua msg_cb, TCP and UDP pipes on one port of 127.0.0.1.
--
--   p2pd-lua exec echo_pipes.lua PORT [FRAMING]     prints READY and serves until it is ended
local p2pd = require "p2pd"

local port = assert(math.tointeger(tonumber(arg[1])), "usage: echo_pipes.lua PORT [FRAMING]")
local framing = arg[2]

local function echo(msg, client_tup, pipe)
  pipe:send(msg, client_tup)
end

for _, proto in ipairs { "tcp", "udp" } do
  assert(p2pd.pipe_open(proto, {
    bind = { "127.0.0.1", port },
    framing = proto == "tcp" and framing or nil,
    msg_cb = echo,
  }))
end

io.write("READY\n")
io.flush()
while true do p2pd.sleep(3600) end
