import LuaVM
import NIOCore
import P2PDNode

/// What a ``ScriptHost`` is made with.
public struct ScriptOptions: Sendable {
  /// Memory and time the scripts may use.
  public var limits = LuaLimits()
  /// Scripts get no files, no processes and no C modules.
  public var sandbox = false
  /// Where `require` looks after the script's own folder.
  public var moduleDirectories: [String] = []
  /// What `p2pd.node { ... }` starts from; the script's options win. Its servers are also those that `p2pd.stun_client`,
  /// `p2pd.ntp` and `nic:load_nat` ask where the script names nobody.
  public var nodeDefaults = NodeConfiguration()
  /// Errors written out per script and second; the rest are counted.
  public var errorsPerSecond = 5
  /// How reloads go.
  public var reload = ReloadOptions()
  /// A generation that fails in its first time of service is replaced by the one before.
  public var autoRollback = true
  /// Where `print` of an `exec` script goes; nil is standard output.
  public var output: (any ScriptOutput)?

  public init() {}
}

/// The times of a reload, and what is kept for a rollback.
public struct ReloadOptions: Sendable {
  /// What handlers of the old generation that are in flight get before their waits fail with the code `reloaded`.
  public var handlerDeadline = TimeAmount.seconds(10)
  /// What they get after that, before they are ended.
  public var grace = TimeAmount.seconds(1)
  /// What the old generation's `stop` gets before the new one's `start` is called.
  public var stopTime = TimeAmount.seconds(2)
  /// How long a new generation is watched.
  public var probation = TimeAmount.seconds(30)
  /// Generations whose sources are kept, the one in service included.
  public var kept = 5
  /// Read sources on the event loop: for loops with a time of their own, where another thread would come too late.
  public var readsOnLoop = false

  public init() {}

  /// What fails a wait of a handler whose generation has been replaced.
  static let code = "reloaded"
  static let reason = "another generation of the script serves"
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

  mutating func add(_ counters: Generation.Counters) {
    messages &+= counters.messages
    errors &+= counters.errors
  }
}
