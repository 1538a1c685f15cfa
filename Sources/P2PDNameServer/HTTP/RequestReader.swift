import NIOCore
import NIOHTTP1

/// Puts requests together from their parts and says when one is whole, or what is wrong with it. Stepped by hand.
struct RequestReader {
  enum Step: Equatable {
    /// The client waits for a word before it sends the body (RFC 9110 §10.1.1).
    case goOn
    case request(NameRequest, Manner)
    /// To be answered now. Where `Manner.closes`, the rest of the request is not looked at.
    case refuse(APIAnswer, Manner)
  }

  /// How the answer goes out.
  struct Manner: Equatable {
    /// The connection ends with the answer.
    var closes: Bool
    /// An answer to HEAD has no body.
    var isHead: Bool
    /// What a reverse proxy says of where the request came from.
    var forwarded: [String]
    var method: HTTPMethod
  }

  private enum State {
    case waiting
    case body(NameRequest.Route, Manner, [UInt8])
    /// Refused; it has no body, so the answer goes when it is over.
    case refused(APIAnswer, Manner)
  }

  private var state = State.waiting

  /// Between two requests.
  var isWaiting: Bool { if case .waiting = state { true } else { false } }

  mutating func take(_ part: HTTPServerRequestPart) -> Step? {
    switch part {
    case .head(let head): return begin(head)
    case .body(let bytes): return add(bytes)
    case .end: return end()
    }
  }

  private mutating func begin(_ head: HTTPRequestHead) -> Step? {
    let headers = head.headers
    let length = headers.first(name: "content-length").flatMap { Int($0) }
    let hasBody = length.map { $0 > 0 } ?? headers.contains(name: "transfer-encoding")
    // Nothing is upgraded to here, and NIO reads no further after a request that asks for it.
    let isUpgrade = head.method == .CONNECT || headers.contains(name: "upgrade")
    var manner = Manner(
      closes: !head.isKeepAlive || isUpgrade, isHead: head.method == .HEAD, forwarded: headers["x-forwarded-for"],
      method: head.method)
    func refuse(_ answer: APIAnswer) -> Step? {
      if hasBody || isUpgrade { manner.closes = true }
      guard !manner.closes else { return .refuse(answer, manner) }
      state = .refused(answer, manner)
      return nil
    }
    guard head.version.minor == 0 || headers["host"].count == 1 else { return refuse(.noHost) }
    if let length, length > APIAnswer.longestBody { return refuse(.tooLarge) }
    let route: NameRequest.Route
    do throws(APIAnswer) { route = try NameRequest.route(head.method, head.uri) } catch { return refuse(error) }
    state = .body(route, manner, [])
    guard hasBody, headers.first(name: "expect")?.lowercased() == "100-continue" else { return nil }
    return .goOn
  }

  private mutating func add(_ bytes: ByteBuffer) -> Step? {
    guard case .body(let route, var manner, var body) = state else { return nil }
    guard bytes.readableBytes <= APIAnswer.longestBody - body.count else {
      state = .waiting
      manner.closes = true
      return .refuse(.tooLarge, manner)
    }
    body.append(contentsOf: bytes.readableBytesView)
    state = .body(route, manner, body)
    return nil
  }

  private mutating func end() -> Step? {
    defer { state = .waiting }
    switch state {
    case .waiting: return nil
    case .refused(let answer, let manner): return .refuse(answer, manner)
    case .body(let route, let manner, let body): return .request(NameRequest(route, manner.method, body: body), manner)
    }
  }
}
