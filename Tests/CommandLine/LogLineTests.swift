import Logging
import P2PDNet
import Synchronization
import Testing

@testable import p2pd_lua

@Suite struct LogLineTests {
  private func line(_ message: String, _ metadata: Logger.Metadata = [:], level: Logger.Level = .info) -> LogLine {
    LogLine(
      time: LogTime(seconds: 1_700_000_000, milliseconds: 7), level: level, label: "p2pd.node", message: message,
      metadata: metadata)
  }

  /// The text after the time, which depends on the place.
  private func text(_ line: LogLine) -> String { String(line.text(colours: false, withDate: false).dropFirst(13)) }

  @Test func textShowsLevelLabelMessageAndSortedMetadata() {
    let line = line("a peer came", ["b": "two words", "a": "1", "list": ["x", "y"]], level: .warning)
    #expect(text(line) == "warn    p2pd.node: a peer came a=1 b=\"two words\" list=\"[\\\"x\\\",\\\"y\\\"]\"\n")
  }

  @Test func furtherLinesAreIndented() {
    #expect(text(line("failed:\n\tping.lua:3: boom")) == "info    p2pd.node: failed:\n      ping.lua:3: boom\n")
  }

  @Test func aPeersControlCharactersDoNotReachTheTerminal() {
    let shown = line("said \u{1b}]0;owned\u{7} and \u{202e}", ["m": "\u{1b}[2J"]).text(colours: false, withDate: true)
    #expect(!shown.unicodeScalars.contains { $0 != "\n" && ($0.value < 0x20 || $0 == "\u{202e}") })
    #expect(shown.contains("said \\x1b]0;owned\\x07 and \\u{202e}"))
  }

  @Test func coloursOnlyWhenAsked() {
    #expect(line("x", ["a": "b"]).text(colours: true, withDate: false).contains("\u{1b}["))
    #expect(!line("x", ["a": "b"]).text(colours: false, withDate: false).contains("\u{1b}"))
  }

  @Test func theDateIsInTheLogThatIsKept() {
    let kept = line("x").text(colours: false, withDate: true)
    #expect(kept.prefix(24).filter { $0 == "-" }.count == 2)
    #expect(kept.hasPrefix("2023-11-1"))
  }

  @Test func jsonIsOneLineWithUTC() {
    #expect(
      line("a \"b\"\n\u{1}", ["n": ["k": "v"]]).json
        == #"{"time":"2023-11-14T22:13:20.007Z","level":"info","label":"p2pd.node","message":"a \"b\"\n\u0001","metadata":{"n":{"k":"v"}}}"#
        + "\n")
  }

  @Test func theHandlerMergesMetadataAndObeysItsLevel() {
    let lines = Lines()
    let queue = LogQueue { lines.add($0) }
    var logger = Logger(label: "t") { label in
      ConsoleLog(
        label: label, logLevel: .info, format: .json, colours: false, withDate: false, queue: queue)
    }
    logger[metadataKey: "pipe"] = "1"
    logger.debug("not this")
    logger.info("this", metadata: ["peer": "2"])
    #expect(queue.flush(within: .seconds(20)) && lines.all.count == 1)
    #expect(lines.all.first?.contains(#""metadata":{"peer":"2","pipe":"1"}"#) == true)
  }

  private final class Lines: Sendable {
    private let lines = Mutex<[String]>([])
    func add(_ line: String) { lines.withLock { $0.append(line) } }
    var all: [String] { lines.withLock { $0 } }
  }
}

@Suite struct JSONTextTests {
  @Test func prettyAndPlain() {
    let value = JSONText.object([
      ("a", .array([.int(1), .null, .bool(true)])), ("b", .object([])), ("c", .string("ü\u{7f}")),
    ])
    #expect(value.text == #"{"a":[1,null,true],"b":{},"c":"ü\u007f"}"#)
    #expect(value.pretty == "{\n  \"a\": [\n    1,\n    null,\n    true\n  ],\n  \"b\": {},\n  \"c\": \"ü\\u007f\"\n}")
  }
}
