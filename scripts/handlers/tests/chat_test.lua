--- The chat's tests.    $ p2pd-lua test scripts/handlers/tests/chat_test.lua
local lab = require "p2pd.test"

-- Each test is a play: who says what, and what each of the others then reads.

local function hears(pipe, line)
  local got, err = pipe:recv(5)
  assert.equal(line, got or tostring(err))
end

-- Reads until `line` comes; what is read before it is returned.
local function hears_at_last(pipe, line)
  local before = {}
  while true do
    local got = assert(pipe:recv(5))
    if got == line then return before end
    before[#before + 1] = got
  end
end

local function dial(server)
  return lab.dial(server, { protocol = "chat" })
end

-- A member called `nick`, in the lobby, who has read everything said so far.
local function member(server, nick)
  local pipe = dial(server)
  pipe:send("/nick " .. nick)
  local greeting
  repeat greeting = assert(pipe:recv(5)) until greeting:find("^%* you are")
  local guest = greeting:match("you are (%S+)")
  hears_at_last(pipe, ("* %s is now %s"):format(guest, nick))
  return pipe, guest
end

-- A chat with other limits, as a script that hosts the module may set them.
local function chat_source(limits)
  return ([[
    local chat = require "chat"
    for name, value in pairs { %s } do chat.limits[name] = value end
    chat.protocol = "chat"
    return chat
  ]]):format(limits)
end

local function chat_with(limits)
  return lab.node(lab.write("small_chat.lua", chat_source(limits)))
end

describe("chat", function()
  local server
  before_each(function() server = lab.node("../chat.lua") end)

  it("greets, names and carries lines to everybody in the room", function()
    local ana = dial(server)
    hears(ana, "* you are guest1 in #lobby; /help lists the commands")
    ana:send("/nick ana")
    hears(ana, "* guest1 is now ana")
    local bob, guest = member(server, "bob")
    hears(ana, ("* %s joined #lobby"):format(guest))
    hears(ana, ("* %s is now bob"):format(guest))
    ana:send("hello everybody")
    hears(ana, "<ana> hello everybody")
    hears(bob, "<ana> hello everybody")
  end)

  it("keeps rooms apart, and shows the last lines to who comes later", function()
    local ana, bob = member(server, "ana"), member(server, "bob")
    ana:send("/join garden")
    hears_at_last(ana, "* you are ana in #garden")
    hears(bob, "* ana left for #garden")
    ana:send("first")
    ana:send("second")
    bob:send("in the lobby")
    hears(ana, "<ana> first")
    hears(ana, "<ana> second")
    hears(bob, "<bob> in the lobby")
    bob:send("/join #garden")
    hears(bob, "<ana> first")
    hears(bob, "<ana> second")
    hears(bob, "* you are bob in #garden")
    hears(ana, "* bob joined #garden")
  end)

  it("keeps a bounded history", function()
    server = chat_with "history = 3, burst = 100"
    local ana = member(server, "ana")
    ana:send("/who")
    hears_at_last(ana, "* in #lobby: ana")
    for i = 1, 5 do ana:send("line " .. i) end
    hears_at_last(ana, "<ana> line 5")
    local bob = dial(server)
    for i = 3, 5 do hears(bob, "<ana> line " .. i) end
    assert.matches("^%* you are", assert(bob:recv(5)))
  end)

  it("answers /who, /rooms and /help", function()
    local ana, bob = member(server, "ana"), member(server, "bob")
    hears_at_last(ana, "* guest2 is now bob")
    bob:send("/who")
    hears(bob, "* in #lobby: ana, bob")
    ana:send("/join den")
    hears_at_last(ana, "* you are ana in #den")
    ana:send("/rooms")
    hears(ana, "* rooms: #den (1), #lobby (1)")
    ana:send("/help")
    assert.contains("/join ROOM", assert(ana:recv(5)))
    ana:send("/dance")
    hears(ana, "! there is no /dance; /help lists the commands")
  end)

  it("has one of a nickname in a room, whatever its capitals", function()
    local ana, bob = member(server, "ana"), member(server, "bob")
    bob:send("/nick ANA")
    hears(bob, "! ANA is taken in #lobby")
    ana:send("/join den")
    hears(bob, "* ana left for #den")
    bob:send("/nick ana")
    hears(bob, "* bob is now ana")
    bob:send("/join den")
    hears(bob, "! ana is taken in #den: /nick first")
  end)

  it("says who leaves, with /quit and without", function()
    local ana, bob, eve = member(server, "ana"), member(server, "bob"), member(server, "eve")
    hears_at_last(ana, "* guest3 is now eve")
    bob:send("/quit")
    hears_at_last(bob, "* bye")
    hears(ana, "* bob left")
    local _, err = bob:recv(5)
    assert.equal("closed", err.code)
    eve:close()
    hears(ana, "* eve left")
  end)

  it("says everything to who quits before it has read", function()
    local ana = dial(server)
    for _, line in ipairs { "/nick ana", "hello", "/quit", "too late" } do ana:send(line) end
    hears(ana, "* you are guest1 in #lobby; /help lists the commands")
    hears(ana, "* guest1 is now ana")
    hears(ana, "<ana> hello")
    hears(ana, "* bye")
    local _, err = ana:recv(5)
    assert.equal("closed", err.code)
  end)

  it("cleans what it passes on", function()
    local ana, bob = member(server, "ana"), member(server, "bob")
    hears_at_last(ana, "* guest2 is now bob")
    bob:send("\27[2Jone\r\ntwo\0\7 \xff\xfe \u{202E}evil")
    hears(ana, "<bob> [2Jone two ?? evil")
    bob:send(("x"):rep(5000))
    hears(ana, "<bob> " .. ("x"):rep(1000))
    bob:send("\n\n")
    bob:send("/nick \27[31m")
    bob:send("/join ../../etc")
    hears_at_last(bob, "! a nickname has 1 to 24 letters, digits, _ or -")
    hears(bob, "! a room's name has 1 to 24 letters, digits, _ or -")
  end)

  it("slows down who sends too fast", function()
    local ana = member(server, "ana")
    for i = 1, 60 do ana:send("line " .. i) end
    hears_at_last(ana, "! slow down: that line was not delivered")
  end)

  it("bounds rooms, and gives an empty one's place to a new one", function()
    server = chat_with "rooms = 2"
    local ana, bob = member(server, "ana"), member(server, "bob")
    ana:send("/join one")
    hears_at_last(ana, "* you are ana in #one")
    hears(bob, "* ana left for #one")
    bob:send("/join two")
    hears(bob, "! there are too many rooms")
    ana:send("/join lobby")
    hears_at_last(ana, "* you are ana in #lobby")
    hears(bob, "* ana joined #lobby")
    bob:send("/join two")
    hears(bob, "* you are bob in #two")
    assert.is_nil(lab.state(server).rooms.one)
  end)

  it("does not wait for a member who does not read, and tells it what it missed", function()
    server = chat_with "rate = 1e6, burst = 1e6, line = 20000"
    local ana, slow = member(server, "ana"), member(server, "slow")
    hears_at_last(ana, "* guest2 is now slow")
    -- More than the network, the pipe and the member's queue take: ana is served all the same.
    local line = ("x"):rep(20000)
    local sent = 0
    for _ = 1, 20 do
      for _ = 1, 10 do ana:send(line) end
      for _ = 1, 10 do hears(ana, "<ana> " .. line) end
      sent = sent + 10
    end
    local read, gaps, lost = 0, 0, 0
    repeat
      local got = assert(slow:recv(5))
      local n = got:match("^%* (%d+) lines missed")
      if n then
        gaps, lost = gaps + 1, lost + tonumber(n)
      else
        read = read + 1
      end
    until read + lost >= sent
    assert.is_true(gaps >= 1)
    assert.equal(sent, read + lost)
  end)

  it("knows its members again when the code was loaded anew", function()
    server = chat_with ""
    local ana, bob = member(server, "ana"), member(server, "bob")
    hears_at_last(ana, "* guest2 is now bob")
    assert.equal("active", lab.reload(server, chat_source "rooms = 10").result)
    ana:send("still here")
    hears(ana, "<ana> still here")
    hears(bob, "<ana> still here")
  end)
end)
