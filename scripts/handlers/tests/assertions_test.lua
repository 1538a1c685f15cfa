--- The test library's own tests.    $ p2pd-lua test scripts/handlers/tests/assertions_test.lua
local lab = require "p2pd.test"

describe("assertions", function()
  it("hold when they hold", function()
    assert(true)
    assert.equal(1, 1)
    assert.are.same({ 1, { a = "x" } }, { 1, { a = "x" } })
    assert.is_true(true)
    assert.is_nil(nil)
    assert.is_not_nil(0)
    assert.is_not.equal(1, 2)
    assert.truthy(0)
    assert.falsy(nil)
    assert.is_string("")
    assert.is_a_table({})
    assert.near(1.0, 1.004, 0.01)
    assert.matches("^a+$", "aaa")
    assert.contains("b", "abc")
    assert.same(0 / 0, 0 / 0)
    assert.has_no.errors(function() end)
  end)

  it("fail when they do not", function()
    local failing = {
      function() assert(false) end,
      function() assert.equal(1, 2) end,
      function() assert.equal({}, {}) end,
      function() assert.same({ 1 }, { 1, 2 }) end,
      function() assert.same({ a = 1 }, { a = "1" }) end,
      function() assert.is_true(1) end,
      function() assert.is_not_nil(nil) end,
      function() assert.near(1, 2, 0.5) end,
      function() assert.matches("^b", "ab") end,
      function() assert.has_error(function() end) end,
      function() assert.has_no_error(function() error("x") end) end,
    }
    for i, f in ipairs(failing) do
      if pcall(f) then error("assertion " .. i .. " did not fail") end
    end
  end)

  it("say what was expected, what there was, and where", function()
    local _, err = pcall(function() assert.equal(1, 2) end)
    assert.matches("^[^\n]*assertions_test%.lua:%d+: expected 1, got 2$", err)
    _, err = pcall(function() assert.equal(1, 2, "the number of rooms") end)
    assert.contains("the number of rooms\nexpected 1, got 2", err)
    _, err = pcall(function() assert.is_not.equal(1, 1) end)
    assert.contains("expected not 1, got 1", err)
  end)

  it("list what differs in two tables", function()
    local expected = { name = "ana", rooms = { "lobby", "garden" }, left = false }
    local actual = { name = "bob", rooms = { "lobby", "den" }, joined = 3 }
    local _, err = pcall(function() assert.same(expected, actual) end)
    for _, line in ipairs {
      '.joined: expected nil, got 3', '.left: expected false, got nil', '.name: expected "ana", got "bob"',
      '.rooms[2]: expected "garden", got "den"',
    } do
      assert.contains(line, err)
    end
  end)

  it("show the place where long texts part", function()
    local text = ("0123456789"):rep(20)
    local _, err = pcall(function() assert.equal(text .. "a", text .. "b") end)
    assert.has_no.error(function() assert.contains("differences", err) end)
    assert.contains("byte 201", select(2, pcall(function() assert.same(text .. "a", text .. "b") end)))
  end)

  it("compare tables with cycles", function()
    local a, b = { 1 }, { 1 }
    a.me, b.me = a, b
    assert.same(a, b)
    b[1] = 2
    assert.is_not.same(a, b)
  end)

  it("look at errors", function()
    assert.has_error(function() error("boom") end, "boom")
    assert.has_error(function() error({ code = 1 }) end, { code = 1 })
    assert.error_matches(function() error("no such thing") end, "such")
    assert.equal("boom", assert.has_error(function() error("boom", 0) end))
  end)

  it("refuse words they do not know", function()
    assert.error_matches(function() assert.is_purple(1) end, "no assertion \"is_purple\"")
  end)
end)

describe("the order of things", function()
  local order = {}
  setup(function() order[#order + 1] = "setup" end)
  before_each(function() order[#order + 1] = "outer before" end)
  after_each(function() order[#order + 1] = "outer after" end)

  describe("in a nested group", function()
    setup(function() order[#order + 1] = "inner setup" end)
    teardown(function() order[#order + 1] = "inner teardown" end)
    before_each(function() order[#order + 1] = "inner before" end)
    after_each(function() order[#order + 1] = "inner after" end)
    it("is from outside to inside", function()
      finally(function() order[#order + 1] = "finally 1" end)
      finally(function() order[#order + 1] = "finally 2" end)
      assert.same({ "setup", "inner setup", "outer before", "inner before" }, order)
    end)
  end)

  it("and back", function()
    assert.same({
      "setup", "inner setup", "outer before", "inner before", "finally 2", "finally 1", "inner after", "outer after",
      "inner teardown", "outer before",
    }, order)
  end)
end)

describe("setup", function()
  local _, refusal
  setup(function() _, refusal = pcall(lab.node) end)
  it("has no network, which every test gets for itself", function()
    assert.matches("before_each", refusal)
  end)
end)

describe("a test's time", function()
  it("begins at zero and passes while all wait", function()
    assert.equal(0, lab.now())
    lab.sleep(3000)
    assert.near(3000, lab.now(), 0.001)
  end)
end)
