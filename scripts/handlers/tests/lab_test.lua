--- The laboratory's own tests.    $ p2pd-lua test scripts/handlers/tests/lab_test.lua
local p2pd = require "p2pd"
local lab = require "p2pd.test"

-- A handler of the test's own.
local function handler(name, body)
  return lab.write(name .. ".lua", "local p2pd = require 'p2pd'\nlocal M = {}\n" .. body .. "\nreturn M\n")
end

local ECHO = "function M.msg_cb(msg, client_tup, pipe) pipe:send(msg, client_tup) end"

describe("nodes", function()
  it("host a file, a table, or nothing", function()
    local client = lab.node()
    local file = lab.node(handler("echo", ECHO))
    local heard = {}
    local table_node = lab.node({ msg_cb = function(msg) heard[#heard + 1] = msg end })
    local pipe = assert(client:connect(file))
    pipe:send("hello")
    assert.equal("hello", pipe:recv(5))
    assert(client:connect(table_node)):send("one way")
    lab.sleep(1)
    assert.same({ "one way" }, heard)
    assert.equal(1, lab.pipes(file))
  end)

  it("have addresses and names of their own", function()
    local a, b = lab.node { name = "anna" }, lab.node { name = "berta" }
    assert.is_not.equal(a:address(), b:address())
    local ips = assert(p2pd.resolve("berta"))
    assert.is_true(#ips > 0)
    assert.is_nil(p2pd.resolve("nobody"))
  end)

  it("keep a state of their own, each", function()
    local path = handler("count", [[
      function M.msg_cb(_, _, pipe)
        p2pd.state.count = (p2pd.state.count or 0) + 1
        pipe:send(tostring(p2pd.state.count))
      end]])
    local one, two = lab.node(path), lab.node(path)
    local pipe = lab.dial(one)
    for i = 1, 3 do
      pipe:send("?")
      assert.equal(tostring(i), pipe:recv(5))
    end
    assert.equal(3, lab.state(one).count)
    assert.same({}, lab.state(two))
  end)

  it("run stop and start like any node", function()
    local node = lab.node(handler("life", [[
      function M.start() p2pd.state.started = true end
      function M.stop() p2pd.log.info("stopping") end
      function M.msg_cb() end]]))
    assert.is_true(lab.state(node).started)
    lab.stop(node)
    assert.matches("stopping", table.concat(lab.log(), "\n"))
  end)

  it("that cannot be loaded say why", function()
    assert.error_matches(function() lab.node(lab.write("bad.lua", "return {")) end, "bad%.lua:1:")
    assert.error_matches(function() lab.node("no_such_file.lua") end, "no_such_file%.lua")
  end)
end)

describe("the network", function()
  local server, client
  before_each(function()
    server, client = lab.node(handler("echo", ECHO)), lab.node()
  end)

  it("takes the time it is told to take", function()
    lab.latency(server, client, 0.25)
    local pipe = assert(client:connect(server))
    local began = lab.now()
    pipe:send("hello")
    assert.equal("hello", pipe:recv(5))
    assert.near(0.5, lab.now() - began, 0.001)
  end)

  it("loses datagrams, and no byte of a stream", function()
    lab.node(handler("udp", [[
      function M.start()
        p2pd.pipe_open(p2pd.UDP, { bind = 4000, msg_cb = function(msg, from, pipe) pipe:send(msg, from) end })
      end]]), { name = "far" })
    lab.loss(0.3)
    local socket = assert(p2pd.pipe_open(p2pd.UDP, { dest = { "far", 4000 } }))
    for i = 1, 200 do socket:send("datagram " .. i) end
    local came = 0
    while socket:recv(1) do came = came + 1 end
    socket:close()
    assert.is_true(came > 60 and came < 140, came .. " of 200 came back")    -- half of them, more or less
    lab.loss(0.1)
    local pipe = assert(client:connect(server, { timeout = 60 }))
    for i = 1, 20 do pipe:send("message " .. i) end
    for i = 1, 20 do assert.equal("message " .. i, pipe:recv(600)) end
  end)

  it("is parted and healed", function()
    local pipe = assert(client:connect(server))
    pipe:send("before")
    assert.equal("before", pipe:recv(5))
    lab.partition(server, client)
    pipe:send("into the dark")
    assert.is_nil(pipe:recv(10))
    lab.heal(server, client)
    assert.equal("into the dark", pipe:recv(60))
  end)

  it("lets a node vanish, which its peers find out by themselves", function()
    local pipe = assert(client:connect(server))
    lab.vanish(server)
    local message, err = pipe:recv(3600)
    assert.is_nil(message)
    assert.equal("timeout", err.code)
    local none, why = client:connect(server, { timeout = 5 })
    assert.is_nil(none)
    assert.equal("timeout", why.code)
  end)

  it("cuts streams", function()
    local pipe = assert(client:connect(server))
    lab.reset(server, client)
    local _, err = pipe:recv(5)
    assert.equal("reset", err.code)
  end)

  it("is slow where it is narrow", function()
    local pipe = assert(client:connect(server))
    lab.bandwidth(server, client, 100000)
    local began = lab.now()
    pipe:send(("x"):rep(100000))
    pipe:recv(60)
    assert.is_true(lab.now() - began >= 2)
  end)
end)

describe("plain pipes", function()
  it("talk over the same network, each from a host of its own", function()
    local server = assert(p2pd.pipe_open(p2pd.TCP, { bind = 7000, framing = "line",
      msg_cb = function(msg, _, pipe) pipe:send(msg:upper()) end }))
    local pipe = assert(p2pd.pipe_open(p2pd.TCP, { dest = { "127.0.0.1", 7000 }, framing = "line" }))
    pipe:send("hello")
    assert.equal("HELLO", pipe:recv(5))
    pipe:close()
    server:close()
    local none, err = p2pd.pipe_open(p2pd.TCP, { dest = { "127.0.0.1", 7000 } })
    assert.is_nil(none)
    assert.equal("refused", err.code)
  end)
end)

describe("a reload", function()
  local function answer(word)
    return ("local M = {}\nfunction M.msg_cb(_, _, pipe) pipe:send(%q) end\nreturn M\n"):format(word)
  end

  it("in the middle of a conversation changes what is said, and not the pipe", function()
    local server = lab.node(lab.write("greet.lua", answer "one"))
    local pipe = lab.dial(server)
    pipe:send("?")
    assert.equal("one", pipe:recv(5))
    local report = lab.reload(server, answer "two")
    assert.equal("active", report.result)
    assert.equal(1, report.pipes)
    pipe:send("?")
    assert.equal("two", pipe:recv(5))
  end)

  it("that is broken leaves everything as it is", function()
    local server = lab.node(lab.write("greet.lua", answer "one"))
    local pipe = lab.dial(server)
    local report = lab.reload(server, "return {")
    assert.equal("rejected", report.result)
    assert.matches("greet%.lua:1:", report.error)
    pipe:send("?")
    assert.equal("one", pipe:recv(5))
    assert.equal("unchanged", lab.reload(server, answer "one").result)
  end)

  it("of a file that is not the test's is refused", function()
    local server = lab.node("../echo.lua")
    assert.error_matches(function() lab.reload(server, "return {}") end, "lab%.write")
  end)
end)

describe("what goes wrong elsewhere", function()
  it("is told to who asks", function()
    local server = lab.node(handler("bad", "function M.msg_cb(msg) error('no ' .. msg) end"))
    local pipe = lab.dial(server)
    pipe:send("way")
    lab.sleep(1)
    local errors = lab.errors()
    assert.equal(1, #errors)
    assert.equal("bad", errors[1].node)
    assert.equal("msg_cb", errors[1].place)
    assert.matches("bad%.lua:3: no way$", errors[1].message)
  end)
end)
