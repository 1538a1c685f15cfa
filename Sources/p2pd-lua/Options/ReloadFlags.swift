import ArgumentParser
import NIOCore
import P2PDScript

/// How the scripts of a running node are loaded anew.
struct ReloadFlags: ParsableArguments {
  @Flag(help: "Do not reload scripts by itself when their files are saved; SIGHUP still reloads all (P2PD_NO_WATCH=1).")
  var noWatch = false

  @Flag(help: "Keep a new generation of a script in service even if it fails more than the one before.")
  var noAutoRollback = false

  @Option(
    help: ArgumentHelp(
      "What handlers in flight get to end on the old code after a reload; then their waits fail with the code 'reloaded'.",
      discussion: "Default: 10", valueName: "seconds"))
  var reloadDeadline: Double?

  func validate() throws {
    if let reloadDeadline, !(0...3600).contains(reloadDeadline) {
      throw ValidationError("--reload-deadline is given in seconds, from 0 to 3600; \(reloadDeadline) is not.")
    }
    _ = try Environment.flag("P2PD_NO_WATCH")
  }

  func watches() throws -> Bool { try !noWatch && !Environment.flag("P2PD_NO_WATCH") }

  func apply(to options: inout ScriptOptions) {
    options.autoRollback = !noAutoRollback
    if let reloadDeadline { options.reload.handlerDeadline = .nanoseconds(Int64(reloadDeadline * 1e9)) }
  }
}
