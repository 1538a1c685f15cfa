import LuaVM
import P2PDNet

/// What a script gets as `err`: a code for programs, a sentence for people, and the failures of all attempts.
final class ErrorObject {
  let code: String
  let message: String
  let attempts: [ErrorObject]
  let remedy: String
  let way: NetError.Way?

  init(
    code: String, message: String, attempts: [ErrorObject] = [], remedy: String = "", way: NetError.Way? = nil
  ) {
    self.code = code
    self.message = message
    self.attempts = attempts
    self.remedy = remedy
    self.way = way
  }

  convenience init(_ error: NetError) {
    self.init(
      code: error.code.rawValue, message: error.description, attempts: error.attempts.map { ErrorObject($0) },
      remedy: error.remedy, way: error.way)
  }

  func field(_ name: String) -> LuaReturn? {
    switch name {
    case "code": .string(code)
    case "message": .string(message)
    case "attempts": .values([.list(attempts.map { .object($0) })])
    case "remedy": .string(remedy)
    case "strategy": .string(way?.strategy ?? "")
    case "by_peer": .one(.bool(way?.isPeers ?? false))
    case "from": .string(way?.from?.description ?? "")
    case "to": .string(way?.to?.description ?? "")
    default: nil
    }
  }
}

extension ScriptHost {
  /// `nil, err`
  func failure(_ error: NetError) -> LuaReturn { .failure(ErrorObject(error)) }

  func failure(_ code: NetError.Code, _ what: String, cause: String = "") -> LuaReturn {
    failure(NetError(code, what, cause: cause))
  }

  /// Ends a wait with `nil, err`.
  func finish(_ waiter: Waiter, failing error: NetError) {
    waiter.finish([.nil, .object(ErrorObject(error))])
  }
}
