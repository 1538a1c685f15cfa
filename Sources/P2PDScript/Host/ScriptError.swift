import LuaVM

/// Why a script could not be loaded or run. Prints as the script's author wants to read it: `file:line: what`.
public struct ScriptError: Error, CustomStringConvertible, Sendable {
  public let file: String
  /// Begins with `file:line:` where the fault has a line.
  public let message: String
  /// The script's lines on the way to the fault; empty where there are none.
  public let traceback: String

  public init(file: String, message: String, traceback: String = "") {
    self.file = file
    self.message = message
    self.traceback = traceback
  }

  init(file: String, _ failure: LuaFailure) {
    self.init(file: file, message: failure.message, traceback: failure.traceback)
  }

  public var description: String { traceback.isEmpty ? message : "\(message)\n\(traceback)" }
}

/// A call that the API table does not allow: raised at the line of the call.
struct Misuse: Error {
  let message: String

  init(_ message: String) { self.message = message }

  /// Lua's own words for a wrong argument.
  static func argument(_ index: Int, _ function: String, expected: String, got: String) -> Misuse {
    Misuse("bad argument #\(index) to '\(function)' (\(expected) expected, got \(got))")
  }
}
