import ArgumentParser
import P2PDNode

/// Where this machine's node keeps its key, its port and the history of `connect`.
struct StateOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Folder of the node's key and port.",
      discussion: "Default: $XDG_STATE_HOME/p2pd-lua or ~/.local/state/p2pd-lua (P2PD_STATE_DIR)", valueName: "folder"))
  var stateDir: String?

  @Flag(help: "Take a fresh key and port for this run and keep nothing.")
  var ephemeral = false

  func validate() throws {
    if stateDir?.isEmpty == true { throw ValidationError("--state-dir needs the name of a folder.") }
    if ephemeral, stateDir != nil {
      throw ValidationError("--ephemeral keeps nothing, so --state-dir has no meaning with it.")
    }
  }

  /// The folder the user named; nil leaves it to the node (``StateFolder/defaultPath``).
  var given: String? { Self.given(stateDir) }

  /// The folder in force; nil where nothing says where the user's home is.
  var folder: String? { Self.folder(stateDir) }

  static func given(_ option: String?) -> String? {
    if let option { return option }
    let fromEnvironment = Environment.value("P2PD_STATE_DIR") ?? ""
    return fromEnvironment.isEmpty ? nil : fromEnvironment
  }

  static func folder(_ option: String?) -> String? { given(option) ?? StateFolder.defaultPath }
}
