import ArgumentParser
import LuaVM
import P2PDNet
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
    let nothing = ConfigFile(servers: ServerList())
    _ = try memoryLimit(nothing)
    _ = try runTime(nothing)
    _ = try Environment.flag("P2PD_SANDBOX")
  }

  private func memoryLimit(_ config: ConfigFile) throws -> Int? {
    guard let mebibytes = try memory ?? Environment.value("P2PD_MEMORY", as: Int.self) ?? config.memory else {
      return nil
    }
    guard (1...(1 << 20)).contains(mebibytes) else {
      throw ValidationError("The memory limit is given in MiB, from 1 to \(1 << 20); \(mebibytes) is not.")
    }
    return mebibytes << 20
  }

  private func runTime(_ config: ConfigFile) throws -> Double? {
    guard let seconds = try timeLimit ?? Environment.value("P2PD_TIME_LIMIT", as: Double.self) ?? config.timeLimit
    else {
      return nil
    }
    guard (0.01...3600).contains(seconds) else {
      throw ValidationError("The time limit is given in seconds, from 0.01 to 3600; \(seconds) is not.")
    }
    return seconds
  }

  /// The options of a script host, with `scripts/lib` among the folders `require` looks into.
  func scriptOptions(_ config: ConfigFile = ConfigFile(servers: ServerList())) throws -> ScriptOptions {
    var options = ScriptOptions()
    if let memory = try memoryLimit(config) { options.limits.memory = memory }
    if let runTime = try runTime(config) { options.limits.runTime = runTime }
    options.sandbox = try sandbox || Environment.flag("P2PD_SANDBOX") || config.sandbox == true
    options.moduleDirectories = ModuleFolder.all
    return options
  }
}
