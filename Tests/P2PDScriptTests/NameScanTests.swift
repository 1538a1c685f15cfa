import Testing

@testable import P2PDScript

@Suite struct NameScanTests {
  private func findings(_ text: String) -> [String] {
    NameScan.findings(in: Array(text.utf8)).map { "\($0.line): \($0.text)" }
  }

  @Test func findsAnUnknownNameOfTheModuleWithItsLine() {
    #expect(
      findings("local p2pd = require 'p2pd'\n\np2pd.pipe_opne(1)") == [
        "3: unknown name 'p2pd.pipe_opne' (did you mean 'p2pd.pipe_open'?)"
      ]
        || findings("local p2pd = require 'p2pd'\n\np2pd.pipe_opne(1)") == [
          "3: unknown name 'p2pd.pipe_opne' (did you mean 'pipe_open'?)"
        ])
  }

  @Test func followsTheLocalTheModuleWasRequiredAs() {
    #expect(findings("local net = require(\"p2pd\")\nnet.slep(1)").count == 1)
    #expect(findings("local net = require(\"other\")\nnet.slep(1)").isEmpty)
  }

  @Test func findsUnknownMethodsAndFieldsOfThingsWithAClearName() {
    #expect(findings("function f(msg, client_tup, pipe)\n pipe:recieve()\n print(client_tup.prot)\nend").count == 2)
    #expect(findings("pipe:send('x'); pipe.data = 1; print(pipe.id, client_tup.ip, pipe.data.anything)").isEmpty)
  }

  @Test func findsUnknownOptionsInPlace() {
    let found = findings("p2pd.pipe_open(p2pd.TCP, {\n dest = { 'a', 1 },\n framming = 'line',\n tls = { ca = 'x' } })")
    #expect(found == ["3: unknown option 'framming' of p2pd.pipe_open (did you mean 'framing'?)"])
    #expect(findings("p2pd.daemon { mgs_cb = function(msg) local x = { anything = 1 } end }").count == 1)
    #expect(findings("pipe:close { flsh = 1 }").count == 1)
  }

  @Test func leavesTheScriptsOwnThingsAlone() {
    #expect(findings("local queue = {}\nfunction queue.push() end\nqueue.push(1)").isEmpty)
    #expect(findings("function queue:push() end\nqueue:push(1)").isEmpty)
    #expect(findings("local t = { pipe = { wrong = 1 } } print(t.pipe.wrong, t.p2pd.wrong)").isEmpty)
  }

  @Test func readsNoNamesInStringsAndComments() {
    #expect(
      findings("-- p2pd.foo\n--[[ p2pd.foo\n]] local a = 'p2pd.foo' .. \"p2pd.foo\" .. [==[p2pd.foo]]]==]").isEmpty)
  }

  @Test func survivesWhatIsNoLua() {
    for text in ["", "'", "[==[", "--[[", "\\", "p2pd.", "p2pd.pipe_open(", "p2pd.pipe_open {", "\u{0}\u{ff}", "'\\"] {
      _ = findings(text)
    }
    for length in 0..<60 {
      _ = findings(String("local p2pd = require 'p2pd' p2pd.pipe_open(p2pd.TCP, { framing = [[x]] })".prefix(length)))
    }
  }

  @Test func countsLinesThroughLongStrings() {
    #expect(findings("local s = [[\n\n\n]]\np2pd.foo_bar()").first?.hasPrefix("5:") == true)
  }
}
