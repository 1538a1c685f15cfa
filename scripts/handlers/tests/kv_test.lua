--- The key-value store's tests.    $ p2pd-lua test scripts/handlers/tests/kv_test.lua
local lab = require "p2pd.test"
local store = require "kv_store"

local function ask(pipe, command)
  pipe:send(command)
  return assert(pipe:recv(5))
end

-- A store with other settings, as a script that hosts the module may make them.
local function kv_with(settings)
  return lab.node(lab.write("small_kv.lua", ([[
    local kv, store = require "kv", require "kv_store"
    kv.protocol = "kv"
    %s
    return kv
  ]]):format(settings)))
end

local server, pipe

local function serve(node)
  server = node
  pipe = lab.dial(node, { protocol = "kv" })
end

describe("kv", function()
  before_each(function() serve(lab.node("../kv.lua")) end)

  it("sets, gets and removes", function()
    assert.equal("NONE", ask(pipe, "GET colour"))
    assert.equal("OK", ask(pipe, "SET colour dark blue"))
    assert.equal("VALUE dark blue", ask(pipe, "get colour"))
    assert.equal("OK", ask(pipe, "DEL colour"))
    assert.equal("NONE", ask(pipe, "DEL colour"))
    assert.equal("NONE", ask(pipe, "GET colour"))
  end)

  it("keeps any bytes as a value, the empty one too", function()
    local bytes = "\0\r\n \xff\x00 end "
    assert.equal("OK", ask(pipe, "SET k " .. bytes))
    assert.equal("VALUE " .. bytes, ask(pipe, "GET k"))
    assert.equal("OK", ask(pipe, "SET k "))
    assert.equal("VALUE ", ask(pipe, "GET k"))
  end)

  it("adds only what is not there", function()
    assert.equal("OK", ask(pipe, "ADD lock me"))
    assert.matches("^ERR exists ", ask(pipe, "ADD lock you"))
    assert.equal("VALUE me", ask(pipe, "GET lock"))
  end)

  it("counts", function()
    assert.equal("INT 1", ask(pipe, "INCR n"))
    assert.equal("INT 11", ask(pipe, "INCR n 10"))
    assert.equal("INT -9", ask(pipe, "INCR n -20"))
    assert.equal("VALUE -9", ask(pipe, "GET n"))
    ask(pipe, "SET word x")
    assert.matches("^ERR type ", ask(pipe, "INCR word"))
    ask(pipe, "SET big 9223372036854775807")
    assert.matches("^ERR range ", ask(pipe, "INCR big"))
    assert.equal("VALUE 9223372036854775807", ask(pipe, "GET big"))
  end)

  it("is one store for every pipe", function()
    ask(pipe, "SET k 1")
    assert.equal("VALUE 1", ask(lab.dial(server, { protocol = "kv" }), "GET k"))
  end)

  it("lists keys sorted, by prefix, a page at a time", function()
    serve(kv_with "kv.limits.listed = 2")
    for _, key in ipairs { "b", "a3", "a1", "a2" } do ask(pipe, "SET " .. key .. " v") end
    assert.equal("KEYS 2 of 4\na1\na2", ask(pipe, "KEYS"))
    assert.equal("KEYS 2 of 3\na1\na2", ask(pipe, "KEYS a"))
    assert.equal("KEYS 1 of 1\na3", ask(pipe, "KEYS a a2"))
    assert.equal("KEYS 0 of 0", ask(pipe, "KEYS c"))
    ask(pipe, "DEL a1")
    assert.equal("KEYS 2 of 2\na2\na3", ask(pipe, "KEYS a"))
    assert.matches("^SIZE 3 of ", ask(pipe, "SIZE"))
  end)

  it("lets keys expire", function()
    ask(pipe, "SET k v")
    assert.equal("TTL never", ask(pipe, "TTL k"))
    assert.equal("OK", ask(pipe, "EXPIRE k 100"))
    assert.matches("^TTL %d+%.%d+$", ask(pipe, "TTL k"))
    assert.equal("OK", ask(pipe, "EXPIRE k never"))
    assert.equal("TTL never", ask(pipe, "TTL k"))
    assert.equal("OK", ask(pipe, "EXPIRE k 100"))
    lab.sleep(99)
    assert.equal("VALUE v", ask(pipe, "GET k"))
    lab.sleep(1.1)
    assert.equal("NONE", ask(pipe, "GET k"))
    assert.equal("NONE", ask(pipe, "EXPIRE k 1"))
    ask(pipe, "SET gone v")
    ask(pipe, "EXPIRE gone 0")
    assert.matches("^SIZE 0 of ", ask(pipe, "SIZE"))
  end)

  it("forgets the expiry with a new value, and sweeps what nobody asks for", function()
    for i = 1, 20 do
      ask(pipe, ("SET k%d v"):format(i))
      ask(pipe, ("EXPIRE k%d 10"):format(i))
    end
    ask(pipe, "SET k7 new")
    lab.sleep(12)
    assert.equal(1, lab.state(server).kv.count)
    assert.equal("KEYS 1 of 1\nk7", ask(pipe, "KEYS"))
  end)

  it("tells who watches", function()
    local watcher = lab.dial(server, { protocol = "kv" })
    assert.equal("OK", ask(watcher, "WATCH user:"))
    assert.equal("OK", ask(watcher, "WATCH user:1"))
    ask(pipe, "SET other x")
    ask(pipe, "SET user:1 ana")
    ask(pipe, "INCR user:count")
    ask(pipe, "DEL user:1")
    assert.equal("CHANGED user:1", watcher:recv(5))
    assert.equal("CHANGED user:count", watcher:recv(5))
    assert.equal("GONE user:1", watcher:recv(5))
    assert.equal("OK", ask(watcher, "UNWATCH"))
    ask(pipe, "SET user:2 bob")
    assert.equal("VALUE bob", ask(watcher, "GET user:2"))
  end)

  it("forgets a watcher that leaves", function()
    serve(kv_with "kv.limits.watchers = 1")
    local watcher = lab.dial(server, { protocol = "kv" })
    ask(watcher, "WATCH a")
    assert.matches("^ERR limit ", ask(pipe, "WATCH a"))
    watcher:close()
    lab.wait_until("the place is free", function() return ask(pipe, "WATCH a") == "OK" end)
  end)

  it("answers what it does not understand", function()
    for _, line in ipairs { "", " ", "\0", "FLY", "GET", "GET a b", "SET", "SET a", "INCR", "INCR a b", "KEYS a b c",
      "EXPIRE a", "EXPIRE a x", "EXPIRE a -1", "EXPIRE a nan", "EXPIRE a 1e300", "GET \27[2J", ("G"):rep(100000) } do
      assert.matches("^ERR syntax ", ask(pipe, line))
    end
    assert.contains("INCR KEY [N]", ask(pipe, "HELP"))
  end)

  it("stays within its limits", function()
    serve(kv_with "store.limits.keys, store.limits.value, store.limits.bytes = 3, 1000, 2000")
    assert.matches("^ERR limit ", ask(pipe, "SET " .. ("k"):rep(257) .. " v"))
    assert.matches("^ERR limit ", ask(pipe, "SET k " .. ("v"):rep(1001)))
    assert.equal("OK", ask(pipe, "SET a " .. ("v"):rep(1000)))
    assert.matches("^ERR limit ", ask(pipe, "SET b " .. ("v"):rep(1000)))
    assert.equal("OK", ask(pipe, "SET a " .. ("w"):rep(1000)))
    ask(pipe, "SET b 1")
    ask(pipe, "SET c 1")
    assert.matches("^ERR limit ", ask(pipe, "SET d 1"))
    assert.matches("^ERR limit ", ask(pipe, "INCR d"))
    for _, key in ipairs { "a", "b", "c" } do ask(pipe, "DEL " .. key) end
    assert.equal(0, lab.state(server).kv.bytes)
  end)
end)

