import Logging
import P2PDNet
import Testing

@testable import p2pd_lua

@Suite struct JSONReaderTests {
  private func read(_ text: String) throws -> String { try JSONReader.read(Array(text.utf8)).text }

  @Test(arguments: [
    ("words", " [true,false,null] ", "[true,false,null]"),
    ("numbers", "[0,-0,12,-7,1.5,1e3,2E-2,9223372036854775807]", "[0,0,12,-7,1.5,1000.0,0.02,9223372036854775807]"),
    ("beyond 64 bits", "9223372036854775808", "9.223372036854776e+18"),
    ("escapes", #""\"\\\/\b\f\n\r\t\u00fc\ud83d\ude00""#, #""\"\\/\u0008\u000c\n\r\tü😀""#),
    ("members keep their order", #"{ "b" : 1 , "a" : { } , "c" : [ ] }"#, #"{"b":1,"a":{},"c":[]}"#),
  ]) func reads(_ name: String, _ text: String, _ again: String) throws {
    #expect(try read(text) == again, "\(name)")
  }

  @Test(arguments: [
    "", " ", "[", "{", "[1", "[1,", "[1,]", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,}", "{a:1}", "tru", "truex",
    "nul",
    "01", "+1", "-", "1.", ".5", "1e", "1e+", "\"", "\"\\", "\"\\x\"", "\"\\u12\"", "\"\\ud800\"", "\"\\udc00\"",
    "\"\\ud800\\u0041\"", "\"a\nb\"", "1 2", "NaN", "1e999", "'a'", "[1]]",
  ]) func refuses(_ text: String) {
    #expect(throws: JSONReader.Problem.self) { try read(text) }
  }

  @Test func nestingAndBytesThatAreNoTextAreRefused() {
    let deep = String(repeating: "[", count: 100_000)
    #expect(throws: JSONReader.Problem.self) { try read(deep) }
    #expect(throws: JSONReader.Problem.self) { try JSONReader.read([0x22, 0xff, 0x22]) }
    #expect(throws: JSONReader.Problem.self) { try read(String(repeating: "1", count: 1000)) }
  }

  @Test func whatIsWrittenIsReadAgain() throws {
    let value = JSONText.object([
      ("text", .string("a\u{1}\u{7f}\"\\ü\u{1f600}")), ("n", .number(0.25)), ("a", .array([.null])),
    ])
    #expect(try read(value.text) == value.text)
    #expect(try read(value.pretty) == value.text)
    #expect(JSONText.number(.infinity).text == "null")
  }
}

@Suite struct ControlRequestTests {
  private func read(_ line: String) throws -> ControlRequest { try ControlRequest(line: Array(line.utf8)) }

