--- The echo's tests.    $ p2pd-lua test scripts/handlers/tests/echo_test.lua
local lab = require "p2pd.test"

describe("echo", function()
  local server
  before_each(function() server = lab.node("../echo.lua") end)

  it("answers a message with itself", function()
    local pipe = lab.dial(server)
    assert(pipe:send("hello"))
    assert.equal("hello", pipe:recv(5))
  end)

  it("keeps messages and their order apart", function()
    local pipe = lab.dial(server)
    for i = 1, 100 do pipe:send("message " .. i) end
    for i = 1, 100 do assert.equal("message " .. i, pipe:recv(5)) end
  end)

  it("takes any bytes and any length up to the limit", function()
    local pipe = lab.dial(server, { protocol = "echo" })
    local every = {}
    for byte = 0, 255 do every[#every + 1] = string.char(byte) end
    every = table.concat(every)
    for _, message in ipairs { "\0", "\r\n", every, every:rep(4096) } do
      pipe:send(message)
      assert.equal(message, pipe:recv(10))
    end
  end)

  it("serves several pipes, each its own", function()
    local pipes = {}
    for i = 1, 10 do pipes[i] = lab.dial(server) end
    for i, pipe in ipairs(pipes) do pipe:send("for " .. i) end
    for i, pipe in ipairs(pipes) do assert.equal("for " .. i, pipe:recv(5)) end
  end)

  it("goes on when a peer leaves in the middle", function()
    local leaving, staying = lab.dial(server), lab.dial(server)
    leaving:send(("x"):rep(1 << 20))
    leaving:close()
    staying:send("still there?")
    assert.equal("still there?", staying:recv(5))
  end)

  it("answers over a bad line, later", function()
    local client = lab.node { name = "far" }
    lab.latency(client, server, 0.1, 0.05)
    lab.loss(client, server, 0.1)
    local pipe = assert(client:connect(server))
    local asked = lab.now()
    for i = 1, 20 do pipe:send("message " .. i) end
    for i = 1, 20 do assert.equal("message " .. i, pipe:recv(60)) end
    assert.is_true(lab.now() - asked >= 0.2)
  end)

  it("forgets a peer that vanishes", function()
    local client = lab.node()
    local pipe = assert(client:connect(server))
    pipe:send("hello")
    assert.equal("hello", pipe:recv(5))
    assert.equal(1, lab.pipes(server))
    lab.vanish(client)
    lab.wait_until("the pipe is gone", function() return lab.pipes(server) == 0 end, 600)
  end)
end)
