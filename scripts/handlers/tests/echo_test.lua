--- The echo's tests.    $ p2pd-lua exec scripts/handlers/tests/echo_test.lua
package.path = package.path:match("^[^?]*") .. "../?.lua;" .. package.path
local test = require "p2pd_test"
local echo = require "echo"
local describe, it, assert = test.describe, test.it, test.assert

describe("echo", function()
  local net
  test.before_each(function() net = test.loopback("echo", echo) end)

  it("answers a message with itself", function()
    local pipe = net.dial()
    assert(pipe:send("hello"))
    assert.equal("hello", pipe:recv(5))
  end)

  it("keeps messages and their order apart", function()
    local pipe = net.dial()
    for i = 1, 100 do pipe:send("message " .. i) end
    for i = 1, 100 do assert.equal("message " .. i, pipe:recv(5)) end
  end)

  it("takes any bytes and any length up to the limit", function()
    local pipe = net.dial()
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
    for i = 1, 10 do pipes[i] = net.dial() end
    for i, pipe in ipairs(pipes) do pipe:send("for " .. i) end
    for i, pipe in ipairs(pipes) do assert.equal("for " .. i, pipe:recv(5)) end
  end)

  it("goes on when a peer leaves in the middle", function()
    local leaving, staying = net.dial(), net.dial()
    leaving:send(("x"):rep(1 << 20))
    leaving:close()
    staying:send("still there?")
    assert.equal("still there?", staying:recv(5))
  end)
end)

os.exit(test.run())
