-- What a script asks of plain pipes: TLS, a Unix-domain socket, duplicates, subscriptions, error codes.
--   p2pd-lua exec pipes.lua CERTIFICATES-FOLDER UNIX-SOCKET-OF-AN-ECHO
local p2pd = require "p2pd"
local folder, socket = arg[1], arg[2]

local function echo(msg, tup, pipe) pipe:send(msg, tup) end
local function port_of(pipe) return (select(2, table.unpack(pipe:getsockname()))) end

-- TLS: verified, refused, and not asked for.
local secure = assert(p2pd.pipe_open("tcp", {
  bind = { "::1", 0 }, framing = "u16", msg_cb = echo,
  tls = { certificate = folder .. "/server.pem", key = folder .. "/server.key" },
}))
local function dial(tls)
  return p2pd.pipe_open("tcp", { dest = { "::1", port_of(secure) }, framing = "u16", tls = tls })
end
local good = assert(dial { ca = folder .. "/ca.pem", server_name = "localhost" })
assert(good:send("secret") and good:recv(5) == "secret")
local bad, err = dial { ca = folder .. "/ca.pem", server_name = "example.org" }
assert(not bad and err.code == "tls", tostring(err))
bad, err = dial(true)
assert(not bad and err.code == "tls", tostring(err))

-- A Unix-domain stream socket.
local here = assert(p2pd.pipe_open("tcp", { dest = "unix:" .. socket, framing = "line" }))
assert(here:send("local") and here:recv(5) == "local")

-- Duplicates are dropped, subscriptions take what they want.
local heard = assert(p2pd.pipe_open("udp", { bind = { "127.0.0.1", 0 }, enable_msg_ids = true }))
local numbers = heard:subscribe("^%d+$")
local talker = assert(p2pd.pipe_open("udp", { dest = { "127.0.0.1", port_of(heard) } }))
for _, msg in ipairs { "a1", "7", "7", "8" } do assert(talker:send(msg)) end
assert(heard:recv(numbers, 5) == "7" and heard:recv(numbers, 5) == "8")
assert(heard:stats().dropped == 1)
heard:unsubscribe(numbers)

-- Each failure has its code.
local taken = port_of(secure)
local function code(...) local pipe, why = p2pd.pipe_open(...) assert(not pipe) return why.code end
assert(code("tcp", { bind = { "::1", taken } }) == "in_use")
assert(code("udp", { bind = { "192.0.2.1", 0 } }) == "bad_address")
secure:close()
local ok, why = talker:send(("x"):rep(70000))
assert(not ok and why.code == "too_long")
assert(select(2, talker:recv(0.01)).code == "timeout")
print("all held")
