import LuaVM
import Logging
import NIOCore
import P2PDNet
import P2PDNode
import Testing

@testable import P2PDScript

@Suite(.timeLimit(.minutes(1))) struct NodeScriptTests {
  /// The script of DESIGN §5.2, as it stands there.
  @Test func theScriptThatDoesSomethingAndEnds() async throws {
    try await withBench { bench in
      let path = try bench.write(
        "hello.lua",
        """
        local p2pd = require "p2pd"
        local node = p2pd.node()                         -- starts a node; waits without blocking the process
        node:add_msg_cb(function(msg, client_tup, pipe)
          if msg:find("PING", 1, true) then pipe:send("PONG", client_tup) end
        end)

        local pipe = assert(node:connect(node:address()))   -- or "example.peer", { strategies = { p2pd.DIRECT, p2pd.REVERSE, p2pd.PUNCH } }
        pipe:send("ECHO test send")
        assert(pipe:recv() == "test send")
        pipe:close()
        node:close()
        """)
      let status = await bench.host.exec(path, arguments: [])
      #expect(status == 0, "\(bench.logged.text)")
    }
  }

  @Test func nodesTalkAndPipesSayWhoTheyLeadTo() async throws {
    try await withBench { bench in
      let out = try await bench.output(
        """
        local server = assert(p2pd.node { msg_cb = function(msg, tup, pipe) pipe:send(pipe.protocol .. ":" .. msg) end })
        server:host("shout", { msg_cb = function(msg, tup, pipe) pipe:send(pipe.protocol .. ":" .. msg:upper()) end,
          end_cb = function(pipe, reason) print("ended", reason) end })
        local client = assert(p2pd.node {})
        local a = assert(client:connect(server:address(), { timeout = 5 }))
        local b = assert(client:connect(server:address(), { protocol = "shout", strategies = { p2pd.DIRECT, p2pd.PUNCH } }))
        a:send("x") b:send("y")
        print(a:recv(5), (b:recv(5)))
        print(a.strategy, a.peer_id == server.id, #client:pipes(), #server:pipes(), a.path ~= "", #a.peer_id > 20)
        local pipe, err = client:connect(server:address(), { protocol = "other", timeout = 5 })
        print(pipe, err.code)
        print(select(2, client:connect("p2pd1nonsense")).code)
        b:close()
        p2pd.sleep(0.05)
        client:close()
        server:close()
        """)
      let lines = out.split(separator: "\n").map(String.init)
      #expect(lines[0].hasPrefix(":x\t") && lines[0].hasSuffix("shout:Y"))
      #expect(lines[1] == "direct\ttrue\t2\t2\ttrue\ttrue")
      #expect(lines[2] == "nil\tprotocol")
      #expect(lines[3] == "bad_address")
      #expect(lines[4] == "ended\tclosed")
    }
  }

  @Test(arguments: [
    ("p2pd.node { prot = 1 }", "unknown option 'prot' of 'node'"),
    ("node:connect(5)", "bad argument #1 to 'connect' (string expected, got number)"),
    ("node:connect('x', { strategies = { 'luck' } })", "no strategy is called 'luck'"), ("node:host('x')", "ok"),
    ("node:host('x', { mesg_cb = print })", "unknown option 'mesg_cb' of 'host' (did you mean 'msg_cb'?)"),
    ("node.address()", "call it with a colon"), ("p2pd.node { port = 70000 }", "a number from 0 to 65535 expected"),
  ])
  func misuseOfNodesRaises(_ call: String, _ message: String) async throws {
    try await withBench { bench in
      let out = try await bench.output(
        "local node = assert(p2pd.node())\nprint(select(2, pcall(function() \(call) end)) or 'ok')")
      #expect(out.contains(message), "\(out)")
    }
  }

  @Test func aFailedConnectExplainsItself() async throws {
    try await withBench { bench in
      let out = try await bench.output(
        """
        local server, client = assert(p2pd.node { offline = true }), assert(p2pd.node { offline = true })
        local address = server:address()
        server:close()
        local _, err = client:connect(address, { timeout = 5 })
        local seen = {}
        for _, attempt in ipairs(err.attempts) do
          if attempt.strategy ~= "direct" then
            seen[#seen + 1] = attempt.strategy .. " " .. attempt.code .. " " .. tostring(attempt.by_peer) .. attempt.from .. attempt.to
          else
            assert(attempt.to ~= "" and attempt.code == "refused" and not attempt.by_peer, tostring(attempt))
          end
        end
        print(table.concat(seen, ", "))
        print(#err.remedy > 10, tostring(err):find(err.remedy, 1, true) ~= nil, err.strategy == "")
        local _, only = client:connect(address, { strategies = { p2pd.REVERSE } })
        print(#only.attempts, only.attempts[1].strategy, only.code)
        """)
      #expect(
        out
          == "reverse unsupported false, punch unsupported false, relay unsupported false\ntrue\ttrue\ttrue\n1\treverse\tunreachable"
      )
    }
  }

  @Test func daemonsListenOnLoopback() async throws {
    try await withBench { bench in
      let out = try await bench.output(
        """
        local d = p2pd.daemon { msg_cb = function(msg, tup, pipe) pipe:send(msg, tup) end, framing = "line" }
        local servers = assert(d:listen_loopback(p2pd.TCP))
        print(#servers, servers[1].af, servers[2].af, servers[1]:getsockname().port == servers[2]:getsockname().port, #d:servers())
        for _, server in ipairs(servers) do
          local pipe <close> = assert(p2pd.pipe_open(p2pd.TCP, { dest = server:getsockname(), framing = "line" }))
          pipe:send("hi")
          print((pipe:recv(5)))
        end
        local udp = assert(d:add_listener(p2pd.UDP, "127.0.0.1:0"))
        local pipe = assert(p2pd.pipe_open(p2pd.UDP, { dest = udp:getsockname() }))
        pipe:send("udp")
        print((pipe:recv(5)))
        local _, err = d:add_listener(p2pd.TCP, servers[1]:getsockname())
        print(err.code)
        d:close()
        p2pd.sleep(0.01)
        print(#d:servers(), servers[1].is_open)
        """)
      #expect(out == "2\t4\t6\ttrue\t2\nhi\nhi\nudp\nin_use\n0\tfalse")
    }
  }

  @Test func interfacesAndRoutesAreFacts() async throws {
    try await withBench { bench in
      let out = try await bench.output(
        """
        local lo
        for _, nic in ipairs(p2pd.list_interfaces()) do if nic.is_loopback then lo = nic end end
        assert(lo.index > 0 and lo.mtu > 0 and #lo.addresses > 0)
        print(p2pd.interface(lo.name).name == lo.name, select(2, p2pd.interface("nosuch0")).code, tostring(lo) == lo.name)
        local route = assert(lo:route(p2pd.IP4))
        print(route.af, route.nic_ips[1], #route.ext_ips, lo.rp[4][1].af, route.bind_port)
        local bound = assert(route:bind(0))
        print(bound.bind_ip, bound.bind_port)
        local server = assert(p2pd.pipe_open(p2pd.UDP, { route = bound, msg_cb = function(m, t, p) p:send(m, t) end }))
        print(server:getsockname().ip, server.route.af)
        print(p2pd.resolve("127.0.0.1")[1], select(2, p2pd.resolve("no such name")).code ~= nil)
        """)
      #expect(out == "true\tbad_address\ttrue\n4\t127.0.0.1\t0\t4\tnil\n127.0.0.1\t0\n127.0.0.1\t4\n127.0.0.1\ttrue")
    }
  }
}
