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
    self.init(code: error.code.rawValue, message: error.description, attempts: error.attempts.map(ErrorObject.init))
  }
}

extension ScriptHost {
  /// `nil, err`
  func failure(_ error: NetError) -> LuaReturn { failure(ErrorObject(error)) }

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
      if let values = try? self.failureValues(ErrorObject(error)) {
        waiter.finish(values)
      } else {
        waiter.fail(.string(Array("not enough memory".utf8)))
      }
    }
  }
}
