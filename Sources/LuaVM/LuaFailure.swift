internal import CLua

/// Why Lua code failed.
public struct LuaFailure: Error, @unchecked Sendable, CustomStringConvertible {
  public enum Kind: Sendable {
    /// `error(...)`, a runtime error, or a value that cannot cross.
    case error
    case syntax
    /// The memory limit.
    case memory
    /// Stopped for running too long without a wait.
    case time
    /// The task was cancelled and let that end it; or `os.exit`.
    case cancelled

    init(_ code: Int32) {
      switch code {
      case CLUA_FAILED_SYNTAX: self = .syntax
      case CLUA_FAILED_MEMORY: self = .memory
      case CLUA_FAILED_TIME: self = .time
      case CLUA_FAILED_CANCELLED: self = .cancelled
      default: self = .error
      }
    }
  }

  public var kind: Kind
  /// Begins with `file:line:` where Lua gave one.
  public var message: String
  /// "stack traceback:" and a line per call, through nested coroutines; empty where there was no stack.
  public var traceback: String
  /// The error value: an object of the host's arrives intact.
  public var value: LuaValue

  public init(kind: Kind = .error, message: String, traceback: String = "", value: LuaValue = .nil) {
    self.kind = kind
    self.message = message
    self.traceback = traceback
    self.value = value
  }

  public var description: String { traceback.isEmpty ? message : message + "\n" + traceback }
}
