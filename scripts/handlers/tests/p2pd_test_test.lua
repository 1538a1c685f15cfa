--- The test library's own tests.    $ p2pd-lua exec scripts/handlers/tests/p2pd_test_test.lua
local test = require "p2pd_test"
local describe, it, assert = test.describe, test.it, test.assert

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
    local _, err = pcall(function() assert.same({ 1, x = "a\n" }, { 2 }) end)
    assert.matches("^[^\n]*p2pd_test_test%.lua:%d+: assertion failed: ", err)
    assert.contains('expected { 1, x = "a\\x0A" }, got { 2 }', err)
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

describe("before_each and after_each", function()
  local order = {}
  test.before_each(function() order[#order + 1] = "outer before" end)
  test.after_each(function() order[#order + 1] = "outer after" end)

  describe("in a nested group", function()
    test.before_each(function() order[#order + 1] = "inner before" end)
    test.after_each(function() order[#order + 1] = "inner after" end)
    it("run from outside to inside", function()
      test.finally(function() order[#order + 1] = "finally 1" end)
      test.finally(function() order[#order + 1] = "finally 2" end)
      assert.same({ "outer before", "inner before" }, order)
    end)
  end)

  it("and back", function()
    assert.same({
      "outer before", "inner before", "inner after", "outer after", "finally 2", "finally 1", "outer before",
    }, order)
  end)
end)

os.exit(test.run())
