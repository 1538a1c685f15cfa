@testable import P2PDNames

/// Names as people type them. Nothing may trap; what is taken is short, stays as it is when it is read again, and has
/// nothing in it that Unicode's folding would change or that a terminal would obey.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzName(_ data: UnsafePointer<UInt8>, _ size: Int) -> Int32 {
  let text = String(decoding: UnsafeBufferPointer(start: data, count: size), as: UTF8.self)
  _ = PeerName.isName(text)
  do {
    let name = try PeerName(text, tld: "peer")
    precondition((1...50).contains(name.label.utf8.count) && (1...63).contains(name.tld.utf8.count), "its length")
    precondition(name.label.unicodeScalars.allSatisfy(LabelRules.isVisible), "something that cannot be seen")
    precondition(!name.label.unicodeScalars.contains(where: \.properties.changesWhenNFKCCaseFolded), "not folded")
    let again = try? PeerName(name.description)
    precondition(again == name && again?.description.utf8.elementsEqual(name.description.utf8) == true, "not stable")
  } catch {
    precondition(error.code == .badName, "another error")
    let shown = error.description.unicodeScalars.allSatisfy { $0 == "\n" || LabelRules.isVisible($0) }
    precondition(shown, "an error that a terminal would obey")
  }
  return 0
}
