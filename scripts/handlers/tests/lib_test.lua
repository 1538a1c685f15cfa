--- Tests of what scripts/lib holds for handlers.    $ p2pd-lua test scripts/handlers/tests/lib_test.lua
local p2pd = require "p2pd"
local lab = require "p2pd.test"
local outbox = require "p2pd_outbox"
local text = require "p2pd_text"
local xxh64 = require "xxh64"

describe("xxh64", function()
  it("gives the known sums", function()
    -- The reference implementation's: `printf abc | xxhsum -H1`.
    assert.equal("ef46db3751d8e999", xxh64.hex(""))
    assert.equal("d24ec4f1a98c6e5b", xxh64.hex("a"))
    assert.equal("44bc2cf5ad770999", xxh64.hex("abc"))
    assert.equal("fbcea83c8a378bf1", xxh64.hex("Nobody inspects the spammish repetition"))
    local bytes = {}
    for i = 0, 1000 do bytes[#bytes + 1] = string.char(i % 256) end
    bytes = table.concat(bytes)
    assert.equal("6aaa25089afc6198", xxh64.hex(bytes))
    assert.equal("e26aa9e2a95f8e4f", xxh64.hex(bytes:sub(1, 63)))
    assert.equal("d93fa2dfee5c24c9", xxh64.hex(bytes:sub(1, 37)))
  end)

  it("does not care how the bytes come", function()
    local bytes = ("0123456789abcdef"):rep(40)
    for step = 1, 70 do
      local sum = xxh64.new()
      for i = 1, #bytes, step do sum:update(bytes:sub(i, i + step - 1)) end
      assert.equal(xxh64.hex(bytes), sum:hex())
    end
  end)

  it("takes a seed", function()
    assert.is_not.equal(xxh64.hex("abc"), xxh64.hex("abc", 1))
  end)
end)

describe("text", function()
  it("leaves good text as it is", function()
    for _, s in ipairs { "hello", "grüße, 你好 🙂", "a b  c" } do assert.equal(s, text.clean(s)) end
  end)

  it("takes out what a terminal would act on", function()
    assert.equal("[31mred", text.clean("\27[31mred"))
    assert.equal("31mred", text.clean("\u{9B}31mred"))
    assert.equal("ab", text.clean("a\0\b\127b"))
    assert.equal("one two", text.clean(" one\r\n\ttwo \n"))
    assert.equal("gpj.exe", text.clean("\u{202E}gpj.\u{2066}exe\u{200B}\u{FEFF}"))
    assert.equal("? ?? ok", text.clean("\xff \xc0\x80 ok"))
  end)

  it("cuts between characters", function()
    assert.equal("éé", text.clean("ééé", 5))
    assert.equal("", text.clean("🙂", 3))
    assert.is_true(utf8.len(text.clean(("é🙂x"):rep(1000), 999)) ~= nil)
    assert.is_true(#text.clean(("x"):rep(1 << 20), 100) == 100)
  end)

  it("knows a name", function()
    assert.is_true(text.is_name("ana-2_b"))
    for _, s in ipairs { "", "a b", "é", "a/b", ("x"):rep(25), "a\n" } do assert.is_false(text.is_name(s)) end
  end)

  it("writes sizes for people", function()
    assert.equal("1023 B", text.size(1023))
    assert.equal("1.0 KiB", text.size(1024))
    assert.equal("1.5 GiB", text.size(3 << 29))
  end)
end)

describe("outbox", function()
  -- A pipe that keeps what it is sent, and takes it only while the gate is open.
  local function gated()
    local pipe = { sent = {}, open = false, gone = false }
    function pipe:send(message)
      while not self.open and not self.gone do p2pd.sleep(0.001) end
      if self.gone then return nil, "closed" end
      table.insert(self.sent, message)
      return true
    end
    return pipe
  end

  local function sent(pipe, n)
    lab.wait_until(n .. " messages were sent", function() return #pipe.sent >= n end)
    return pipe.sent
  end

  it("sends in order and never waits", function()
    local pipe = gated()
    local box = outbox.new(pipe)
    for i = 1, 5 do assert.is_true(box:put("m" .. i)) end
    assert.equal(0, #pipe.sent)
    pipe.open = true
    assert.same({ "m1", "m2", "m3", "m4", "m5" }, sent(pipe, 5))
    box:put("m6")
    assert.equal("m6", sent(pipe, 6)[6])
  end)

  it("drops what is over its limits, and says how much once there is room", function()
    local pipe = gated()
    local box = outbox.new(pipe, { max = 3, missed = function(n) return "missed " .. n end })
    box:put("1")
    p2pd.sleep(0.005)    -- the first is with the pipe now
    for i = 2, 4 do assert.is_true(box:put(tostring(i))) end
    assert.is_false(box:put("5"))
    assert.is_false(box:put("6"))
    pipe.open = true
    assert.same({ "1", "2", "3", "4", "missed 2" }, sent(pipe, 5))
    assert.equal(2, box.dropped)
    assert.is_true(box:put("7"))
    assert.equal("7", sent(pipe, 6)[6])
  end)

  it("bounds bytes too, a single message's as well", function()
    local pipe = gated()
    pipe.open = true
    local box = outbox.new(pipe, { max_bytes = 10, missed = function(n) return "missed " .. n end })
    assert.is_false(box:put(("x"):rep(11)))
    assert.same({ "missed 1" }, sent(pipe, 1))
    assert.is_true(box:put(("x"):rep(10)))
    sent(pipe, 2)
  end)

  it("sends what it holds before it closes the pipe", function()
    local pipe = gated()
    function pipe:close() self.closed = true end
    local box = outbox.new(pipe)
    box:put("1")
    box:put("2")
    box:finish()
    assert.is_false(box:put("3"))
    pipe.open = true
    assert.same({ "1", "2" }, sent(pipe, 2))
    lab.wait_until("the pipe was closed", function() return pipe.closed end)
  end)

  it("ends with its pipe", function()
    local pipe = gated()
    local box = outbox.new(pipe)
    box:put("1")
    pipe.gone = true
    lab.wait_until("it has noticed", function() return box.closed end)
    assert.is_false(box:put("2"))
    assert.equal(0, #box)
  end)

  it("goes on where the one of the code before a reload stopped", function()
    local pipe = gated()
    pipe.data = {}
    local before = outbox.new(pipe)
    for i = 1, 3 do before:put(tostring(i)) end
    lab.sleep(0.005)    -- the first is with the pipe now
    local between = outbox.new(pipe)
    local after = outbox.new(pipe)
    assert.is_false(before:put("lost"))
    assert.is_false(between:put("lost"))
    after:put("4")
    lab.sleep(0.1)
    assert.same({}, pipe.sent)
    pipe.open = true
    assert.same({ "1", "2", "3", "4" }, sent(pipe, 4))
  end)
end)