  @Test(
    arguments: [
      (#"{"v":1,"id":1,"op":"status"}"#, .status), (#"{"v":1,"id":1,"op":"pipes","more":[1]}"#, .pipes),
      (#"{"v":1,"id":1,"op":"kill","pipe":12}"#, .kill(pipe: 12)), (#"{"v":1,"id":1,"op":"stop"}"#, .stop),
      (#"{"v":1,"id":1,"op":"logs"}"#, .logs(lines: 100, follow: false)),
      (#"{"v":1,"id":1,"op":"logs","lines":3,"follow":true}"#, .logs(lines: 3, follow: true)),
      (#"{"v":1,"id":1,"op":"trace","pipe":5}"#, .tracePipe(5, bytes: 64)),
      (#"{"v":1,"id":1,"op":"trace","protocol":"chat","bytes":0}"#, .traceProtocol("chat", bytes: 0)),
      (#"{"v":1,"id":1,"op":"attach","read_only":true,"protocol":null}"#, .attach(readOnly: true, protocol: nil)),
      (
        #"{"v":1,"id":1,"op":"evaluate","code":"return 1","partial":true}"#,
        .evaluate(code: "return 1", quoted: false, partial: true)
      ),
      (#"{"v":1,"id":1,"op":"complete","text":"p2pd."}"#, .complete(text: "p2pd.")),
      (#"{"v":1,"id":1,"op":"cancel","request":4}"#, .cancel(request: 4)),
      (#"{"v":1,"id":1,"op":"reload","protocol":"a","dry_run":true}"#, .reload(protocol: "a", dryRun: true)),
      (#"{"v":1,"id":1,"op":"rollback"}"#, .rollback(protocol: nil)),
      (#"{"v":1,"id":1,"op":"generations"}"#, .generations(holders: false)),
      (#"{"v":1,"id":1,"op":"generations","holders":true}"#, .generations(holders: true)),
    ] as [(String, ControlRequest.Operation)]) func isRead(_ line: String, _ operation: ControlRequest.Operation) throws
  {
    #expect(try read(line) == ControlRequest(id: 1, operation: operation))
  }

  @Test(
    arguments: [
      ("", nil, "bad_request"), ("status", nil, "bad_request"), ("[1]", nil, "bad_request"),
      (#"{"v":1,"op":"status"}"#, nil, "bad_request"), (#"{"v":1,"id":-1,"op":"status"}"#, nil, "bad_request"),
      (#"{"v":1,"id":1.5,"op":"status"}"#, nil, "bad_request"), (#"{"id":3,"op":"status"}"#, 3, "bad_request"),
      (#"{"v":2,"id":3,"op":"status"}"#, 3, "version"), (#"{"v":1,"id":3,"op":"fly"}"#, 3, "unknown_op"),
      (#"{"v":1,"id":3}"#, 3, "bad_request"), (#"{"v":1,"id":3,"op":"kill"}"#, 3, "bad_request"),
      (#"{"v":1,"id":3,"op":"kill","pipe":"5"}"#, 3, "bad_request"),
      (#"{"v":1,"id":3,"op":"kill","pipe":-5}"#, 3, "bad_request"),
      (#"{"v":1,"id":3,"op":"logs","lines":1e300}"#, 3, "bad_request"),
      (#"{"v":1,"id":3,"op":"trace","pipe":1,"bytes":65537}"#, 3, "bad_request"),
      (#"{"v":1,"id":3,"op":"trace"}"#, 3, "bad_request"), (#"{"v":1,"id":3,"op":"evaluate"}"#, 3, "bad_request"),
      (#"{"v":1,"id":3,"op":"attach","read_only":1}"#, 3, "bad_request"),
      (#"{"v":1,"id":3,"op":"cancel"}"#, 3, "bad_request"),
    ] as [(String, Int?, String)]) func isRefused(_ line: String, _ id: Int?, _ code: String)
  {
    let refusal = #expect(throws: ControlRequest.Refusal.self) { try read(line) }
    #expect(refusal?.id == id && refusal?.fault.code == code, "\(line)")
  }
}

@Suite struct ControlOutputTests {
  private func lines(_ output: ControlOutput) -> [String] {
    String(decoding: output.waiting, as: UTF8.self).split(separator: "\n").map(String.init)
  }

  private func event(_ text: String) -> JSONText { ControlProtocol.event(7, "log", [("text", .string(text))]) }

  @Test func aSlowReaderLosesEventsAndIsToldHowMany() {
    var output = ControlOutput(eventLimit: 200, answerLimit: 1000)
    var queued = 0
    for index in 0..<100 where output.add(event: event("number \(index)"), of: 7) { queued += 1 }
    #expect((1..<10).contains(queued))
    #expect(lines(output).count == queued)
    // Room again: first the word about what is missing, then events go through.
    output.wrote(output.waiting.count)
    #expect(lines(output) == [#"{"id":7,"event":"dropped","count":\#(100 - queued)}"#])
    output.wrote(output.waiting.count)
    #expect(output.isEmpty)
    let isThrough = output.add(event: event("on"), of: 7)
    #expect(isThrough)
  }

  @Test func anAnswerComesAfterTheWordAboutItsEvents() {
    var output = ControlOutput(eventLimit: 50, answerLimit: 1000)
    for _ in 0..<5 { output.add(event: event("x"), of: 7) }
    let fits = output.add(answer: ControlProtocol.result(7, .object([])), to: 7)
    #expect(fits)
    #expect(lines(output).suffix(2) == [#"{"id":7,"event":"dropped","count":3}"#, #"{"id":7,"ok":true,"result":{}}"#])
  }

  @Test func whoReadsNoAnswersIsCutOff() {
    var output = ControlOutput(eventLimit: 50, answerLimit: 100)
    var fits = true
    for id in 0..<10 where fits { fits = output.add(answer: ControlProtocol.result(id, .null), to: id) }
    #expect(!fits)
  }

  @Test func bytesGoOutInAnyPieces() {
    var output = ControlOutput()
    for id in 0..<50 { _ = output.add(answer: ControlProtocol.result(id, .string("ü")), to: id) }
    let all = Array(output.waiting)
    var written: [UInt8] = []
    while !output.isEmpty {
      let piece = output.waiting.prefix(7)
      written += piece
      output.wrote(piece.count)
    }
    #expect(written == all)
  }

  @Test func linesOfTheClientAreBounded() {
    var input = ControlInput(limit: 10)
    input.add(Array("one\r\n\ntwo\nthr".utf8))
    #expect(input.next() == .line(Array("one".utf8)))
    #expect(input.next() == .line([]))
    #expect(input.next() == .line(Array("two".utf8)))
    #expect(input.next() == .incomplete)
    input.add(Array("ee, and more".utf8))
    #expect(input.next() == .tooLong)
    var ended = ControlInput(limit: 10)
    ended.add(Array("12345678901\n".utf8))
    #expect(ended.next() == .tooLong)
  }
}

@Suite struct ControlTextTests {
  @Test func columnsStandBelowEachOther() {
    var table = TextTable(["ID", "NAME", "LAST"], right: [0])
    table.add(["1", "grün", "x"])
    table.add(["100", "a\u{1b}b", ""])
    #expect(table.text == " ID  NAME    LAST\n  1  grün    x\n100  a\\x1bb\n")
  }

  @Test(
    arguments: [
      (0, "0 ms"), (0.00004, "0 ms"), (0.0004, "0.4 ms"), (0.0123, "12 ms"), (0.9999, "1 s"), (1.2, "1 s"),
      (119, "119 s"),
      (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (7260, "2 h 1 min"), (172_800, "2 days"),
    ] as [(Double, String)]) func times(_ seconds: Double, _ text: String)
  {
    #expect(Figures.time(seconds) == text)
  }

  @Test func counts() {
    #expect([0, 999, 1000, 1_234_567, -1000].map(Figures.count) == ["0", "999", "1 000", "1 234 567", "-1 000"])
    #expect(
      [0, 0.04, 0.25, 1, 9.96, 12.3, -1.5, .infinity].map(Figures.short) == [
        "0", "0", "0.3", "1", "10", "12", "-1.5", "?",
      ])
  }

  @Test func aTracedMessage() {
    let bytes = Array("PING\n\u{1}".utf8)
    let line = JSONText.object([
      ("time", .number(1.5)), ("pipe", .int(12)), ("peer", .string("192.0.2.1:7000")), ("direction", .string("in")),
      ("size", .int(100)), ("data", .string(HexText.encode(bytes))),
    ])
    let text = TraceText.lines("message", line, hex: false)
    #expect(text.hasSuffix(#"  in      12    192.0.2.1:7000         100 B     "PING\n\x01" ..."# + "\n"), "\(text)")
    let dump = TraceText.dump(Array(UInt8(0x3e)..<0x50))
    #expect(
      dump
        == "    0000  3e 3f 40 41 42 43 44 45  46 47 48 49 4a 4b 4c 4d  |>?@ABCDEFGHIJKLM|\n"
        + "    0010  4e 4f                                             |NO|\n")
    #expect(TraceText.quoted(Array("€".utf8.prefix(2))) == "\"\\xe2\\x82\"")
    #expect(HexText.decode("0aff") == [10, 255])
    #expect(HexText.decode("0") == nil && HexText.decode("zz") == nil)
  }

  @Test func aNodeIsFoundByNameOrKey() {
    let nodes = [("chat", "abc1"), ("echo", "abd2"), ("chat", "xyz3"), ("abc", "qrs4")].map {
      ControlLink.Greeting(name: $0.0, key: $0.1, pid: 1, version: "")
    }
    let choose = { NodeFinder.choose($0, among: nodes) }
    #expect(choose(nil) == [0, 1, 2, 3])
    #expect(choose("echo") == [1])
    #expect(choose("chat") == [0, 2])
    #expect(choose("XYZ") == [2])
    #expect(choose("ab") == [0, 1])
    #expect(choose("abc") == [3], "a name wins over a key")
    #expect(choose("") == [] && choose("nobody") == [])
  }

  @Test func aLiveFrameIsDrawnOverTheLastOne() {
    var frame = LiveFrame()
    #expect(frame.draw("a\nb", rows: 24, columns: 80) == "\ra\u{1b}[K\nb\u{1b}[K\u{1b}[J")
    #expect(frame.draw("c", rows: 24, columns: 80) == "\u{1b}[1A\rc\u{1b}[K\u{1b}[J")
    #expect(frame.draw("1\n2\n3\n4", rows: 3, columns: 80) == "\r1\u{1b}[K\n2\u{1b}[K\u{1b}[J")
    #expect(frame.draw("12345678", rows: 3, columns: 5).contains("1234…"))
  }
}

@Suite struct LogRingTests {
  private func line(_ text: String, _ level: Logger.Level = .info) -> LogLine {
    LogLine(
      time: LogTime(seconds: 1_700_000_000, milliseconds: 7), level: level, label: "t", message: text, metadata: [:])
  }

  @Test func theNewestLinesStay() {
    let ring = LogRing(mostLines: 3, mostBytes: 100)
    for text in ["a", "b", "c", "d", "e"] { ring.add(line(text)) }
    #expect(ring.last(10).map(\.message) == ["c", "d", "e"])
    #expect(ring.last(1).map(\.message) == ["e"])
    ring.add(line(String(repeating: "x", count: 99)))
    #expect(ring.last(10).count == 2)
    ring.add(line(String(repeating: "y", count: 200), .error))
    #expect(ring.last(10).count == 1)
    #expect(ring.lastError?.level == .error)
  }

  @Test func aFollowerMissesNothing() {
    let ring = LogRing()
    ring.add(line("before"))
    let seen = Seen()
    let number = ring.follow(last: 5) {
      for line in $0 { seen.add(line.message) }
    } _: {
      seen.add($0.message)
    }
    ring.add(line("after"))
    ring.stopFollowing(number)
    ring.add(line("late"))
    #expect(seen.all == ["before", "after"])
  }

  @Test func aLineSurvivesTheWayOverTheSocket() throws {
    var line = line("two\nlines")
    line.metadata = ["a": "b", "list": ["x", "y"], "map": ["k": "v"]]
    let again = try #require(LogLine(JSONReader.read(Array(line.object.text.utf8))))
    #expect(again.json == line.json)
    #expect(LogLine(.object([("time", .string("yesterday"))])) == nil)
  }

  private final class Seen: @unchecked Sendable {
    var all: [String] = []
    func add(_ text: String) { all.append(text) }
  }
}

@Suite struct CompletionTests {
  private func editor(_ text: String) -> LineEditor {
    var editor = LineEditor(prompt: "> ")
    editor.completes = true
    _ = editor.handle(.text(text))
    return editor
  }

  @Test func tabAsksAndPutsIn() {
    var editor = editor("x = p2pd.sl")
    #expect(editor.handle(.tab) == .complete("x = p2pd.sl"))
    #expect(editor.complete(with: ["sleep"], typed: 2) == [])
    #expect(editor.line == "x = p2pd.sleep")
  }

  @Test func ofSeveralNamesTheCommonPartIsPutInFirst() {
    var editor = editor("p")
    #expect(editor.complete(with: ["pipe_open", "pipes"], typed: 1) == [])
    #expect(editor.line == "pipe")
    #expect(editor.complete(with: ["pipe_open", "pipes"], typed: 4) == ["pipe_open", "pipes"])
    #expect(editor.line == "pipe")
    #expect(editor.complete(with: [], typed: 4) == [])
  }

  @Test func atTheStartOfALineItIsATab() {
    var editor = editor("  ")
    #expect(editor.handle(.tab) == .redraw)
    #expect(editor.line == "  \t")
    var plain = LineEditor(prompt: "> ")
    _ = plain.handle(.text("a"))
    #expect(plain.handle(.tab) == .redraw)
    #expect(plain.line == "a\t")
  }
}
