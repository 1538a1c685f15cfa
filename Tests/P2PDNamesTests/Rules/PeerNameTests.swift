import P2PDNet
import Testing

@testable import P2PDNames

@Suite("Names of nodes") struct PeerNameTests {
  @Test(
    "one name, one form",
    arguments: [
      ("example.peer", "example.peer"), ("Example.PEER", "example.peer"), ("a-1.peer", "a-1.peer"),
      ("7.peer", "7.peer"),
      // Composed, whatever the keyboard sends.
      ("cafe\u{301}.peer", "caf\u{e9}.peer"), ("CAFE\u{301}.peer", "caf\u{e9}.peer"), ("CAFÉ.peer", "caf\u{e9}.peer"),
      ("vie\u{323}\u{302}t.peer", "vi\u{1ec7}t.peer"), ("vie\u{302}\u{323}t.peer", "vi\u{1ec7}t.peer"),
      // Full width, and the full stop of East Asian keyboards.
      ("ｅｘａｍｐｌｅ。peer", "example.peer"), ("ＥＸＡＭＰＬＥ．peer", "example.peer"),
      // Case folding goes further than lower case.
      ("straße.peer", "strasse.peer"), ("ﬁsh.peer", "fish.peer"), ("ΜΑΪΟΣ.peer", "μαϊοσ.peer"),
      ("μαϊος.peer", "μαϊοσ.peer"),
      ("ſee.peer", "see.peer"),
      ("привет.peer", "привет.peer"), ("ПРИВЕТ.peer", "привет.peer"), ("и\u{306}од.peer", "йод.peer"),
      ("հայաստան.peer", "հայաստան.peer"), ("თბილისი.peer", "თბილისი.peer"), ("שלום.peer", "שלום.peer"),
      ("مرحبا.peer", "مرحبا.peer"), ("علی.peer", "علي.peer"),
      ("\u{1112}\u{1161}\u{11ab}\u{1100}\u{1173}\u{11af}.peer", "한글.peer"), ("한글.peer", "한글.peer"),
      ("東京タワー.peer", "東京タワー.peer"), ("か\u{3099}っこう.peer", "がっこう.peer"), ("中文-2.peer", "中文-2.peer"),
      ("node.example.org", "node.example.org"),
    ])
  func kept(text: String, form: String) throws {
    let name = try PeerName(text)
    #expect(Array(name.description.utf8) == Array(form.utf8))
    // A kept form stays as it is.
    let again = try PeerName(name.description)
    #expect(Array(again.description.utf8) == Array(form.utf8))
  }

  /// Each refusal says which character, and what to do.
  @Test(
    "what could be taken for another name is none",
    arguments: [
      ("p\u{430}ypal.peer", "U+0430 CYRILLIC SMALL LETTER A"), ("\u{440}\u{430}\u{443}.peer", "look like Latin"),
      ("\u{3bf}\u{3bd}\u{3bf}.peer", "look like Latin"), ("\u{578}\u{585}.peer", "look like Latin"),
      ("\u{443}\u{430}-1.peer", "look like Latin"), ("\u{5d5}\u{5e1}.peer", "look like Latin"),
      ("ｐａｙ\u{440}al.peer", "U+0440"), ("abγ.peer", "Greek"), ("привет東.peer", "mixes"), ("ab東.peer", "mixes"),
      ("a\u{200b}b.peer", "U+200B"), ("a\u{202e}b.peer", "U+202E"), ("a\u{200d}b.peer", "U+200D"),
      ("a\u{ad}b.peer", "U+00AD"),
      ("a b.peer", "U+0020"), ("a\u{0}b.peer", "U+0000"), ("a\u{7f}b.peer", "U+007F"), ("a\u{85}b.peer", "U+0085"),
      ("a\u{3164}b.peer", "U+3164"), ("a\u{fe0f}.peer", "U+FE0F"), ("a\u{e0041}.peer", "U+E0041"),
      ("a\u{2066}b.peer", "U+2066"),
      ("a_b.peer", "hyphen"), ("a\u{2010}b.peer", "hyphen"), ("a\u{2212}b.peer", "hyphen"),
      ("a\u{2013}b.peer", "hyphen"),
      ("-a.peer", "hyphen"), ("a-.peer", "hyphen"), (".peer", "empty"), ("a..peer", "two in a row"), (".a.peer", "dot"),
      ("xn--80ak6aa92e.peer", "xn--"), ("a\u{661}.peer", "digits 0-9"), ("\u{661}\u{662}.peer", "digits 0-9"),
      ("\u{131}an.peer", "U+0131"), ("i\u{307}an.peer", "U+0307"), ("x\u{301}\u{301}.peer", "U+0301"),
      ("\u{1d41a}bc.peer", "variant"), ("☃.peer", "U+2603"), ("a!b.peer", "U+0021"), ("1\u{5d0}.peer", "right to left"),
      ("\u{1f600}.peer", "U+1F600"), ("\u{e000}.peer", "U+E000"), ("क.peer", "U+0915"), ("\u{2c6}a.peer", "U+02C6"),
      ("二ンジャ.peer", "another character"), ("カタ.peer", "another character"), ("ー東.peer", "another character"),
      ("\u{9ff0}\u{378}.peer", "U+0378"), ("\u{1c0}a.peer", "U+01C0"), ("\u{251}.peer", "U+0251"),
      ("ａ\u{ffa0}.peer", "U+FFA0"),
      ("peer", "no ending"), ("a.", "no ending"), ("", "no ending"), ("1.2.3.4", "a letter"), ("a.pеer", "a-z"),
      ("a.-p", "a-z"),
      ("1234567890123456789012345678901234567890-abcdefghij.peer", "51 bytes"),
      ("привет-привет-привет-привет.peer", "51 bytes"),
    ])
  func refused(text: String, why: String) {
    do throws(NetError) {
      let name = try PeerName(text)
      Issue.record("\(name) was taken")
    } catch {
      #expect(error.code == .badName)
      #expect(error.description.contains(why), "\(error)")
      #expect(!error.description.unicodeScalars.contains { $0 != "\n" && $0 != " " && !LabelRules.isVisible($0) })
    }
  }

