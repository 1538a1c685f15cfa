import Foundation
import LuaVM
import NIOCore
import P2PDNet
import P2PDNode
import Testing

@testable import P2PDScript

@Suite(.timeLimit(.minutes(1))) struct ConfigFileTests {
  private func withFolder<T>(_ body: (String) throws -> T) throws -> T {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("p2pd-conf-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    return try body(folder.path)
  }

  private func read(_ text: String, servers: ServerList = ServerList()) throws -> ConfigFile {
    try withFolder { folder in
      let path = folder + "/" + ConfigFile.fileName
      try text.write(toFile: path, atomically: true, encoding: .utf8)
      return try ConfigFile(path: path, servers: servers)
    }
  }

  @Test("every key of the table is read")
  func all() throws {
    let config = try read(
      """
      local port = 7000
      return {
        servers = { "stun:a", "mqtts://b", "turn:u:p@c" }, offline = false, ca = "roots.pem", name = "here", nickname = "me", mdns = false, port = port + 1,
        listen = { "127.0.0.1", "::1" }, interfaces = { "eth0" }, max_pipes = 5, memory = 32, time_limit = 0.5,
        sandbox = true, log_level = "debug", log_format = "json",
      }
      """)
    #expect(config.servers.stun.map(\.host) == ["a"] && config.servers.brokers.map(\.host) == ["b"])
    #expect(config.servers.turn.first?.password == "p" && config.offline == false && config.name == "here")
    #expect(config.nickname == "me" && config.mdns == false)
    #expect(config.caFile?.hasSuffix("/roots.pem") == true && config.caFile?.hasPrefix("/") == true)
    #expect(config.port == 7001 && config.listen == [.loopback(.v4), .loopback(.v6)] && config.interfaces == ["eth0"])
    #expect(config.maxPipes == 5 && config.memory == 32 && config.timeLimit == 0.5 && config.sandbox == true)
    #expect(config.logLevel == "debug" && config.logFormat == "json")
  }

  @Test("an empty table leaves everything as it was")
  func nothing() throws {
    let config = try read("return {}", servers: .publicServers)
    #expect(config.servers == .publicServers && config.port == nil && config.offline == nil && config.name == nil)
  }

  @Test(
    "servers: a list replaces all, a group its own kind, an empty table leaves none",
    arguments: [
      ("{ 'stun:x' }", "stun:x", "none"), ("{ brokers = { 'mqtt://y' } }", "stun:old", "mqtt://y"),
      ("{ stun = {} }", "none", "mqtts://old"), ("{}", "none", "none"),
      ("{ 'stun:x', brokers = { 'mqtts://z:1' } }", "stun:x", "mqtts://z:1"),
      ("{ stun = { 'plain', '192.0.2.1:99' } }", "stun:plain, stun:192.0.2.1:99", "mqtts://old"),
    ])
  func servers(_ text: String, _ stun: String, _ brokers: String) throws {
    let old = try ServerList(urls: ["stun:old", "mqtts://old"])
    let summary = try read("return { servers = \(text) }", servers: old).servers.summary.map(\.servers)
    #expect(summary[0] == stun && summary[2] == brokers)
  }

  @Test(
    "what is wrong is told with the nearest that is right",
    arguments: [
      ("return { server = {} }", "unknown option 'server' of 'p2pd.conf.lua' (did you mean 'servers'?)"),
      (
        "return { servers = { stum = {} } }",
        "unknown group 'stum' in 'servers' of 'p2pd.conf.lua' (did you mean 'stun'?)"
      ),
      ("return { servers = { 'ftp://x' } }", "ftp"), ("return { servers = { 5 } }", "URLs in quotes expected"),
      ("return { servers = { stun = 'x' } }", "a list expected"),
      ("return { servers = { stun = { 'mqtt://x' } } }", "it is no server for STUN"),
      ("return { port = 70000 }", "a number from 0 to 65535 expected"), ("return { port = 'x' }", "integer expected"),
      ("return { listen = { 'nowhere' } }", "\"nowhere\" is no address"), ("return { log_level = 'loud' }", "expected"),
      ("return { time_limit = 0 }", "0.01 to 3600 seconds expected"), ("return 5", "returned a number"),
      ("local a = 1", "is 'return { ... }' missing"), ("return {", "p2pd.conf.lua:1:"),
      ("error('no')", "p2pd.conf.lua:1: no"), ("while true do end", "ran for 1 s"),
      ("local t = {} while true do t[#t + 1] = ('x'):rep(1e6) end", "not enough memory"),
      ("require 'p2pd'", "module 'p2pd' not found"), ("io.open('/etc/passwd')", "'io'"),
      ("os.execute('true')", "'execute'"), ("return { offline = function() end }", "boolean expected"),
    ])
  func wrong(_ text: String, _ words: String) {
    let error = #expect(throws: ScriptError.self) { try read(text) }
    #expect(error?.description.contains(words) == true, "\(error?.description ?? "")")
  }

  @Test("it is found beside the script, in a folder of scripts, then in the user's folder")
  func found() throws {
    try withFolder { folder in
      let (config, scripts) = (folder + "/config", folder + "/scripts")
      for made in [config + "/p2pd-lua", scripts] {
        try FileManager.default.createDirectory(atPath: made, withIntermediateDirectories: true)
      }
      func find(_ script: String?) -> String? {
        ConfigFile.find(beside: script, environment: ["XDG_CONFIG_HOME": config, "HOME": "/nonexistent"])
      }
      #expect(find(scripts + "/a.lua") == nil && find(nil) == nil)
      let users = config + "/p2pd-lua/p2pd.conf.lua"
      try "return {}".write(toFile: users, atomically: true, encoding: .utf8)
      #expect(find(scripts + "/a.lua") == users && find(nil) == users)
      let own = scripts + "/p2pd.conf.lua"
      try "return {}".write(toFile: own, atomically: true, encoding: .utf8)
      #expect(find(scripts + "/a.lua") == own && find(scripts) == own && find(scripts + "/") == own)
      #expect(ConfigFile.find(beside: nil, environment: ["HOME": folder]) == nil)
      // Among handlers it is none.
      try "return { msg_cb = print }".write(toFile: scripts + "/a.lua", atomically: true, encoding: .utf8)
      #expect(try ScriptFiles.handlers(at: scripts) == [scripts + "/a.lua"])
    }
  }
}

@Suite(.timeLimit(.minutes(1))) struct AcceptTests {
  private static let info = ConsentInfo(
    protocolName: "", strategies: ["reverse"], addresses: [Endpoint(ip: .loopback(.v4), port: 7)])

  private func ask(_ bench: Bench, _ info: ConsentInfo = AcceptTests.info) async throws -> Bool {
    let key = Identity.ephemeral().key
    return try await bench.host.loop.flatSubmit {
      let own = bench.host.generations.values.flatMap { $0.openNodes.map(\.node) }.first
      guard let consent = (bench.host.node ?? own)?.consent else {
        return bench.host.loop.makeFailedFuture(NetError(.unsupported, "ask", cause: "no consent hook"))
      }
      return consent(key, info)
    }.get()
  }

  @Test(
    "a handler's accept_cb says who may make the node dial",
    arguments: [
      ("return true", true), ("return 'yes'", true), ("return false", false), ("return nil", false), ("", false),
      ("error('no')", false), ("p2pd.sleep(0.05) return true", true), ("p2pd.sleep(0.05) return false", false),
      (
        "return info.addresses[1] == '127.0.0.1:7' and info.protocol == '' and info.strategies[1] == p2pd.REVERSE", true
      ),
      ("return #peer_id == 52 and peer_id:match('^[a-z2-7]+$') ~= nil", true),
    ])
  func hosted(_ body: String, _ expected: Bool) async throws {
    try await withBench { bench in
      let path = try bench.write(
        "h.lua",
        """
        local p2pd = require "p2pd"
        local M = {}
        function M.msg_cb() end
        function M.accept_cb(peer_id, info) \(body) end
        return M
        """)
      _ = try await bench.host.loadProtocols([path])
      let logger = await bench.host.onLoop { $0.logger }
      let node = try await Node.start(Bench.loopbackNode, on: sharedLoop, logger: logger)
      try await bench.host.attach(node)
      #expect(try await ask(bench) == expected)
      await node.close(flush: .zero)
    }
  }

  @Test("each protocol has its own; one that has none lets everybody")
  func several() async throws {
    try await withBench { bench in
      let closed = try bench.write("closed.lua", "return { msg_cb = print, accept_cb = function() return false end }")
      let open = try bench.write("open.lua", "return { msg_cb = print }")
      _ = try await bench.host.loadProtocols([closed, open])
      let logger = await bench.host.onLoop { $0.logger }
      let node = try await Node.start(Bench.loopbackNode, on: sharedLoop, logger: logger)
      try await bench.host.attach(node)
      for (name, expected) in [("", false), ("closed", false), ("open", true), ("none", true)] {
        var info = Self.info
        info.protocolName = name
        #expect(try await ask(bench, info) == expected, "\(name)")
      }
      await node.close(flush: .zero)
    }
  }

  @Test("a node that a script starts takes accept_cb as an option")
  func own() async throws {
    try await withBench { bench in
      let path = try bench.write(
        "h.lua",
        """
        local p2pd = require "p2pd"
        local M = {}
        function M.msg_cb() end
        function M.start()
          assert(p2pd.node { accept_cb = function(id, info) return info.protocol == "a" end })
          print "started"
        end
        return M
        """)
      _ = try await bench.host.loadProtocols([path])
      let logger = await bench.host.onLoop { $0.logger }
      let node = try await Node.start(Bench.loopbackNode, on: sharedLoop, logger: logger)
      try await bench.host.attach(node)
      await bench.logged.contains("started")
      try await sharedLoop.submit { bench.host.node = nil }.get()
      for name in ["a", "b"] {
        var info = Self.info
        info.protocolName = name
        #expect(try await ask(bench, info) == (name == "a"))
      }
      await node.close(flush: .zero)
    }
  }

  @Test("servers of a node: as in the configuration, and what is wrong raises")
  func servers() async throws {
    try await withBench { bench in
      let out = try await bench.output(
        """
        local node = assert(p2pd.node { offline = true, servers = { brokers = { "mqtt://127.0.0.1:9" }, stun = {} } })
        print(node:address(5) == node:address())
        print(select(2, pcall(p2pd.node, { servers = { broker = {} } })))
        print(select(2, pcall(p2pd.node, { servers = { "ftp://x" } })))
        print(select(2, pcall(p2pd.node, { accept_cb = 5 })))
        """)
      let lines = out.split(separator: "\n").map(String.init)
      #expect(lines[0] == "true")
      #expect(lines[1].contains("unknown group 'broker' in 'servers' of 'node' (did you mean 'brokers'?)"))
      #expect(lines[2].contains("bad option 'servers' of 'node'") && lines[2].contains("ftp"))
      #expect(lines[3].contains("bad option 'accept_cb' of 'node' (function expected"))
    }
  }
}
