--- Tests in Lua, with busted's words, run by the engine itself: a test may connect, send and wait like any script.
--
--   local test = require "p2pd_test"
--   local describe, it, assert = test.describe, test.it, test.assert
--
--   describe("echo", function()
--     it("answers what it was sent", function()
--       local net = test.loopback("echo", require "echo")     -- two nodes on 127.0.0.1, closed after the test
--       local pipe = net.dial()
--       pipe:send("hello")
--       assert.equal("hello", pipe:recv(5))
--     end)
--   end)
--
--   os.exit(test.run())
--
--   $ p2pd-lua exec echo_test.lua [PART OF A NAME]
--   echo
--     ok    answers what it was sent (12 ms)
--   1 passed, 0 failed
--
-- The exit status is 0 when everything passed, 1 when a test failed or none was found. Every test has a hang guard
-- (test.timeout, in seconds). Assertions are in p2pd_assert.lua.

local p2pd = require "p2pd"

local test = { assert = require "p2pd_assert" }

--- Seconds one test with its before_each and after_each may take before it counts as failed.
test.timeout = 20

local root = { name = "", children = {}, before = {}, after = {} }
local here = root    -- the describe block being collected
local cleanup        -- what `finally` registered for the running test; nil between tests

--- A group of tests. Groups may be nested.
function test.describe(name, body)
  local group = { name = name, children = {}, before = {}, after = {}, parent = here }
  here.children[#here.children + 1] = group
  here = group
  body()
  here = group.parent
end
test.context = test.describe

--- One test. Without a body it is pending.
function test.it(name, body)
  here.children[#here.children + 1] = { name = name, body = body, parent = here, is_test = true }
end
test.spec = test.it

--- A test that is not run yet; it is listed.
function test.pending(name)
  test.it(name, nil)
end

--- Runs before, or after, each test of this group and of the groups in it.
function test.before_each(f)
  here.before[#here.before + 1] = f
end

function test.after_each(f)
  here.after[#here.after + 1] = f
end

--- Called in a test: f runs when this test is over, however it ended; the last one registered runs first.
function test.finally(f)
  if not cleanup then error("finally: there is no running test", 2) end
  cleanup[#cleanup + 1] = f
end

--- Waits until condition() is true, looking every few milliseconds. For effects that no message announces.
function test.wait_until(what, condition, seconds)
  local deadline = p2pd.now() + (seconds or 5)
  while not condition() do
    if p2pd.now() > deadline then error("waited in vain until " .. what, 2) end
    p2pd.sleep(0.005)
  end
end

--- Two nodes on 127.0.0.1, the first hosting `handler` (a handler's module table) under `name`. Both are closed when
--- the test is over. `dial()` opens a new pipe from the second node to the handler.
function test.loopback(name, handler)
  local function node()
    local n = assert(p2pd.node { ephemeral = true, listen = { "127.0.0.1" } })
    test.finally(function() n:close() end)
    return n
  end
  local net = { server = node(), client = node() }
  -- The rest of the table (limits, helpers) is the handler's own.
  net.server:host(name, { msg_cb = handler.msg_cb, up_cb = handler.up_cb, end_cb = handler.end_cb })
  net.address = net.server:address()
  function net.dial()
    return assert(net.client:connect(net.address, { protocol = name }))
  end
  return net
end

-- ---------------------------------------------------------------------------------------------------------------------

local function write(...)
  local out = rawget(_G, "io") and io.stdout
  if out then
    out:write(table.concat({ ... }), "\n")
  else
    print(table.concat({ ... }))
  end
end

-- The way that led to an error: the lines of the test and of what it tests, without those of this library.
local function with_traceback(err)
  local text = type(err) == "string" and err or test.assert._show(err)
  local debug = rawget(_G, "debug")
  if not (debug and debug.traceback) then return text end
  local way = {}
  for line in debug.traceback("", 2):gmatch("[^\n]+") do
    local foreign = line:find("p2pd_test.lua:", 1, true) or line:find("p2pd_assert.lua:", 1, true)
      or not line:find("%.lua:%d+:")
    if not foreign then way[#way + 1] = line:match("^%s*(.*)$") end
  end
  local first = way[1] and way[1]:match("^(.-%.lua:%d+:)")
  if first and text:sub(1, #first) == first then table.remove(way, 1) end    -- the error says it already
  if #way > 0 then text = text .. "\nfrom " .. table.concat(way, "\nfrom ") end
  return text
end

local function groups_of(case)
  local list, group = {}, case.parent
  while group do
    table.insert(list, 1, group)
    group = group.parent
  end
  return list
end

local function full_name(case)
  local names = {}
  for _, group in ipairs(groups_of(case)) do
    if group ~= root then names[#names + 1] = group.name end
  end
  names[#names + 1] = case.name
  return table.concat(names, " ")
end

-- Returns the list of what went wrong: empty when the test passed.
local function run_one(case)
  local problems = {}
  local function attempt(f)
    local ok, err = xpcall(f, with_traceback)
    if not ok then problems[#problems + 1] = err end
    return ok
  end
  local function in_time(what, f)
    -- Out of time, the engine cancels the wait the test is in: what attempt() noted then says where it hung.
    local ended = p2pd.with_timeout(test.timeout, function()
      attempt(f)
      return true
    end)
    if not ended then
      table.insert(problems, 1, ("%s did not end within %g seconds"):format(what, test.timeout))
    end
  end
  local groups = groups_of(case)
  cleanup = {}
  in_time("the test", function()
    for _, group in ipairs(groups) do
      for _, before in ipairs(group.before) do before() end
    end
    case.body()
  end)
  in_time("its clean-up", function()
    for i = #groups, 1, -1 do
      for _, after in ipairs(groups[i].after) do attempt(after) end
    end
    for i = #cleanup, 1, -1 do attempt(cleanup[i]) end
  end)
  cleanup = nil
  return problems
end

local function report(case, indent, counts)
  if not case.body then
    counts.pending = counts.pending + 1
    write(indent, "pending ", case.name)
    return
  end
  local began = p2pd.now()
  local problems = run_one(case)
  local took = (" (%.0f ms)"):format((p2pd.now() - began) * 1000)
  if #problems == 0 then
    counts.passed = counts.passed + 1
    write(indent, "ok    ", case.name, took)
    return
  end
  counts.failed = counts.failed + 1
  write(indent, "FAIL  ", case.name, took)
  for _, problem in ipairs(problems) do
    write(indent, "      ", (problem:gsub("\n", "\n" .. indent .. "      ")))
  end
end

local function selected(item, part)
  if item.is_test then return full_name(item):find(part, 1, true) ~= nil end
  for _, child in ipairs(item.children) do
    if selected(child, part) then return true end
  end
  return false
end

local function walk(group, depth, part, counts)
  for _, item in ipairs(group.children) do
    local indent = ("  "):rep(depth)
    if not selected(item, part) then
      counts.skipped = counts.skipped + 1
    elseif item.is_test then
      report(item, indent, counts)
    else
      write(indent, item.name)
      walk(item, depth + 1, part, counts)
    end
  end
end

--- Runs what was described and prints it. `part` keeps the tests whose name contains it; without one the script's first
--- argument is taken. Returns the exit status: 0, or 1 when a test failed or there was none.
function test.run(part)
  local arguments = rawget(_G, "arg")
  part = part or (arguments and arguments[1]) or ""
  local counts = { passed = 0, failed = 0, pending = 0, skipped = 0 }
  walk(root, 0, part, counts)
  local closing = ("%d passed, %d failed"):format(counts.passed, counts.failed)
  if counts.pending > 0 then closing = closing .. (", %d pending"):format(counts.pending) end
  write(closing)
  if counts.passed + counts.failed + counts.pending == 0 then
    write(part == "" and "no test was found" or ("no test has %q in its name"):format(part))
    return 1
  end
  return counts.failed == 0 and 0 or 1
end

return test
