-- p2pd-lua exec turn.lua alone SERVER        two clients of one server in one script, and what can go wrong
-- p2pd-lua exec turn.lua peer FOLDER ME OTHER  one of two peers that tell each other their tuples by files
local p2pd = require "p2pd"

local function open(options) return assert(p2pd.turn_client(options)) end

local function alone(server)
  local a, b = open { server = server }, open { server = server, transport = "tcp" }
  local a_mapped, a_relayed = a:get_tups()
  local b_mapped, b_relayed = b:get_tups()
  assert(a_mapped.ip == "127.0.0.1" and a_relayed.ip == "127.0.0.1" and a_relayed.port ~= b_relayed.port)

  -- Nobody was accepted yet.
  local _, err = a:send("lost")
  assert(err.code == "bad_address", tostring(err))
  _, err = a:send("lost", b_relayed)
  assert(err.code == "permission", tostring(err))
  _, err = a:recv(0)
  assert(err.code == "timeout", tostring(err))
  _, err = a:recv(0.05)
  assert(err.code == "timeout", tostring(err))

  assert(a:accept_peer(b_mapped, b_relayed))
  assert(b:accept_peer({ a_mapped.ip, a_mapped.port }, tostring(a_relayed)))
  for i = 1, 20 do
    assert(a:send("ping " .. i))
    local msg, tup = assert(b:recv(5))
    assert(msg == "ping " .. i and tup == a_relayed, msg)
    assert(b:send(msg:gsub("ping", "pong"), tup))
    assert(a:recv(5) == "pong " .. i)
  end
  -- Bytes of every kind, and as many as a datagram takes.
  local big = string.rep("\0\1\255", 400)
  assert(a:send(big, b_relayed) and b:recv(5) == big)
  _, err = a:send(string.rep("x", 70000))
  assert(err.code == "too_long", tostring(err))
  -- Who waits is told of the end.
  local waiting = p2pd.spawn(function() return a:recv() end)
  p2pd.sleep(0.01)
  assert(a:close() and a:close())
  _, err = p2pd.join(waiting, 5)
  assert(err.code == "closed" or err.code == "cancelled", tostring(err))
  _, err = a:send("late", b_relayed)
  assert(err and err.code == "closed", tostring(err))
  _, err = a:accept_peer(b_mapped)
  assert(err.code == "closed", tostring(err))
  do
    local c <close> = open { server = server }
    assert(select(2, c:get_tups()))
  end

  -- A queue that is full drops the newest.
  local small = open { server = server, max_qsize = 4 }
  local small_mapped, small_relayed = small:get_tups()
  assert(small:accept_peer(b_mapped, b_relayed) and b:accept_peer(small_mapped, small_relayed))
  for i = 1, 50 do assert(b:send(tostring(i), small_relayed)) end
  p2pd.sleep(0.3)
  for i = 1, 4 do assert(small:recv(0) == tostring(i)) end
  _, err = small:recv(0)
  assert(err.code == "timeout", tostring(err))

  _, err = p2pd.turn_client { server = server, password = "wrong" }
  assert(err.code == "permission", tostring(err))
  _, err = p2pd.turn_client { server = "127.0.0.1:9", transport = "tcp", user = "a", password = "b" }
  assert(err.code == "refused", tostring(err))
  _, err = p2pd.turn_client { server = "mqtt:127.0.0.1" }
  assert(err.code == "bad_address", tostring(err))
  _, err = p2pd.turn_client()
  assert(err.code == "bad_address", tostring(err))
  local several = open { server = { "turn:a:b@127.0.0.1:9?transport=tcp", server } }
  assert(several:get_tups())
  assert(not pcall(p2pd.turn_client, { sever = "x" }))
  assert(not pcall(small.send, small, {}))
  assert(not pcall(small.accept_peer, small, "nobody"))
  -- What the script leaves open is given back with it.
end

local function peer(folder, me, other)
  local turn = open()
  local mapped, relayed = turn:get_tups()
  local file = assert(io.open(folder .. "/" .. me .. ".new", "w"))
  file:write(tostring(mapped), "\n", tostring(relayed), "\n")
  file:close()
  os.rename(folder .. "/" .. me .. ".new", folder .. "/" .. me)
  local theirs
  repeat
    p2pd.sleep(0.05)
    theirs = io.open(folder .. "/" .. other)
  until theirs
  local peer_mapped, peer_relayed = theirs:read("l", "l")
  theirs:close()
  assert(turn:accept_peer(peer_mapped, peer_relayed))
  -- The other side may not let us through yet, and datagrams may be lost.
  local heard
  for _ = 1, 100 do
    assert(turn:send("hello from " .. me))
    heard = turn:recv(0.1) or heard
    if heard then break end
  end
  assert(heard == "hello from " .. other, tostring(heard))
  for _ = 1, 5 do
    turn:send("hello from " .. me)
    p2pd.sleep(0.05)
  end
  print(heard)
  turn:close()
end

if arg[1] == "alone" then alone(arg[2]) else peer(arg[2], arg[3], arg[4]) end
print("all held")
