import P2PDNet
import Testing

@testable import P2PDNames

@Suite struct NamesFileTests {
  private let key = [UInt8](repeating: 7, count: 32)
  private let other = [UInt8](repeating: 9, count: 32)
  /// An address is what begins so; the digit behind it says whose it is.
  private let reader: AddressReader = { text throws(NetError) in
    guard text.hasPrefix("p2pd1"), let digit = text.last?.wholeNumberValue else {
      throw NetError(.badAddress, "read", cause: "no address")
    }
    return [UInt8](repeating: UInt8(digit), count: 32)
  }

  private func file(_ text: String) throws(NetError) -> NamesFile {
    try NamesFile(text: text, path: "/n", keyOfAddress: reader)
  }

  private func failure(_ text: String) -> NetError? {
    do throws(NetError) {
      _ = try file(text)
      return nil
    } catch { return error }
  }

  @Test("names with addresses and keys, comments, blanks and other ends of lines")
  func reads() throws {
    let id = Base32.encode(key)
    let read = try file("# mine\r\nalice p2pd1x9\n\n  Bob.peer\t\(id.uppercased())  # a key\nnode.example.org p2pd1y9")
    #expect(read.entries.count == 3)
    #expect(read[try PeerName("alice.local")] == NamesFile.Entry(key: other, address: "p2pd1x9", line: 2))
    #expect(read[try PeerName("bob.peer")] == NamesFile.Entry(key: key, address: nil, line: 4))
    #expect(read[try PeerName("node.example.org")]?.line == 5)
    #expect(try file("").entries.isEmpty)
  }

  @Test("what is wrong is told with file and line")
  func errors() throws {
    for (text, code, place) in [
      ("a", NetError.Code.badAddress, "/n:1"), ("\na b c", .badAddress, "/n:2"), ("x y", .badAddress, "/n:1"),
      ("a!b p2pd1x9", .badName, "/n:1"), ("a p2pd1x9\nb p2pd1x9\nA p2pd1x7", .badName, "/n:3"),
    ] {
      let error = failure(text)
      #expect(error?.code == code && error?.what.hasSuffix(place) == true, "\(text): \(String(describing: error))")
    }
    #expect(failure("a p2pd1x9\nA p2pd1x9")?.cause == "a.local stands in line 1 already")
    #expect(failure(String(repeating: "#", count: NamesFile.largest + 1))?.code == .tooLarge)
  }

  @Test("pins survive their text, and a damaged line is no missing one")
  func pins() throws {
    var known = KnownNames()
    let (a, b) = (try PeerName("a.peer"), try PeerName("b.local"))
    #expect(known.pin(a, key) == true)
    #expect(known.pin(b, other) == true)
    #expect(try KnownNames(text: known.text, path: "/k") == known)
    #expect(known.forget(b) == true)
    #expect(known.forget(b) == false)
    #expect(known[b] == nil && known[a] == key)
    #expect(throws: NetError.self) { try KnownNames(text: "a.peer \(Base32.encode(key).dropLast())", path: "/k") }
    #expect(throws: NetError.self) { try KnownNames(text: "ok.peer \(Base32.encode(key))\njunk", path: "/k") }
    #expect(try KnownNames(text: "# nothing\n\n", path: "/k") == KnownNames())
  }
}
