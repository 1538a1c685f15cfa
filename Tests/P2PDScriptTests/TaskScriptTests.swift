import LuaVM
import Testing

@testable import P2PDScript

@Suite(.timeLimit(.minutes(1))) struct TaskScriptTests {
  private func run(_ text: String, _ expected: String, sourceLocation: SourceLocation = #_sourceLocation) async throws {
    try await withBench { bench in
      let out = try await bench.output(text, sourceLocation: sourceLocation)
      #expect(out == expected, sourceLocation: sourceLocation)
    }
  }

  @Test func spawnedTasksRunBesideAndHandTheirResultsOver() async throws {
    try await run(
      """
      local t = p2pd.spawn(function(a, b) p2pd.sleep(0.01) return a + b, nil, "x" end, 1, 2)
      print(tostring(t), t:done())
      print(t:join())
      print(t:done(), p2pd.join(t))
      print(select("#", p2pd.join(p2pd.spawn(function() end))))
      """, "p2pd.task: running\tfalse\n3\tnil\tx\ntrue\t3\tnil\tx\n0")
  }

  @Test func joinRaisesTheTasksErrorAndTimesOut() async throws {
    try await run(
      """
      local bad = p2pd.spawn(function() p2pd.sleep(0.001) error({ code = 7 }) end)
      local ok, err = pcall(bad.join, bad)
      print(ok, err.code)
      local slow = p2pd.spawn(p2pd.sleep, math.huge)
      local r, why = slow:join(0.01)
      print(r, why.code)
      slow:cancel("enough")
      print(select(2, pcall(slow.join, slow)))
      """, "false\t7\nnil\ttimeout\ncancelled: enough")
  }

  @Test func gatherWaitsForAllAndTheFirstFailureEndsTheOthers() async throws {
    try await run(
      """
      print(p2pd.gather(function() p2pd.sleep(0.02) return "a" end, function() return "b" end, function() return nil end))
      print(select("#", p2pd.gather()))
      local cleaned = false
      local started = p2pd.now()
      local ok, err = pcall(p2pd.gather, function()
        local guard <close> = setmetatable({}, { __close = function() cleaned = true end })
        p2pd.sleep(math.huge)
      end, function() p2pd.sleep(0.01) error("first", 0) end)
      print(ok, err, cleaned, p2pd.now() - started < 10)
      """, "a\tb\tnil\n0\nfalse\tfirst\ttrue\ttrue")
  }

  @Test func withTimeoutEndsWhatTakesTooLong() async throws {
    try await run(
      """
      print(p2pd.with_timeout(5, function(a) return a, 2 end, 1))
      local closed = false
      local r, err = p2pd.with_timeout(0.01, function()
        local guard <close> = setmetatable({}, { __close = function() closed = true end })
        p2pd.sleep(math.huge)
      end)
      print(r, err.code, closed)
      print(pcall(p2pd.with_timeout, 5, function() error("inside", 0) end))
      local r2, err2 = p2pd.with_timeout(0.05, function() return p2pd.with_timeout(5, p2pd.sleep, math.huge) end)
      print(r2, err2.code)
      """, "1\t2\nnil\ttimeout\ttrue\nfalse\tinside\nnil\ttimeout")
  }

  @Test func queuesHandValuesOverInOrder() async throws {
    try await run(
      """
      local q = p2pd.queue(2)
      local got = {}
      local reader = p2pd.spawn(function()
        while true do
          local v, err = q:get()
          if v == nil then got[#got + 1] = err.code return end
          got[#got + 1] = v
        end
      end)
      for i = 1, 6 do assert(q:put(i)) end
      q:close()
      reader:join()
      print(table.concat(got, " "), #q, select(2, q:put(1)).code)
      local full = p2pd.queue(1)
      full:put("x")
      print(select(2, full:put("y", 0.01)).code, full:get(0), select(2, full:get(0)).code, select(2, full:get(0.01)).code, tostring(full))
      """, "1 2 3 4 5 6 closed\t0\tclosed\ntimeout\tx\ttimeout\ttimeout\tp2pd.queue: 0 waiting")
  }

  @Test func timersFireInOrderAndStop() async throws {
    try await run(
      """
      local seen = {}
      p2pd.after(0.02, function() seen[#seen + 1] = "late" end)
      p2pd.after(0, function() seen[#seen + 1] = "soon" end)
      local never = p2pd.after(0.01, function() seen[#seen + 1] = "never" end)
      never:cancel()
      never:cancel()
      local count = 0
      local done = p2pd.queue()
      local beat
      beat = p2pd.every(0.005, function()
        count = count + 1
        if count == 3 then beat:cancel() done:put(true) end
      end)
      done:get()
      p2pd.sleep(0.03)
      print(table.concat(seen, " "), count)
      """, "soon late\t3")
  }

  @Test func aBeatThatIsStillRunningIsNotStartedAgain() async throws {
    try await run(
      """
      local running, most, runs = 0, 0, 0
      local beat = p2pd.every(0.002, function()
        running = running + 1
        most = math.max(most, running)
        runs = runs + 1
        p2pd.sleep(0.01)
        running = running - 1
      end)
      while runs < 3 do p2pd.sleep(0.001) end
      beat:cancel()
      print(most)
      """, "1")
  }

  @Test func waitsInsideOwnCoroutinesWorkAndPlacesThatCannotWaitAreNamed() async throws {
    try await run(
      """
      local lines = coroutine.wrap(function() for i = 1, 3 do p2pd.sleep(0.001) coroutine.yield(i) end end)
      print(lines(), lines(), lines())
      local ok, err = pcall(table.sort, { 3, 2, 1 }, function(a, b) p2pd.sleep(0.001) return a < b end)
      print(ok, err:match("cannot wait") ~= nil, err:match("sort") ~= nil)
      """, "1\t2\t3\nfalse\ttrue\ttrue")
  }

  @Test func anErrorInASpawnedTaskIsLogged() async throws {
    try await withBench { bench in
      _ = try await bench.output("p2pd.spawn(function() error('lost') end) p2pd.sleep(0.01) print('on')")
      #expect(bench.printed.text == "on")
      #expect(bench.logged.text.contains("spawned task failed: ") && bench.logged.text.contains("script.lua:2: lost"))
    }
  }
}
