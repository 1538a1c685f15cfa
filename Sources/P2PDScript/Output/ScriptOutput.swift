/// Where `print` of an `exec` script goes. Called on the host's loop, which must not be held up.
public protocol ScriptOutput: Sendable {
  /// Takes a line, its end included.
  func put(_ line: [UInt8])
  /// More waits for its reader than should: whoever prints waits too.
  var isFull: Bool { get }
  /// Calls back, on any thread, when it is not full.
  func whenRoom(_ done: @escaping @Sendable () -> Void)
  /// Calls back, on any thread, when all that was put is out, or cannot get out.
  func whenWritten(_ done: @escaping @Sendable () -> Void)
}

extension ScriptOutput {
  public var isFull: Bool { false }
  public func whenRoom(_ done: @escaping @Sendable () -> Void) { done() }
  public func whenWritten(_ done: @escaping @Sendable () -> Void) { done() }
}