  @Test("50 bytes are allowed, and a long text costs no more than its look")
  func lengths() throws {
    let fifty = String(repeating: "a", count: 50)
    #expect(try PeerName(fifty, tld: "peer").label == fifty)
    // 25 full-width letters are 75 bytes as typed and 25 as kept.
    #expect(try PeerName(String(repeating: "ａ", count: 50) + ".peer").label == fifty)
    #expect(throws: NetError.self) { try PeerName(String(repeating: "a", count: 1 << 20) + ".peer") }
    #expect(throws: NetError.self) { try PeerName(label: String(repeating: "e\u{301}", count: 1 << 18), tld: "peer") }
  }

  @Test("no kept label has anything in it that Unicode's own folding would change")
  func stable() {
    // Where letters with variants are: all but the Han and Hangul in between, and mathematics.
    for value: UInt32 in [0..<0x3400, 0xa640..<0xac00, 0xf900..<0x1_0000, 0x1_d400..<0x1_d800].joined() {
      guard let scalar = Unicode.Scalar(value), let name = try? PeerName(label: String(scalar), tld: "peer") else {
        continue
      }
      let changing = name.label.unicodeScalars.filter(\.properties.changesWhenNFKCCaseFolded)
      #expect(changing.isEmpty)
      #expect((try? PeerName(label: name.label, tld: "peer")) == name)
    }
  }

  @Test("each lookalike is a letter that names have, and its twin one that people type")
  func lookalikes() {
    for (letter, _) in Lookalikes.latin { #expect(Script(of: letter) != nil, "\(codePoint(letter))") }
    for (letters, twins) in Lookalikes.pairs { #expect(letters.unicodeScalars.count == twins.count, "\(letters)") }
  }

  @Test("what is meant as a name, and what as an address or host")
  func meant() throws {
    for text in ["example.peer", "example.org", "пример.peer", "bad name.peer".replacing(" ", with: "_"), "a。peer"] {
      #expect(PeerName.isName(text), "\(text)")
    }
    for text in [
      "example", "127.0.0.1", "example.org:80", "[::1]:80", "p2pd1abcdef", "", ".", ".peer", "a.", "a b.peer",
      "http://a.b",
      "./a.lua/b", "1.2",
    ] {
      #expect(!PeerName.isName(text), "\(text)")
    }
    let (short, full, domain) = (
      try PeerName("example", tld: "peer"), try PeerName("example.home", tld: "peer"), try PeerName("a.example.org")
    )
    #expect(short.description == "example.peer" && full.description == "example.home")
    #expect(!domain.isRegistrable && full.isRegistrable)
  }
}
