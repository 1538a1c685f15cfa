import NIOHTTP1
import P2PDNames
import P2PDNet

/// What a request asks for.
enum NameRequest: Equatable {
  case lookup(PeerName)
  /// - Parameter body: not yet looked into.
  case push(PeerName, body: [UInt8], isDeletion: Bool)
  case status
  case metrics

  /// Which method and path were meant; the body comes later.
  enum Route: Equatable {
    case name(PeerName)
    case status
    case metrics
  }

  /// - Throws: the answer that says what is wrong.
  static func route(_ method: HTTPMethod, _ uri: String) throws(APIAnswer) -> Route {
    let path = uri.prefix { $0 != "?" && $0 != "#" }
    let isReading = method == .GET || method == .HEAD
    if path == "/v1/status" || path == "/metrics" {
      guard isReading else { throw .methodNotAllowed("GET, HEAD") }
      return path == "/metrics" ? .metrics : .status
    }
    guard path.hasPrefix(namesPath) else { throw .noSuchPath }
    guard isReading || method == .PUT || method == .DELETE else { throw .methodNotAllowed("GET, HEAD, PUT, DELETE") }
    guard let text = unescape(path.dropFirst(namesPath.count)) else {
      throw .badName("it is not percent-encoded UTF-8")
    }
    let name: PeerName
    do throws(NetError) { name = try PeerName(text) } catch { throw .badName(error.oneLine) }
    guard name.isRegistrable else { throw .badName("name servers keep names of one label and an ending") }
    return .name(name)
  }

  init(_ route: Route, _ method: HTTPMethod, body: [UInt8]) {
    switch route {
    case .status: self = .status
    case .metrics: self = .metrics
    case .name(let name):
      let isReading = method == .GET || method == .HEAD
      self = isReading ? .lookup(name) : .push(name, body: body, isDeletion: method == .DELETE)
    }
  }

  /// Percent escapes (RFC 3986 §2.1); nil for broken ones and for what is no UTF-8.
  private static func unescape(_ text: Substring) -> String? {
    var rest = text.utf8[...]
    var bytes: [UInt8] = []
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      guard let high = rest.popFirst().flatMap(digit), let low = rest.popFirst().flatMap(digit) else { return nil }
      bytes.append(high << 4 | low)
    }
    return String(validating: bytes, as: UTF8.self)
  }

  private static func digit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
    default: nil
    }
  }

  private static let namesPath = "/v1/names/"
}

extension NetError {
  /// Cause and remedy, for one line of JSON.
  var oneLine: String {
    let text = cause.isEmpty ? what : cause
    return remedy.isEmpty ? text : "\(text). \(remedy)"
  }
}
