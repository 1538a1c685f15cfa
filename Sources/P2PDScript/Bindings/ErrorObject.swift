import LuaVM
import P2PDNet

/// What a script gets as `err`: a code for programs, a sentence for people, and the failures of all attempts.
final class ErrorObject {
  let code: String
  let message: String
  let attempts: [ErrorObject]

  init(code: String, message: String, attempts: [ErrorObject] = []) {
    self.code = code
    self.message = message
    self.attempts = attempts
  }

  convenience init(_ error: NetError) {
    self.init(code: error.code.rawValue, message: error.description, attempts: error.attempts.map { ErrorObject($0) })
  }

  func field(_ name: String) -> LuaReturn? {
    switch name {
    case "code": .string(code)
    case "message": .string(message)
    case "attempts": .values([.list(attempts.map { .object($0) })])
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
