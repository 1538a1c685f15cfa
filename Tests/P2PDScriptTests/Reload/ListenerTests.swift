import LuaVM
import NIOCore
import P2PDNet
import Testing

@testable import P2PDScript

/// Servers of the script through reloads: the socket and its clients go over to the new code.
@Suite(.timeLimit(.minutes(1))) struct ListenerTests {
  private let top = """
    local d = p2pd.daemon { framing = "line", msg_cb = function(msg, tup, pipe) pipe:send("NAME " .. msg) end }
    assert(d:add_listener(p2pd.TCP, { "127.0.0.1", PORT }) == true)
    function M.msg_cb(msg, tup, pipe) pipe:send(tostring(d:servers()[1]:getsockname())) end
    """

  private func top(_ name: String, port: String = "0") -> String {
    top.replacing("NAME", with: name).replacing("PORT", with: port)
  }

  @Test func aServerOfTheTopLevelIsTakenOverWithItsClients() async throws {
    try await withHandler(top("one")) { bench, pipe in
      let place = try await pipe.ask("where")
      let client = try await plainClient(place)
      #expect(try await client.ask("a") == "one a")
      try await bench.reload(top("two"))
      #expect(try await client.ask("b") == "two b")
      #expect(try await pipe.ask("where") == place)
      #expect(try await plainClient(place).ask("c") == "two c")
      // Also after the one before has been given up.
      try await bench.reload(top("three"))
      await bench.until { $0.generations[1] == nil }
      #expect(try await client.ask("d") == "three d")
    }
  }

  @Test func aServerOfStartIsTakenOverToo() async throws {
    let text = """
      function M.start()
        M.server = assert(p2pd.pipe_open(p2pd.TCP, { bind = { "127.0.0.1", 0 }, framing = "line",
          msg_cb = function(msg, tup, pipe) pipe:send("NAME " .. msg) end }))
        print("open " .. tostring(M.server:getsockname()))
      end
      function M.msg_cb(msg, tup, pipe) pipe:send(tostring(M.server:getsockname())) end
      """
    try await withHandler(text.replacing("NAME", with: "one")) { bench, pipe in
      await bench.bench.logged.contains("open 127")
      let place = try await pipe.ask("where")
      let client = try await plainClient(place)
      #expect(try await client.ask("a") == "one a")
      try await bench.reload(text.replacing("NAME", with: "two"))
      await bench.until { _ in bench.bench.logged.all.filter { $0.contains("open 127") }.count == 2 }
      #expect(try await pipe.ask("where") == place)
      #expect(try await client.ask("b") == "two b")
    }
  }

  @Test func aUDPServerIsTakenOver() async throws {
    let text = """
      local d = p2pd.daemon { msg_cb = function(msg, tup, pipe) pipe:send("NAME " .. msg, tup) end }
      d:add_listener(p2pd.UDP, { "127.0.0.1", 0 })
      M.drain = true
      function M.msg_cb(msg, tup, pipe) pipe:send(tostring(d:servers()[1]:getsockname())) end
      """
    try await withHandler(text.replacing("NAME", with: "one")) { bench, pipe in
      let parts = try await pipe.ask("where").split(separator: ":")
      let endpoint = Endpoint(ip: try #require(IPAddress(String(parts[0]))), port: try #require(UInt16(parts[1])))
      let client = try await PipeOpener.open(.udp, to: .endpoint(endpoint), on: pipe.loop).get()
      #expect(try await client.ask("a") == "one a")
      try await bench.reload(text.replacing("NAME", with: "two"))
      #expect(try await client.ask("b") == "two b")
      _ = try await client.loop.flatSubmit { client.close() }.get()
    }
  }

  @Test func aServerThatCannotBindRefusesTheReload() async throws {
    try await withHandlers([("h.lua", top("one")), ("other.lua", top("other"))]) { bench in
      let pipe = try await bench.connect()
      let place = try await pipe.ask("where")
      let taken = try await bench.connect("other").ask("where")
      let port = try #require(taken.split(separator: ":").last.map(String.init))
      let report = try await bench.reload(top("two", port: port))
      #expect(report.result == .rejected)
      #expect(report.error?.contains("a server cannot be opened") == true && report.error?.contains(port) == true)
      #expect(try await plainClient(place).ask("a") == "one a")
    }
  }

  @Test func otherOptionsCloseTheOldServerAndOpenANewOne() async throws {
    try await withHandler(top("one")) { bench, pipe in
      let place = try await pipe.ask("where")
      let port = try #require(place.split(separator: ":").last.map(String.init))
      try await bench.reload(top("two", port: port))
      await bench.until { $0.generations[1]?.listeners.isEmpty != false }
      try await bench.reload(top("three", port: port).replacing("\"line\"", with: "\"line\", max_message = 100"))
      await bench.until { $0.hosted[0].current.listeners.first?.face.pipe.isOpen == true }
      #expect(try await plainClient(place).ask("c") == "three c")
    }
  }

  @Test func namesOfTheNodeFollow() async throws {
    let text = """
      function M.start()
        p2pd.node():host("extra", { msg_cb = function(msg, tup, pipe) pipe:send("NAME " .. msg) end })
        print("hosting NAME")
      end
      """
    try await withHandler(text.replacing("NAME", with: "one")) { bench, _ in
      await bench.bench.logged.contains("hosting one")
      let extra = try await bench.connect("extra")
      #expect(try await extra.ask("a") == "one a")
      try await bench.reload(text.replacing("NAME", with: "two"))
      await bench.bench.logged.contains("hosting two")
      #expect(try await extra.ask("b") == "two b")
      try await bench.reload("function M.start() print('hosting none') end")
      #expect(try await extra.ended.get().description.contains("not hosted any more"))
    }
  }
}
