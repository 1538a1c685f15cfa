import Testing

@testable import P2PDScript

@Suite struct SpellingTests {
  @Test(arguments: [
    ("framming", "framing"), ("msg_bc", "msg_cb"), ("con_timout", "con_timeout"), ("msgCb", "msg_cb"),
    ("maxqsize", "max_qsize"),
  ])
  func findsWhatWasMeant(_ typed: String, _ meant: String) {
    #expect(Spelling.nearest(to: typed, among: API.pipeOptions.allFields.map(\.name)) == meant)
  }

  @Test func saysNothingAboutAWordThatIsFarFromAll() {
    #expect(Spelling.hint("wheelbarrow", among: ["framing", "tls"]) == "")
    #expect(Spelling.hint(String(repeating: "x", count: 1 << 16), among: ["framing"]) == "")
  }

  @Test func countsASwapAsOneEdit() {
    #expect(Spelling.distance(Array("msg_bc"), Array("msg_cb")) == 1)
    #expect(Spelling.distance(Array(""), Array("abc")) == 3)
  }
}
