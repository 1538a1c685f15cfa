import LuaVM
import Testing

@testable import P2PDScript

@Suite(.timeLimit(.minutes(1))) struct PipeScriptTests {
  private let echo = """
    local function echo(proto, options)
      options = options or {}
      options.bind = options.bind or { "127.0.0.1", 0 }
      options.msg_cb = options.msg_cb or function(msg, client_tup, pipe) pipe:send(msg, client_tup) end
      local server = assert(p2pd.pipe_open(proto, options))
      return server, server:getsockname()
    end

    """

  @Test(arguments: ["tcp", "udp"]) func echoesThroughAMessageCallback(_ proto: String) async throws {
    try await withBench { bench in
      let out = try await bench.output(
        echo + """
          local server, where = echo("\(proto)")
          local pipe <close> = assert(p2pd.pipe_open("\(proto)", { dest = where }))
          assert(pipe:send("hello"))
          local msg, tup = pipe:recv(5)
          print(msg, tup == pipe.peer, #tup, tup[1], tup.port == where.port, tostring(tup) == tostring(where))
          print(pipe.proto, pipe.af, pipe.is_server, server.is_server, pipe.is_open)
          server:close()
          """)
      #expect(out == "hello\ttrue\t2\t127.0.0.1\ttrue\ttrue\n\(proto)\t4\tfalse\ttrue\ttrue")
    }
  }

  @Test func aMessageGoesToSubscriptionsAndThenToWhoeverWaits() async throws {
    try await withBench { bench in
      let out = try await bench.output(
        echo + """
          local server, where = echo(p2pd.TCP, { framing = "line" })
          local seen = {}
          local pipe = assert(p2pd.pipe_open(p2pd.TCP, { dest = where, framing = "line" }))
          local sub = pipe:subscribe("^PONG (%d+)")
          pipe:send("PONG 1") pipe:send("other") pipe:send("PONG 2")
          print(pipe:recv(sub, 5), (pipe:recv(5)), (pipe:recv(5)), (pipe:recv(5)))
          print((pipe:recv(sub, 5)))
          print(select(2, pipe:recv(sub, 0)).code, select(2, pipe:recv(0.01)).code)
          pipe:unsubscribe(sub)
          local function cb(msg) seen[#seen + 1] = msg end
          pipe:add_msg_cb(cb)
          pipe:send("a")
          while #seen == 0 do p2pd.sleep(0.001) end
          pipe:del_msg_cb(cb)
          pipe:send("b")
          print(seen[1], #seen, (pipe:recv(5)))
          """)
      #expect(
        out.split(separator: "\n").map { $0.replacing("\t", with: " ") }.dropFirst().joined(separator: "|")
          == "PONG 2|timeout timeout|a 1 b")
      #expect(out.hasPrefix("PONG 1\t"))
    }
  }

  @Test func recvStyleServersUseAcceptAndMessages() async throws {
    try await withBench { bench in
      let out = try await bench.output(
        """
        local server = assert(p2pd.pipe_open(p2pd.TCP, { bind = { "127.0.0.1", 0 }, framing = "line" }))
        p2pd.spawn(function()
          local client = assert(server:accept(5))
          for msg in client:messages() do client:send(msg:upper()) end
          print("ended")
        end)
        local pipe = assert(p2pd.pipe_open(p2pd.TCP, { dest = server:getsockname(), framing = "line" }))
        pipe:send("one") pipe:send("two") pipe:close_output()
        print((pipe:recv(5)), (pipe:recv(5)))
        local msg, err = pipe:recv(5)
        print(msg, err.code)
        """)
      #expect(out.contains("ONE\tTWO"))
      #expect(out.contains("nil\tclosed"))
      #expect(out.contains("ended"))
    }
  }

  @Test func expectedFailuresAreNilAndAnError() async throws {
    try await withBench { bench in
      let out = try await bench.output(
        """
        local closed = assert(p2pd.pipe_open(p2pd.TCP, { bind = { "127.0.0.1", 0 } }))
        local where = closed:getsockname()
        local taken, in_use = p2pd.pipe_open(p2pd.TCP, { bind = where })
        closed:close()
        local pipe, err = p2pd.pipe_open(p2pd.TCP, { dest = where })
        print(pipe, err.code, in_use.code, type(err.message), tostring(err) == err.message, #err.attempts >= 0)
        local _, closed_err = closed:send("x")
        print(closed_err.code, select(2, closed:recv()).code, select(2, closed:getpeername()).code)
        """)
      #expect(
        out == "nil\trefused\tin_use\tstring\ttrue\ttrue\nunsupported\tclosed\tunsupported"
          || out.hasPrefix("nil\trefused\tin_use"))
    }
  }

  @Test(arguments: [
    (
      "p2pd.pipe_open('tcp', { framming = 'line' })",
      "unknown option 'framming' of 'pipe_open' (did you mean 'framing'?)"
    ),
    ("p2pd.pipe_open('tcp', { framing = 'lines' })", "bad option 'framing'"),
    (
      "p2pd.pipe_open('tcp', { con_timeout = 'x' })",
      "bad option 'con_timeout' of 'pipe_open' (number expected, got \"x\")"
    ),
    ("p2pd.pipe_open('tcp', { con_timeout = -1 })", "seconds expected"),
    ("p2pd.pipe_open('tcp', { max_qsize = 0 })", "max_qsize"),
    ("p2pd.pipe_open('tcp', { tls = { cert = 'x' } })", "unknown option 'tls.cert'"),
    ("p2pd.pipe_open('tcp', { tls = true })", "a server needs"),
    ("p2pd.pipe_open('sctp')", "bad argument #1 to 'pipe_open'"),
    ("p2pd.pipe_open('tcp', 5)", "bad argument #2 to 'pipe_open' (table expected, got number)"),
    ("p2pd.pipe_open('tcp', { dest = {} })", "bad option 'dest'"),
    ("p2pd.pipe_open('tcp', { msg_cb = 5 })", "bad option 'msg_cb' of 'pipe_open' (function expected, got number)"),
    ("pipe:send(nil)", "bad argument #1 to 'send' (string expected, got nil)"),
    ("pipe:send()", "bad argument #1 to 'send' (string expected, got no value)"),
    ("pipe.send('x')", "call it with a colon"),
    ("pipe:recv('x')", "bad argument #1 to 'recv' (number expected, got string)"),
    ("pipe:add_msg_cb(1)", "bad argument #1 to 'add_msg_cb' (function expected, got number)"),
    ("pipe:del_msg_cb(1)", "bad argument #1 to 'del_msg_cb' (function expected, got number)"),
    ("pipe:subscribe('[')", "malformed pattern"),
    ("pipe:close { flsh = 1 }", "unknown option 'flsh' of 'close' (did you mean 'flush'?)"),
    ("pipe:add_pipe(p2pd)", "p2pd.pipe expected, got table"),
    ("pipe.id = 5", "cannot set 'id'"),
    ("p2pd.sleep('x')", "bad argument #1 to 'sleep' (number expected, got string)"),
    ("p2pd.sleep()", "bad argument #1 to 'sleep' (number expected, got no value)"),
    ("p2pd.spawn(5)", "bad argument #1 to 'spawn' (function expected, got number)"),
    ("p2pd.after(1)", "bad argument #2 to 'after' (function expected, got no value)"),
    ("p2pd.queue(0)", "positive integer expected"),
    ("p2pd.gather(5)", "bad argument #1 to 'gather'"),
    ("p2pd.helper = 5", "p2pd.helper cannot be set"),
  ])
  func misuseRaisesAtTheLineOfTheCall(_ call: String, _ message: String) async throws {
    try await withBench { bench in
      let out = try await bench.output(
        """
        local pipe = assert(p2pd.pipe_open(p2pd.UDP, { bind = { "127.0.0.1", 0 } }))
        local ok, err = pcall(function()
          \(call)
        end)
        print(err)
        """)
      #expect(out.contains(message), "\(out)")
      #expect(out.contains("script.lua:4:"), "\(out)")
    }
  }

  @Test func callbacksMayWaitAndOneMessageComesAfterTheOther() async throws {
    try await withBench { bench in
      let out = try await bench.output(
        """
        local order = {}
        local server = assert(p2pd.pipe_open(p2pd.TCP, {
          bind = { "127.0.0.1", 0 }, framing = "u16",
          msg_cb = function(msg, tup, pipe)
            order[#order + 1] = "<" .. msg
            p2pd.sleep(0.005)
            order[#order + 1] = msg .. ">"
            pipe:send(msg)
          end }))
        local pipe = assert(p2pd.pipe_open(p2pd.TCP, { dest = server:getsockname(), framing = "u16" }))
        for i = 1, 4 do pipe:send(tostring(i)) end
        for i = 1, 4 do assert(pipe:recv(5) == tostring(i)) end
        print(table.concat(order, " "))
        """)
      #expect(out == "<1 1> <2 2> <3 3> <4 4>")
    }
  }

  @Test func recvInAHandlerTakesTheNextMessage() async throws {
    try await withBench { bench in
      let out = try await bench.output(
        """
        local server = assert(p2pd.pipe_open(p2pd.TCP, {
          bind = { "127.0.0.1", 0 }, framing = "line",
          msg_cb = function(msg, tup, pipe)
            local second = pipe:recv(5)
            pipe:send(msg .. "+" .. second)
          end }))
        local pipe = assert(p2pd.pipe_open(p2pd.TCP, { dest = server:getsockname(), framing = "line" }))
        for i = 1, 4 do pipe:send(tostring(i)) end
        print((pipe:recv(5)), (pipe:recv(5)))
        """)
      #expect(out == "1+2\t3+4")
    }
  }

  @Test func endCallbacksFireOnceWithTheReason() async throws {
    try await withBench { bench in
      let out = try await bench.output(
        """
        local ends = {}
        local server = assert(p2pd.pipe_open(p2pd.TCP, {
          bind = { "127.0.0.1", 0 }, msg_cb = function() end,
          end_cb = function(pipe, reason) ends[#ends + 1] = "server:" .. reason end }))
        local up
        local pipe = assert(p2pd.pipe_open(p2pd.TCP, {
          dest = server:getsockname(), up_cb = function(p) up = p end,
          end_cb = function(pipe, reason) ends[#ends + 1] = "client:" .. reason end }))
        assert(up == pipe)
        pipe.data = { n = 1 }
        pipe:close()
        pipe:close()
        while #ends < 2 do p2pd.sleep(0.001) end
        table.sort(ends)
        pipe:add_end_cb(function(p, reason) print("late", p == pipe, reason, p.data.n) end)
        p2pd.sleep(0.01)
        print(table.concat(ends, " "), pipe.is_open, pipe.id > 0)
        """)
      #expect(out == "late\ttrue\tlocal\t1\nclient:local server:closed\tfalse\ttrue")
    }
  }

  @Test func relaysWithoutLua() async throws {
    try await withBench { bench in
      let out = try await bench.output(
        echo + """
          local server, where = echo(p2pd.TCP)
          local middle = assert(p2pd.pipe_open(p2pd.TCP, { bind = { "127.0.0.1", 0 } }))
          p2pd.spawn(function()
            local client = assert(middle:accept(5))
            local onward = assert(p2pd.pipe_open(p2pd.TCP, { dest = where }))
            assert(client:add_pipe(onward))
            assert(onward:add_pipe(client))
          end)
          local pipe = assert(p2pd.pipe_open(p2pd.TCP, { dest = middle:getsockname() }))
          pipe:send("through")
          print((pipe:recv(5)))
          """)
      #expect(out == "through")
    }
  }

  @Test func aUDPServerAnswersEachSender() async throws {
    try await withBench { bench in
      let out = try await bench.output(
        """
        local tups = {}
        local server = assert(p2pd.pipe_open(p2pd.UDP, {
          bind = "127.0.0.1:0",
          msg_cb = function(msg, tup, pipe)
            if tups[msg] == nil then tups[msg] = tup else print(msg, "same", tups[msg] == tup, rawequal(tups[msg], tup)) end
            pipe:send("to " .. msg, { tup.ip, tup.port })
          end }))
        local a = assert(p2pd.pipe_open(p2pd.UDP, { dest = server:getsockname() }))
        local b = assert(p2pd.pipe_open(p2pd.UDP, { dest = tostring(server:getsockname()) }))
        a:send("a") b:send("b") a:send("a")
        print((a:recv(5)), (b:recv(5)), (a:recv(5)))
        local only_b = server:subscribe(nil, b:getsockname())
        server:subscribe(nil, { "127.0.0.1", 0 })
        a:send("x") b:send("y")
        print((server:recv(only_b, 5)))
        """)
      #expect(out == "a\tsame\ttrue\ttrue\nto a\tto b\tto a\ny")
    }
  }

  @Test func statisticsCount() async throws {
    try await withBench { bench in
      let out = try await bench.output(
        echo + """
          local server, where = echo(p2pd.TCP)
          local pipe = assert(p2pd.pipe_open(p2pd.TCP, { dest = where }))
          pipe:send("12345")
          pipe:recv(5)
          local s = pipe:stats()
          print(s.bytes_out, s.bytes_in, s.messages_out, s.messages_in, s.unsent, s.age >= 0, math.type(s.bytes_in))
          """)
      #expect(out == "5\t5\t1\t1\t0\ttrue\tinteger")
    }
  }

  @Test func aSlowPeerMakesSendWait() async throws {
    try await withBench { bench in
      let out = try await bench.output(
        """
        local server = assert(p2pd.pipe_open(p2pd.TCP, { bind = { "127.0.0.1", 0 } }))
        local pipe = assert(p2pd.pipe_open(p2pd.TCP, { dest = server:getsockname() }))
        local client = assert(server:accept(5))
        local block, sent, total = ("x"):rep(1 << 20), 0, 64
        local writer = p2pd.spawn(function()
          for _ = 1, total do assert(pipe:send(block)) sent = sent + 1 end
          pipe:close_output()
        end)
        p2pd.sleep(0.1)
        local before = sent
        local got = 0
        for msg in client:messages() do got = got + #msg end
        writer:join()
        print(before < total, sent, got == total << 20, pipe:stats().unsent)
        """)
      #expect(out == "true\t64\ttrue\t0")
    }
  }

  /// The pipe's stream itself moves in P2PDNetTests; this is what a script hears of it.
  @Test func aPipeThatMovedCallsPathCallbacks() async throws {
    try await withBench { bench in
      async let status = try bench.exec(
        """
        local heard = {}
        local server = assert(p2pd.pipe_open(p2pd.TCP, {
          bind = { "127.0.0.1", 0 },
          path_cb = function(pipe) heard[#heard + 1] = "client " .. pipe.strategy end,
          up_cb = function(pipe) print("up " .. pipe.id) end,
        }))
        local pipe = assert(p2pd.pipe_open(p2pd.TCP, {
          dest = server:getsockname(),
          path_cb = function(pipe) heard[#heard + 1] = "own " .. pipe.strategy .. ", " .. pipe.path end,
        }))
        local function gone() heard[#heard + 1] = "gone" end
        pipe:add_path_cb(gone)
        pipe:del_path_cb(gone)
        pipe:add_path_cb(function(pipe)
          p2pd.sleep(0.001)
          heard[#heard + 1] = "added " .. pipe:getpeername()[1]
        end)
        print("up " .. pipe.id)
        while #heard < 3 do p2pd.sleep(0.001) end
        pipe:send("still here")
        table.sort(heard)
        print(table.concat(heard, "; "))
        """)
      await bench.printed.contains("up ")
      while bench.printed.all.count < 2 { await Task.yield() }
      let ids = bench.printed.all.compactMap { UInt64($0.dropFirst(3)) }
      try await bench.host.loop.submit {
        for id in ids { try #require(bench.host.face(id)).pipe.moved(strategy: "punch", path: "public") }
      }.get()
      #expect(try await status == 0, "\(bench.logged.text)")
      #expect(bench.printed.all.last == "added 127.0.0.1; client punch; own punch, public")
    }
  }
}