describe("kv's file", function()
  local path
  before_each(function()
    path = lab.write("store", "")
    os.remove(path)
  end)

  -- The node ends in order and another begins with the same file.
  local function again(file)
    if server then lab.stop(server) end
    serve(kv_with(("kv.file = %q"):format(file or path)))
  end
  before_each(function() server = nil end)

  it("holds the store from one run to the next", function()
    again()
    ask(pipe, "SET a \0one\n")
    ask(pipe, "SET b ")
    ask(pipe, "SET short v")
    ask(pipe, "SET long v")
    ask(pipe, "EXPIRE short 10")
    ask(pipe, "EXPIRE long 1000")
    lab.sleep(11)
    again()
    assert.equal("KEYS 3 of 3\na\nb\nlong", ask(pipe, "KEYS"))
    assert.equal("VALUE \0one\n", ask(pipe, "GET a"))
    assert.equal("VALUE ", ask(pipe, "GET b"))
    local left = tonumber(ask(pipe, "TTL long"):match("^TTL (.*)$"))
    assert.is_true(left > 900 and left <= 1000)
    assert.is_nil(io.open(path .. ".tmp"))
  end)

  it("is not written when nothing changed", function()
    again()
    ask(pipe, "SET a 1")
    again()
    ask(pipe, "GET a")
    os.remove(path)
    again()
    assert.is_nil(io.open(path))
  end)

  it("is set aside when it is damaged, wherever the damage is", function()
    again()
    ask(pipe, "SET first value")
    ask(pipe, "SET second value")
    lab.stop(server)
    local file = assert(io.open(path, "rb"))
    local whole = file:read("a")
    file:close()
    local function write(bytes)
      local out = assert(io.open(path, "wb"))
      out:write(bytes)
      out:close()
    end
    local function damaged(bytes)
      write(bytes)
      local fresh = store.new()
      local ok, why = store.load(fresh, path)
      assert.is_nil(ok)
      assert.contains("set aside", why)
      assert.equal(0, fresh.count)
      assert.is_nil(io.open(path))
      assert(io.open(path .. ".damaged", "rb")):close()
    end
    for length = 0, #whole - 1 do damaged(whole:sub(1, length)) end
    for at = 1, #whole do
      damaged(whole:sub(1, at - 1) .. string.char(whole:byte(at) ~ 0xFF) .. whole:sub(at + 1))
    end
    write(whole)
    assert.is_true(store.load(store.new(), path))
  end)

  it("says so when it cannot be written, and tries again", function()
    local folder = path .. ".d"
    again(folder .. "/store")
    ask(pipe, "SET a 1")
    lab.sleep(3)
    assert.is_true(lab.state(server).kv.dirty)
    assert.contains("not saved", table.concat(lab.log(), "\n"))
    assert(os.execute("mkdir " .. folder))
    lab.sleep(3)
    assert.is_false(lab.state(server).kv.dirty)
  end)
end)
