import NIOHTTP1
import P2PDNames
import P2PDNet

/// What a request is answered with, not yet as bytes. Those that are a refusal say `{"error":{"code":"...","message":"..."}}`.
struct APIAnswer: Error, Equatable {
  let status: HTTPResponseStatus
  let body: [UInt8]
  var contentType = "application/json"
  /// Seconds after which it is worth trying again.
  var retryAfter: UInt64?
  /// The methods that a path knows.
  var allow: String?

  static func found(_ name: FoundName) -> APIAnswer { APIAnswer(status: .ok, body: name.json) }
  static func text(_ text: String, type: String) -> APIAnswer {
    APIAnswer(status: .ok, body: Array(text.utf8), contentType: type)
  }

  static let notFound = refusal(.notFound, "not_found", "nobody holds this name")
  static let noSuchPath = refusal(
    .notFound, "not_found", "there is no such path; names are under /v1/names/, the rest is /v1/status and /metrics")
  static let tooLarge = refusal(.payloadTooLarge, "too_large", "a record has at most \(longestBody) bytes")
  static let headTooLarge = refusal(
    .requestHeaderFieldsTooLarge, "too_large", "a request's line and headers have at most \(longestHead) bytes")
  static let timeout = refusal(.requestTimeout, "timeout", "the request did not arrive in time")
  static let malformed = refusal(.badRequest, "bad_request", "this is no HTTP/1.1 request")
  static let noHost = refusal(.badRequest, "bad_request", "an HTTP/1.1 request has one Host header")
  static let stopping = refusal(.serviceUnavailable, "stopping", "this server is being stopped", retry: 5)
  static let busy = refusal(.serviceUnavailable, "busy", "this server has too much to do", retry: 1)
  static let crowded = refusal(.serviceUnavailable, "busy", "there are too many connections", retry: 5)

  static func badName(_ why: String) -> APIAnswer { refusal(.badRequest, "bad_name", why) }

  static func methodNotAllowed(_ allow: String) -> APIAnswer {
    var answer = refusal(.methodNotAllowed, "method_not_allowed", "this path knows \(allow)")
    answer.allow = allow
    return answer
  }

  static func tooFast(_ seconds: UInt64) -> APIAnswer {
    refusal(.tooManyRequests, "limit", "too many requests from this address", retry: seconds)
  }

  /// A record that is none, or cannot be taken now.
  static func refused(_ error: NetError) -> APIAnswer {
    switch error.code {
    case .tooLarge: refusal(.payloadTooLarge, error.code.rawValue, error.oneLine)
    default: refusal(.badRequest, error.code.rawValue, error.oneLine)
    }
  }

  /// The disk did not do what it should.
  static func broken(_ error: NetError) -> APIAnswer {
    refusal(.serviceUnavailable, "storage", error.cause.isEmpty ? error.what : error.cause, retry: 30)
  }

  static func pushed(_ record: NameRecord, _ outcome: NameOutcome) -> APIAnswer {
    switch outcome {
    // The tombstone is kept all the same: it keeps older records of that key from being played again.
    case .registered where record.isDeleted, .same where record.isDeleted: notFound
    case .registered: APIAnswer(status: .created, body: record.json)
    case .replaced, .same: APIAnswer(status: .ok, body: record.json)
    // Whose the name is, is not said here: who wants to know looks it up.
    case .wrongKey: refusal(.forbidden, "wrong_key", "another key holds this name")
    case .stale(let newest):
      refusal(
        .conflict, "stale", "the record here is newer; push with a sequence above its \(newest.sequence)",
        record: newest)
    case .limit(let why, let retry): refusal(.tooManyRequests, "limit", why, retry: retry)
    case .failed(let error): broken(error)
    }
  }

  private static func refusal(
    _ status: HTTPResponseStatus, _ code: String, _ message: String, retry: UInt64? = nil, record: NameRecord? = nil
  ) -> APIAnswer {
    let error = ("error", JSONText.object([("code", .string(code)), ("message", .string(message))]))
    let object = JSONText.object([error] + (record.map { [("record", $0.jsonText)] } ?? []))
    return APIAnswer(status: status, body: Array(object.text.utf8), retryAfter: retry)
  }

  /// Bytes of a body: the longest JSON that can be a record.
  static let longestBody = NameRecord.longestJSON
  /// Bytes of a request's line and headers together.
  static let longestHead = 8192
}
