import LuaVM
import Testing

@testable import P2PDScript

@Suite(.timeLimit(.minutes(1))) struct ExecTests {
  @Test(arguments: [
    ("return 7", 7), ("return true", 0), ("return false", 1), ("", 0), ("return nil", 0), ("os.exit(3)", 3),
    ("os.exit()", 0), ("return 'x'", 0),
    ("p2pd.sleep(0.01) os.exit(4)", 4), ("return 2.0", 2), ("error('no')", 1),
  ])
  func theExitStatusIsTheScripts(_ text: String, _ status: Int) async throws {
    try await withBench { bench in
      let found = try await bench.exec(text)
      #expect(found == Int32(status))
    }
  }

  @Test func anErrorIsLoggedWithItsLineAndTraceback() async throws {
    try await withBench { bench in
      let status = try await bench.exec(
        "local function inner() error('out of cheese') end\nlocal function outer() inner() end\nouter()")
      #expect(status == 1)
      #expect(bench.logged.text.contains("script.lua:2: out of cheese"))
      #expect(bench.logged.text.contains("script.lua:3: in"))
    }
  }

  @Test func aSyntaxErrorNamesItsLine() async throws {
    try await withBench { bench in
      let status = try await bench.exec("local x =\nlocal y = 1")
      #expect(status == 1)
      #expect(bench.logged.text.contains("script.lua:3:"))
    }
  }

  @Test func argumentsArriveBothWays() async throws {
    try await withBench { bench in
      let path = try bench.write("args.lua", "print(arg[0], arg[1], arg[2], ...)")
      #expect(await bench.host.exec(path, arguments: ["one", "two"]) == 0)
      #expect(bench.printed.text.hasSuffix("args.lua\tone\ttwo\tone\ttwo"))
    }
  }

  @Test func aMissingFileIsSaidToBeMissing() async throws {
    try await withBench { bench in
      #expect(await bench.host.exec("/nonexistent/x.lua", arguments: []) == 1)
      #expect(bench.logged.text.contains("No such file"))
    }
  }

  @Test func anInterruptEndsAWait() async throws {
    try await withBench { bench in
      let path = try bench.write(
        "wait.lua",
        """
        local p2pd = require "p2pd"
        print("begun")
        local ok, err = pcall(p2pd.sleep, math.huge)
        print(tostring(err))
        p2pd.sleep(math.huge)
        """)
      async let status = bench.host.exec(path, arguments: [])
      await bench.printed.contains("begun")
      await bench.host.interrupt()
      #expect(await status == 130)
      #expect(bench.printed.text.contains("cancelled: interrupted"))
    }
  }

  @Test func aLoopWithoutEndIsStoppedByTheTimeLimit() async throws {
    try await withBench(limits: LuaLimits(runTime: 0.1)) { bench in
      let status = try await bench.exec("while true do pcall(function() while true do end end) end")
      #expect(status == 1)
      #expect(bench.logged.text.contains("script.lua:2"))
    }
  }

  @Test func whatTheScriptLeftBehindEndsWithIt() async throws {
    try await withBench { bench in
      let status = try await bench.exec(
        """
        local server = assert(p2pd.pipe_open(p2pd.TCP, { bind = { "127.0.0.1", 0 }, msg_cb = function() end }))
        p2pd.every(0.01, function() end)
        p2pd.spawn(function()
          local guard <close> = setmetatable({}, { __close = function() print("closed") end })
          p2pd.sleep(math.huge)
        end)
        p2pd.sleep(0.02)
        return 5
        """)
      #expect(status == 5)
      #expect(bench.printed.text == "closed")
      let left = await bench.host.statistics()
      #expect(left.pipes == 0 && left.tasks == 0)
    }
  }
}
