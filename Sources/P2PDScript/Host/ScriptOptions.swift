import LuaVM
import P2PDNode

/// What a ``ScriptHost`` is made with.
public struct ScriptOptions: Sendable {
  /// Memory and time the scripts may use.
  public var limits = LuaLimits()
  /// Scripts get no files, no processes and no C modules.
  public var sandbox = false
  /// Where `require` looks after the script's own folder.
  public var moduleDirectories: [String] = []
  /// What `p2pd.node { ... }` starts from; the script's options win.
  public var nodeDefaults = NodeConfiguration()
  /// Errors written out per script and second; the rest are counted.
  public var errorsPerSecond = 5
  /// Where `print` of an `exec` script goes, a line without its end at a time; nil is standard output.
  public var output: (@Sendable (String) -> Void)?

  public init() {}
}

/// Counters of a script host.
public struct ScriptStatistics: Sendable {
  /// Bytes the VM holds.
  public var memory = 0
  /// Messages given to callbacks.
  public var messages: UInt64 = 0
  /// Callbacks and tasks that failed.
  public var errors: UInt64 = 0
  /// Tasks that run or wait.
  public var tasks = 0
  /// Open pipes a script has to do with.
  public var pipes = 0
}
