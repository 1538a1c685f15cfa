import LuaVM
import P2PDNet

/// What a script gets as `err`: a code for programs, a sentence for people, and the failures of all attempts.
final class ErrorObject {
  let code: String
  let message: String
  let attempts: [ErrorObject]
  private unowned let host: ScriptHost

  init(code: String, message: String, attempts: [ErrorObject] = [], host: ScriptHost) {
    self.code = code
    self.message = message
    self.attempts = attempts
    self.host = host
  }

  convenience init(_ error: NetError, host: ScriptHost) {
    self.init(
      code: error.code.rawValue, message: error.description, attempts: error.attempts.map { ErrorObject($0, host: host) }, host: host)
  }

  func field(_ name: String) throws -> LuaReturn? {
    switch name {
    case "code": .text(code)
    case "message": .text(message)
    case "attempts": .values([.list(try attempts.map { try host.object(host.classes.error, $0) })])
    default: nil
    }
  }
}

extension ScriptHost {
  /// `nil, err`
  func failure(_ error: NetError) -> LuaReturn { failure(ErrorObject(error, host: self)) }

  func failure(_ code: NetError.Code, _ what: String, cause: String = "") -> LuaReturn {
    failure(NetError(code, what, cause: cause))
  }

  func failure(_ error: ErrorObject) -> LuaReturn {
    do {
      return .values(try failureValues(error))
    } catch {
      return .raise("not enough memory")
    }
  }

  func failureValues(_ error: ErrorObject) throws -> [LuaValue] { [.nil, try object(classes.error, error)] }

  /// A new Lua object; whoever gets the value gives its reference back.
  func object(_ known: LuaClassID, _ object: AnyObject) throws -> LuaValue { .ref(try vm.makeObject(known, object)) }

  /// Ends a wait with `nil, err`.
  func finish(_ waiter: Waiter, failing error: NetError) {
    whenIdle {
      guard waiter.isWaiting, !self.isClosed else { return }
      if let values = try? self.failureValues(ErrorObject(error, host: self)) {
        waiter.finish(values)
      } else {
        waiter.fail(.string(Array("not enough memory".utf8)))
      }
    }
  }
}
