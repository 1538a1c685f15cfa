import LuaVM
import Logging
import NIOCore
import P2PDNet
import P2PDNode
import Testing

@testable import P2PDScript

/// The prompt inside a running host, and what is read out of one.
@Suite(.timeLimit(.minutes(1))) struct PromptTests {
  /// A host with one protocol, `demo`, on a node, and a prompt in it.
  private func withPrompt(
    _ text: String = "function M.msg_cb(m, t, p) p:send(m) end", protocol name: String? = nil, readOnly: Bool = false,
    limits: LuaLimits = LuaLimits(), _ body: (Bench, Asker) async throws -> Void
  ) async throws {
    try await withBench(limits: limits) { bench in
      let path = try bench.write("demo.lua", "local p2pd = require 'p2pd'\nlocal M = {}\n" + text + "\nreturn M\n")
      _ = try await bench.host.loadProtocols([path])
      let quiet = Logger(label: "node") { _ in SwiftLogNoOpLogHandler() }
      let node = try await Node.start(Bench.loopbackNode, on: bench.host.loop, logger: quiet)
      try await bench.host.attach(node)
      let asker = try await Asker(bench.host, name, readOnly)
      do {
        try await body(bench, asker)
      } catch {
        await asker.close()
        await node.close()
        throw error
      }
      await asker.close()
      await node.close()
    }
  }

  /// Types lines and waits for what comes of them.
  private final class Asker: @unchecked Sendable {
    let host: ScriptHost
    let printed = Bench.Lines()
    private var prompt: Prompt?

    init(_ host: ScriptHost, _ name: String?, _ readOnly: Bool) async throws {
      self.host = host
      let printed = printed
      prompt = try await host.loop.submit {
        try Prompt(host, protocol: name, readOnly: readOnly) { printed.add($0) }
      }.get()
    }

    func outcome(_ code: String, quoted: Bool = true, partial: Bool = true) async throws -> Prompt.Outcome {
      let promise = host.loop.makePromise(of: Prompt.Outcome.self)
      host.loop.execute {
        self.prompt?.evaluate(code, quoted: quoted, partial: partial) { promise.succeed($0) }
      }
      return try await promise.futureResult.get()
    }

    /// The values as text, or the error after "! ".
    func ask(_ code: String) async throws -> String {
      switch try await outcome(code) {
      case .incomplete: "..."
      case .values(let text): text
      case .failed(let message, _): "! " + message
      }
    }

    func names(_ text: String) async throws -> [String] {
      try await host.loop.submit { self.prompt?.complete(text).names ?? [] }.get()
    }

    func interrupt() { host.loop.execute { self.prompt?.interrupt() } }

    func close() async {
      try? await host.loop.submit {
        self.prompt?.close()
        self.prompt = nil
      }.get()
    }
  }

  @Test(arguments: [
    ("1 + 1", "2"), ("return 1, 'a', nil", "1\t\"a\"\tnil"), ("x = 5", ""), ("nil", "nil"), ("#'abc'", "3"),
    ("{}", "{}"), ("{1, 2, 3}", "{ 1, 2, 3 }"), ("{a = 1, b = {c = true}}", "{ a = 1, b = { c = true } }"),
    ("{[1] = 'x', [3] = 'y', ['a b'] = 1, ['end'] = 2}", #"{ "x", [3] = "y", ["a b"] = 1, ["end"] = 2 }"#),
    (#"'a\n\0"\\'"#, #""a\n\0\"\\""#), ("'grün'", "\"grün\""), (#"'\xff\xfe'"#, #""\xFF\xFE""#),
    ("1e100", "1e+100"), ("1/0", "inf"), ("-0.0", "-0.0"), ("2^53", "9.007199254741e+15"),
    ("setmetatable({}, {__tostring = function() return 'me' end})", "me"),
    ("setmetatable({}, {__tostring = function() error('no') end})", "{}"),
    ("for i = 1,", "..."), ("function f()", "..."), ("'abc", "..."),
    ("'abc\n", "! prompt:1: unfinished string near ''abc'"),
    ("x = = 1", "! prompt:1: unexpected symbol near '='"), ("error('boom')", "! prompt:1: boom"),
    ("nothing.at.all", "! prompt:1: attempt to index a nil value (global 'nothing')"),
  ]) func aLine(_ code: String, _ shown: String) async throws {
    try await withPrompt { _, prompt in
      let answer = try await prompt.ask(code)
      #expect(answer == shown, "\(code)")
    }
  }

  @Test func largeAndCyclicValuesAreCut() async throws {
    try await withPrompt { _, prompt in
      let cycle = try await prompt.ask("t = {n = {}}; t.n.back = t; t.n.me = t.n; return t")
      #expect(cycle == "{ n = { back = <cycle: top>, me = <cycle: top.n> } }")
      let deep = try await prompt.ask("local t = {}; for i = 1, 50 do t = {t} end; return t")
      #expect(deep.contains("{...}") && deep.count < 200)
      let wide = try await prompt.ask("local t = {}; for i = 1, 100000 do t[i] = i end; return t")
      #expect(wide.contains("... 99900 more") && wide.count < 3000)
      let keys = try await prompt.ask("local t = {}; for i = 1, 5000 do t['k' .. i] = i end; return t")
      #expect(keys.contains("... 4900 more") && keys.count < 4000)
      let long = try await prompt.ask("return ('ü'):rep(100000)")
      #expect(long.hasSuffix("\" (200000 bytes in all)") && long.utf8.count < 2100)
      let much = try await prompt.ask("local t = {}; for i = 1, 90 do t[i] = {('x'):rep(1900)} end; return t")
      #expect(much.utf8.count < 100_000)
    }
  }

  @Test func linesShareGlobalsAndTheLastValue() async throws {
    try await withPrompt { _, prompt in
      _ = try await prompt.ask("x = 20")
      #expect(try await prompt.ask("x + 1") == "21")
      #expect(try await prompt.ask("_ * 2") == "42")
      #expect(try await prompt.ask("print('a', 1, nil)") == "")
      #expect(prompt.printed.all == ["a\t1\tnil"])
    }
  }

  @Test func aLineMayWaitAndBeInterrupted() async throws {
    try await withPrompt { _, prompt in
      #expect(try await prompt.ask("p2pd.sleep(0.001); return 'slept'") == "\"slept\"")
      let waiting = Task { try await prompt.ask("print('now'); p2pd.sleep(3600)") }
      await prompt.printed.contains("now")
      prompt.interrupt()
      let answer = try await waiting.value
      #expect(answer == "! interrupted")
      #expect(try await prompt.ask("1") == "1")
    }
  }

  @Test func aLineThatLoopsIsStoppedAndHarmsNobody() async throws {
    var limits = LuaLimits()
    limits.runTime = 0.1
    try await withPrompt(limits: limits) { _, prompt in
      let loop = try await prompt.ask("while true do end")
      #expect(loop.hasPrefix("! prompt:1:"), "\(loop)")
      let memory = try await prompt.ask("local t = {}; for i = 1, 1e9 do t[i] = ('x'):rep(1e6) .. i end")
      #expect(memory.hasPrefix("! "), "\(memory)")
      #expect(try await prompt.ask("1") == "1")
      guard case .failed(_, let traceback) = try await prompt.outcome("local function f() error('deep') end f()") else {
        return #expect(Bool(false))
      }
      #expect(traceback.contains("prompt:1: in"))
    }
  }

  @Test func theNodeIsAtHand() async throws {
    try await withPrompt("function M.start() p2pd.state.count = 7 end\nfunction M.msg_cb() end\nshared = 3") {
      bench, prompt in
      #expect(try await prompt.ask("protocols.demo.state.count") == "7")
      #expect(try await prompt.ask("protocols.demo.globals.shared") == "3")
      // Without what every script has.
      #expect(try await prompt.ask("protocols.demo.globals") == "{ shared = 3 }")
      #expect(try await prompt.ask("protocols.demo.globals.shared = 4") == "")
      #expect(
        try await prompt.ask("protocols.demo.globals.shared, type(protocols.demo.globals.print)") == "4\t\"function\"")
      #expect(try await prompt.ask("protocols.nobody") == "nil")
      #expect(try await prompt.ask("#protocols, #pipes") == "1\t0")
      #expect(try await prompt.ask("node:address():sub(1, 5)") == "\"p2pd1\"")
      let address = try await prompt.ask("node.id == node:address() or #node.id")
      #expect(address == "52")
      let report = try await bench.host.loop.submit { bench.host.report() }.get()
      #expect(report.protocols.map(\.name) == ["demo"] && report.memory > 0)
    }
  }

  @Test func insideAProtocolItsGlobalsAndStateAreSeenAndChanged() async throws {
    let text = "counter = 1\nfunction M.start() p2pd.state.n = counter end\nfunction M.msg_cb() end"
    try await withPrompt(text, protocol: "demo") { _, prompt in
      #expect(try await prompt.ask("counter, p2pd.state.n") == "1\t1")
      _ = try await prompt.ask("counter = 5; p2pd.state.n = 9")
      #expect(try await prompt.ask("protocols.demo.globals.counter, protocols.demo.state.n") == "5\t9")
      #expect(try await prompt.names("cou") == ["counter"])
    }
  }

  @Test func aProtocolThatIsNotThereIsRefused() async throws {
    await #expect(throws: ScriptError.self) { try await self.withPrompt(protocol: "nobody") { _, _ in } }
  }

  @Test(arguments: [
    ("p2pd.state.n", "3"), ("p2pd.state", "{ n = 3 }"), ("protocols.demo.state.n", "3"),
    ("type(p2pd.state)", "\"table\""),
    ("#pipes", "0"), ("node.id == nil", "false"), ("node:address():sub(1, 5)", "\"p2pd1\""), ("own = 1", ""),
    ("1 + 1", "2"),
    ("p2pd.now() > 0", "true"), ("p2pd.json.encode{a = p2pd.state}", #""{\"a\":{\"n\":3}}""#),
    ("helper", "function: "), ("config.list[2]", "\"b\""), ("#config.list", "2"),
    ("local s = '' for i, v in ipairs(config.list) do s = s .. i .. v end return s", "\"1a2b\""),
    ("local n = 0 for k, v in pairs(config) do n = n + 1 end return n", "2"), ("config == config", "true"),
    ("setmetatable({}, {__index = config}).name", "\"x\""), ("table.concat(config.list, ',')", "\"a,b\""),
    ("lazy.made", "nil"), ("lazy", "{}"),
  ]) func readOnlyShows(_ code: String, _ shown: String) async throws {
    try await withPrompt(Self.guarded, protocol: "demo", readOnly: true) { _, prompt in
      let answer = try await prompt.ask(code)
      if shown.hasSuffix(": ") {
        #expect(answer.hasPrefix(shown), "\(code): \(answer)")
      } else {
        #expect(answer == shown, "\(code)")
      }
    }
  }

  @Test(arguments: [
    "p2pd.state.n = 4", "p2pd.state = {}", "protocols.demo.state.n = 4", "protocols.demo.globals.config = nil",
    "config.name = 'y'", "config.list[1] = 'z'", "table.insert(config.list, 'c')", "table.sort(config.list)",
    "table.remove(config.list)", "helper()", "config.name:rep(2); helper()", "rawset(config, 'name', 'y')",
    "setmetatable(config, {})", "getmetatable(config).__newindex(config, 'name', 'y')", "node:close()",
    "node:add_msg_cb(print)", "p2pd.spawn(print)", "p2pd.after(1, print)", "p2pd.pipe_open('udp')",
    "p2pd.log.info('x')",
    "load('config = nil')()", "require 'os'", "io.write('x')", "os.exit(1)", "os.execute('true')", "collectgarbage()",
    "next(config.list); config.list.x = 1", "debug.getmetatable(config)", "string.dump(print)", "math.random()",
    "_G.protocols.demo.globals.helper()", "for k, v in pairs(config) do config[k] = nil end",
    "coroutine.wrap(helper)()",
    "('x').rep = nil",
  ]) func readOnlyRefuses(_ code: String) async throws {
    try await withPrompt(Self.guarded, protocol: "demo", readOnly: true) { bench, prompt in
      let answer = try await prompt.ask(code)
      #expect(answer.hasPrefix("! "), "\(code): \(answer)")
      #expect(
        try await prompt.ask("p2pd.state, config") == #"{ n = 3 }"# + "\t" + #"{ list = { "a", "b" }, name = "x" }"#)
      #expect(!bench.printed.text.contains("acted") && !bench.logged.text.contains("acted"))
    }
  }

  private static let guarded = """
    config = { name = 'x', list = { 'a', 'b' } }
    function helper() print('acted') end
    lazy = setmetatable({}, { __index = function(t, k) print('acted') return 1 end, __tostring = function() print('acted') return '' end })
    function M.start() p2pd.state.n = 3 end
    function M.msg_cb() end
    """

  @Test(
    arguments: [
      ("p2pd.sle", ["sleep"]), ("p2pd.sta", ["state"]), ("x = string.re", ["rep", "reverse"]),
      ("proto", ["protocols"]),
      ("node:addr", ["address"]), ("('x'):re", []), ("fun", ["function"]), ("protocols.de", ["demo"]),
      ("protocols.demo.vers", ["version"]), ("1.", []), ("a .. p2pd.slee", ["sleep"]), ("nothing.", []),
      ("table.conc", ["concat"]),
    ] as [(String, [String])]) func completion(_ text: String, _ names: [String]) async throws
  {
    try await withPrompt { _, prompt in
      let found = try await prompt.names(text)
      #expect(found == names, "\(text)")
    }
  }

  @Test func whatALineStartedEndsWithThePrompt() async throws {
    try await withPrompt { bench, prompt in
      _ = try await prompt.ask(
        "p2pd.spawn(function() local _ <close> = setmetatable({}, {__close = function() p2pd.log.info('closed') end}) p2pd.sleep(3600) end)"
      )
      _ = try await prompt.ask("p2pd.every(3600, print); p2pd.sleep(0)")
      await prompt.close()
      await bench.logged.contains("closed")
      // Its generation goes with the next turn of the loop.
      try await bench.host.loop.submit {}.get()
      let left = try await bench.host.loop.submit { bench.host.generations.count }.get()
      #expect(left == 1)
    }
  }

  @Test func tracesShowMessagesBothWaysAndEnd() async throws {
    try await withPrompt { bench, _ in
      let host = bench.host
      let client = try await Node.start(
        Bench.loopbackNode, on: sharedLoop,
        logger: Logger(label: "n") { _ in SwiftLogNoOpLogHandler() })
      let address = try await host.loop.submit { host.node?.address }
        .get()
      let seen = Bench.Lines()
      let tracer = try await host.loop.submit {
        Tracer(host, .protocol("demo"), preview: 3) { event in
          seen.add(
            "\(event.kind.rawValue) \(event.size) \(String(decoding: event.preview, as: UTF8.self)) \(event.reason)")
        } over: { _ in
        }
      }.get()
      #expect(tracer != nil)
      let pipe = try await client.connect(#require(address), protocol: "demo", timeout: .seconds(10))
      pipe.loop.execute { _ = Array("hello".utf8).withUnsafeBytes { pipe.send($0) } }
      await seen.contains("out 5 hel")
      #expect(seen.all.prefix(3) == ["opened 0  ", "in 5 hel ", "out 5 hel "])
      let reports = try await host.loop.submit { host.pipeReports() }.get()
      #expect(reports.count == 1 && reports[0].protocolName == "demo" && reports[0].stats.messagesIn == 1)
      let ended = try await host.loop.submit { host.endPipe(reports[0].id) { _ in } }.get()
      #expect(ended)
      await seen.contains("ended")
      try await host.loop.submit { tracer?.stop() }.get()
      let (pipes, totals) = try await host.loop.submit { (tracer?.pipes, host.traffic) }.get()
      #expect(pipes == 0 && totals.messagesIn == 1 && totals.messagesOut == 1)
      await client.close()
    }
  }

  @Test func meters() {
    var meter = TrafficMeter()
    #expect(meter.rates(over: .seconds(10)).seconds == 0)
    var total = Traffic()
    let start = NIODeadline.uptimeNanoseconds(1_000_000_000)
    for second in 0...30 {
      total.messagesIn = UInt64(second * second)
      meter.note(total, at: start + .seconds(Int64(second)))
    }
    let rates = meter.rates(over: .seconds(10))
    #expect(rates.seconds == 10 && rates.messagesIn == 50)
    var lag = LagMeter()
    for index in 0..<20 { lag.note(.milliseconds(Int64(index)), at: start + .seconds(Int64(index))) }
    let found = lag.lag(over: .seconds(4), now: start + .seconds(19))
    #expect(found.worst == .milliseconds(19) && found.mean == .milliseconds(17))
  }
}
