import P2PDNet

/// The form in which records travel:
///
///     {"name":"example.peer","key":"...","sequence":1,"expires":1790000000,"value":"...","signature":"..."}
///
/// Key and signature are base64url without padding (RFC 4648 §5). Members of other names are passed over, so that a
/// later version can add some.
extension NameRecord {
  public var json: [UInt8] { Array(jsonText.text.utf8) }

  package var jsonText: JSONText {
    .object([
      ("name", .string(name.description)), ("key", .string(Base64URL.encode(key))), ("sequence", .int(Int(sequence))),
      ("expires", .int(Int(expires))), ("value", .string(value)), ("signature", .string(Base64URL.encode(signature))),
    ])
  }

  /// Reads a record that others wrote. The signature is not checked, see ``isValid``.
  /// - Throws: `bad_record`, `bad_name`, `too_large`.
  public init(json: [UInt8]) throws(NetError) {
    guard json.count <= Self.longestJSON else {
      throw NetError(
        .tooLarge, "read a name's record", cause: "it has \(json.count) bytes, at most \(Self.longestJSON) are allowed")
    }
    let value: JSONText
    do throws(JSONReader.Problem) { value = try JSONReader.read(json) } catch {
      throw NetError(.badRecord, "read a name's record", cause: "it is no JSON: \(error)")
    }
    try self.init(jsonText: value)
  }

  package init(jsonText json: JSONText) throws(NetError) {
    guard case .object = json else {
      throw NetError(.badRecord, "read a name's record", cause: "it is no JSON object")
    }
    let written = try Self.string(json, "name")
    let name = try PeerName(written)
    guard name.isRegistrable, name.description.utf8.elementsEqual(written.utf8) else {
      throw Self.bad(name, "its name is not written as the servers keep it: \(quoted(name.description))")
    }
    try self.init(
      name: name, key: try Self.bytes(json, "key"), sequence: try Self.number(json, "sequence"),
      expires: try Self.number(json, "expires"), value: try Self.string(json, "value"),
      signature: try Self.bytes(json, "signature"))
  }

  private static func string(_ json: JSONText, _ key: String) throws(NetError) -> String {
    guard let text = json[key]?.string else { throw missing(key, "a string") }
    return text
  }

  private static func bytes(_ json: JSONText, _ key: String) throws(NetError) -> [UInt8] {
    guard let bytes = Base64URL.decode(Array(try string(json, key).utf8)) else {
      throw missing(key, "base64url without padding")
    }
    return bytes
  }

  private static func number(_ json: JSONText, _ key: String) throws(NetError) -> UInt64 {
    guard case .int(let value)? = json[key], let number = UInt64(exactly: value), number <= highestSequence else {
      throw missing(key, "a whole number from 0 to \(highestSequence)")
    }
    return number
  }

  private static func missing(_ key: String, _ what: String) -> NetError {
    NetError(.badRecord, "read a name's record", cause: "its \"\(key)\" is not \(what)")
  }

  /// Bytes: twice what the longest record needs, as every byte of a value may be escaped.
  public static let longestJSON = 4096
}
