-- lua-luv's echo, as its users write it: TCP and UDP on one port of 127.0.0.1, answers through `write` and `send`.
--
--   lua5.4 echo_luv.lua PORT       prints READY and serves until it is ended
local uv = require "luv"
local port = assert(tonumber(arg[1]), "usage: lua5.4 echo_luv.lua PORT")

-- A client that left with answers under way must not end the server.
uv.new_signal():start("sigpipe")

local server = uv.new_tcp()
assert(server:bind("127.0.0.1", port))
assert(server:listen(1024, function()
  local client = uv.new_tcp()
  server:accept(client)
  client:nodelay(true)
  client:read_start(function(_, chunk)
    if chunk then client:write(chunk) elseif not client:is_closing() then client:close() end
  end)
end))

local datagrams = uv.new_udp()
assert(datagrams:bind("127.0.0.1", port))
datagrams:recv_buffer_size(1 << 20)
datagrams:send_buffer_size(1 << 20)
local function sent() end
assert(datagrams:recv_start(function(_, data, from)
  if data and from then datagrams:send(data, from.ip, from.port, sent) end
end))

print("READY")
io.stdout:flush()
uv.run()
