import ArgumentParser
import LuaVM
import P2PDScript

/// What a script may use up.
struct ScriptLimitOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Most memory the scripts may hold; beyond it an allocation is a Lua error.",
      discussion: "Default: 64 (P2PD_MEMORY)", valueName: "MiB"))
  var memory: Int?

  @Option(
    help: ArgumentHelp(
      "Longest a handler may run without waiting; beyond it, it is stopped with an error.",
      discussion: "Default: 1 (P2PD_TIME_LIMIT)", valueName: "seconds"))
  var timeLimit: Double?

  @Flag(help: "Take os.execute, io, package.loadlib, C modules and the like away from the scripts (P2PD_SANDBOX=1).")
  var sandbox = false

  func validate() throws {
    _ = try memoryLimit()
    _ = try runTime()
    _ = try Environment.flag("P2PD_SANDBOX")
  }

  private func memoryLimit() throws -> Int? {
    guard let mebibytes = try memory ?? Environment.value("P2PD_MEMORY", as: Int.self) else { return nil }
    guard (1...(1 << 20)).contains(mebibytes) else {
      throw ValidationError("The memory limit is given in MiB, from 1 to \(1 << 20); \(mebibytes) is not.")
    }
    return mebibytes << 20
  }

  private func runTime() throws -> Double? {
    guard let seconds = try timeLimit ?? Environment.value("P2PD_TIME_LIMIT", as: Double.self) else { return nil }
    guard (0.01...3600).contains(seconds) else {
      throw ValidationError("The time limit is given in seconds, from 0.01 to 3600; \(seconds) is not.")
    }
    return seconds
  }

  /// The options of a script host, with `scripts/lib` among the folders `require` looks into.
  func scriptOptions() throws -> ScriptOptions {
    var options = ScriptOptions()
    if let memory = try memoryLimit() { options.limits.memory = memory }
    if let runTime = try runTime() { options.limits.runTime = runTime }
    options.sandbox = try sandbox || Environment.flag("P2PD_SANDBOX")
    options.moduleDirectories = ModuleFolder.all
    options.stunServers = try StunServers.fromEnvironment() ?? options.stunServers
    return options
  }
}
