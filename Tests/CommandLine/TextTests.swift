import Testing

@testable import p2pd_lua

@Suite struct PrintableTests {
  @Test(
    arguments: [
      ("text and line breaks stay", Array("grün\n\tx".utf8), "grün\n\tx"),
      ("CR LF is a line break", Array("a\r\nb\r".utf8), "a\nb\\x0d"),
      ("escape sequences are shown", Array("\u{1b}[2J".utf8), "\\x1b[2J"),
      ("C1 controls too", Array("\u{9b}31m".utf8), "\\x9b31m"),
      ("bytes that are no UTF-8", [0x61, 0xff, 0xc3, 0x62, 0xc3, 0xbc], "a\\xff\\xc3bü"),
      ("a surrogate half and an overlong form", [0xed, 0xa0, 0x80, 0xc0, 0xaf], "\\xed\\xa0\\x80\\xc0\\xaf"),
      ("nothing", [], ""),
    ] as [(String, [UInt8], String)]) func message(_ name: String, _ bytes: [UInt8], _ shown: String)
  {
    #expect(Printable.message(bytes) == shown, "\(name)")
  }

  @Test func anUnfinishedLetterWaits() {
    let euro = Array("€".utf8)
    #expect(Printable.unfinished([]) == 0)
    #expect(Printable.unfinished(Array("a".utf8)) == 0)
    #expect(Printable.unfinished(euro) == 0)
    #expect(Printable.unfinished(Array(euro[..<1])) == 1)
    #expect(Printable.unfinished(Array(euro[..<2])) == 2)
    #expect(Printable.unfinished(Array("👍".utf8.prefix(3))) == 3)
    #expect(Printable.unfinished([0x80, 0x80, 0x80, 0x80]) == 0)
  }
}

@Suite struct InputSplitterTests {
  private func lines(_ pieces: [String], limit: Int = 100) throws -> [String] {
    var splitter = InputSplitter(mode: .lines, limit: limit)
    var out = try pieces.flatMap { try splitter.add(Array($0.utf8)) }
    if let last = splitter.finish() { out.append(last) }
    return out.map { String(decoding: $0, as: UTF8.self) }
  }

  @Test(
    arguments: [
      (["a\nb\n"], ["a", "b"]), (["a", "b\nc", "\n\nd"], ["ab", "c", "", "d"]), ([], []), (["\n"], [""]),
      (["no end"], ["no end"]),
    ] as [([String], [String])]) func cutsLines(_ pieces: [String], _ expected: [String]) throws
  {
    #expect(try lines(pieces) == expected)
  }

  @Test func drippedBytesGiveTheSame() throws {
    let text = "one\ntwo\n\nthree"
    #expect(try lines(text.map(String.init)) == lines([text]))
  }

  @Test func aLineOverTheLimitIsRefusedBeforeItsEnd() {
    #expect(throws: InputSplitter.TooLong(limit: 4)) { try lines(["123", "45"], limit: 4) }
    #expect(throws: InputSplitter.TooLong(limit: 4)) { try lines(["12345\n"], limit: 4) }
  }

  @Test func piecesAreCutToSize() throws {
    var splitter = InputSplitter(mode: .pieces(3), limit: 0)
    #expect(try splitter.add([1, 2, 3, 4]) == [[1, 2, 3], [4]])
    #expect(try splitter.add([]) == [])
    #expect(splitter.finish() == nil)
  }
}

@Suite struct ProgressTests {
  @Test func saysHowFarHowFastAndHowLong() {
    var progress = Progress(total: 100 << 20, now: 10)
    progress.advance(25 << 20)
    #expect(progress.text(now: 15) == "25 MiB of 100 MiB (25 %), 5 MiB/s, 15 s left")
    var unknown = Progress(total: nil, now: 0)
    unknown.advance(1536)
    #expect(unknown.text(now: 1) == "1.5 KiB, 1.5 KiB/s")
  }

  @Test func showsNothingForAShortTransferAndNotTooOften() {
    var progress = Progress(total: nil, now: 0)
    #expect(progress.line(now: 0.4) == nil)
    #expect(progress.line(now: 0.6) != nil)
    #expect(progress.line(now: 0.65) == nil)
    #expect(progress.line(now: 0.75) != nil)
  }

  @Test(
    arguments: [
      (0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1_048_575, "1 MiB"), (1.5e9, "1.4 GiB"), (1e15, "909 TiB"),
    ] as [(Double, String)]) func amounts(_ bytes: Double, _ text: String)
  {
    #expect(Progress.amount(bytes) == text)
  }
}

@Suite struct TargetTests {
  @Test(
    arguments: [
      ("p2pd1abc", .node("p2pd1abc")), ("p2pd9xyz", .node("p2pd9xyz")), ("example.org:7", .host("example.org", 7)),
      ("192.0.2.1:65535", .host("192.0.2.1", 65535)), ("[2001:db8::1]:80", .host("2001:db8::1", 80)),
      ("[fe80::1%eth0]:80", .host("fe80::1%eth0", 80)), ("unix:/run/x", .unix("/run/x")), ("2001:db8::1:80", nil),
      ("host", .name("host")), ("example.peer", .name("example.peer")), ("p2pd-fan.peer", .name("p2pd-fan.peer")),
      ("ü.peer", .name("ü.peer")), ("192.0.2.1", nil), ("a b.peer", nil), ("host:", nil), ("host:0", nil),
      ("host:65536", nil), (":80", nil), ("unix:", nil), ("", nil), ("[]:80", nil),
    ] as [(String, Target?)]) func reads(_ text: String, _ target: Target?)
  {
    #expect(Target(argument: text) == target)
  }
}

@Suite struct TemplateTests {
  @Test(arguments: [
    ("guess", true), ("tic-tac_toe2", true), ("", false), ("2guess", false), ("a b", false), ("ü", false),
    ("a_test", false),
    (String(repeating: "a", count: 64), false),
  ]) func names(_ name: String, _ isGood: Bool) {
    #expect(HandlerTemplate.isName(name) == isGood)
  }

  @Test func pathsSplit() {
    #expect(HandlerTemplate.split("a/b/c.lua") == ("a/b", "c"))
    #expect(HandlerTemplate.split("c") == ("", "c"))
    #expect(HandlerTemplate.split("/c") == ("/", "c"))
  }

  @Test func textsNameTheProtocolAndTheCommandsToType() {
    let template = HandlerTemplate(name: "guess", program: "scripts/run", path: "games/guess.lua")
    #expect(template.handler.contains("M.protocol = \"guess\""))
    #expect(template.handler.contains("$ scripts/run run games/guess.lua"))
    #expect(template.test.contains("$ scripts/run test games/guess_test.lua"))
    #expect(template.test.contains("lab.node(\"guess.lua\")"))
  }
}

@Suite struct ShellWordTests {
  @Test(arguments: [
    ("a-b/c.lua", "a-b/c.lua"), ("my file", "'my file'"), ("it's", "'it'\\''s'"), ("", "''"), ("$x", "'$x'"),
  ])
  func quotes(_ word: String, _ quoted: String) {
    #expect(Environment.shellWord(word) == quoted)
  }
}
