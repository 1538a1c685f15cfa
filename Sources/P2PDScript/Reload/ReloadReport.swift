/// What became of one reload or rollback of one protocol.
public struct ReloadReport: Codable, Sendable {
  public enum Result: String, Codable, Sendable {
    /// The new generation serves.
    case active
    /// The files hold what the generation in service was made of.
    case unchanged
    /// The generation that was in service still is; `error` says why.
    case rejected
    /// An earlier generation serves again.
    case rolledBack = "rolled back"
    /// A dry run: the files would be taken.
    case valid
    /// The protocol is not hosted any more.
    case removed
  }

  public var protocolName: String
  public var path: String
  /// What asked for it: `watch`, `signal`, `command`, `lua`, `api`, `probation`.
  public var trigger: String
  public var result = Result.unchanged
  public var dryRun = false
  /// The generations that served before and after.
  public var from: Int64?
  public var to: Int64?
  public var fromVersion: Int?
  public var toVersion: Int?
  public var files: [FileChange] = []
  /// Why it was rejected or rolled back; begins with `file:line:` where there is a line.
  public var error: String?
  public var traceback = ""
  public var times = Times()
  /// Open pipes that take the new generation with their next message.
  public var pipes = 0
  /// Handlers of the old generation that were running.
  public var inFlight = 0
  /// The protocol's generations that are alive after it.
  public var generations: [GenerationInfo] = []
  /// Nothing new: it is not logged, and nobody is told.
  var isQuiet = false

  /// Seconds.
  public struct Times: Codable, Sendable {
    /// Reading the files.
    public var read = 0.0
    /// Compiling, and running the top level.
    public var stage = 0.0
    /// Callbacks, servers, `M.check`.
    public var check = 0.0
    /// Looking through the state, or `M.migrate`.
    public var migrate = 0.0
    public var swap = 0.0
    /// The longest the event loop did nothing else; Lua runs in slices.
    public var pause = 0.0
    public var total = 0.0
  }

  public init(protocolName: String, path: String, trigger: String) {
    self.protocolName = protocolName
    self.path = path
    self.trigger = trigger
  }

  enum CodingKeys: String, CodingKey {
    case protocolName = "protocol"
    case path, trigger, result, dryRun, from, to, fromVersion, toVersion, files, error, traceback, times, pipes
    case inFlight, generations
  }

  /// Whether the files serve, or would.
  public var isGood: Bool { result != .rejected }
}

extension ReloadReport: CustomStringConvertible {
  /// The report as people read it: what came of it and why, then file and line of a fault and what to do about it.
  public var description: String {
    var text = "\(protocolName): \(outcome)"
    if result != .unchanged, !files.isEmpty { text += ": \(changes)" }
    text += " (\(([cause] + costs).joined(separator: ", ")))"
    if let error { text += "\n\(error)" }
    if !traceback.isEmpty { text += "\n\(traceback)" }
    if result == .rejected, trigger == "watch" { text += "\nIt is tried again when a file of it is saved." }
    return text
  }

  private var outcome: String {
    let generation = to.map { "generation \($0)" } ?? "the generation in service"
    switch result {
    case .active:
      let isMigrated = fromVersion != nil && fromVersion != toVersion
      return "\(generation) serves" + (isMigrated ? ", version \(fromVersion ?? 1) -> \(toVersion ?? 1)" : "")
    case .unchanged: return "the files are unchanged"
    case .rejected:
      if dryRun { return "would be refused" }
      return from.map { "not reloaded, generation \($0) serves on" } ?? "not loaded"
    case .rolledBack: return "rolled back, \(generation) serves"
    case .valid: return "the files would be taken"
    case .removed: return "not hosted any more"
    }
  }

  private var changes: String {
    let shown = files.prefix(Self.mostFiles).map { "\($0.path) \($0.change.rawValue)" }.joined(separator: ", ")
    return files.count > Self.mostFiles ? "\(shown) and \(files.count - Self.mostFiles) more" : shown
  }

  /// What asked for it.
  private var cause: String {
    switch trigger {
    case "watch": isAboutMissingFiles ? "gone" : "saved"
    case "signal": "SIGHUP"
    case "command": "by command"
    case "lua": "p2pd.reload"
    default: trigger
    }
  }

  private var isAboutMissingFiles: Bool {
    result == .removed || (!files.isEmpty && files.allSatisfy { $0.change == .removed })
  }

  private var costs: [String] {
    guard result == .active else { return [] }
    let swap = times.swap > 0 ? ["swapped in \(Self.milliseconds(times.swap))"] : []
    let moved = pipes > 0 ? ["\(pipes) open pipe\(pipes == 1 ? "" : "s") moved"] : []
    return ["loaded in \(Self.milliseconds(times.total - times.swap))"] + swap + moved
  }

  private static func milliseconds(_ seconds: Double) -> String { "\((seconds * 1e6).rounded() / 1e3) ms" }

  private static let mostFiles = 5
}

/// One generation, as it stands now.
public struct GenerationInfo: Codable, Sendable {
  public enum Phase: String, Codable, Sendable {
    case loading
    case live
    /// It can serve again at once: the one in service is on probation.
    case standby
    /// Its last handlers are ending.
    case leaving
    /// It serves the pipes that were open when its successor came.
    case draining
    /// Nothing of it runs; Lua has not collected it yet.
    case retired
  }

  public var id: Int64
  /// JSON `protocol`.
  public var protocolName: String
  public var version: Int
  public var phase: Phase
  /// SHA-256 of its files together, 64 hex digits.
  public var hash: String
  /// Seconds since it was loaded.
  public var since: Double
  public var messages: UInt64 = 0
  public var errors: UInt64 = 0
  /// Tasks stopped by the time limit.
  public var kills: UInt64 = 0
  /// Open pipes it serves.
  public var pipes = 0
  public var tasks = 0
  public var timers = 0
  public var listeners = 0
  /// Callbacks and sessions that run or wait.
  public var inFlight = 0
  /// Why it is still there, in words.
  public var keptAliveBy: [String] = []

  enum CodingKeys: String, CodingKey {
    case id
    case protocolName = "protocol"
    case version, phase, hash, since, messages, errors, kills, pipes, tasks, timers, listeners, inFlight, keptAliveBy
  }
}
