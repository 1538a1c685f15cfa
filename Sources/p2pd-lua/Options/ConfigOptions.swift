import ArgumentParser
import P2PDNet
import P2PDScript

/// Which configuration file is read.
struct ConfigOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Read settings from this file; 'none' reads no file.",
      discussion:
        "Default: \(ConfigFile.fileName) beside the script, else in ~/.config/p2pd-lua (P2PD_CONFIG)", valueName: "file"
    ),
    completion: .file(extensions: ["lua"]))
  var config: String?

  func validate() throws {
    if config?.isEmpty == true { throw ValidationError("--config needs the name of a file, or 'none'.") }
  }

  /// The settings in force before the environment and options.
  /// - Parameter script: beside which a file is looked for.
  func load(beside script: String? = nil) throws -> ConfigFile {
    let known = ServerList.publicServers
    let fromEnvironment = Environment.value("P2PD_CONFIG").flatMap { $0.isEmpty ? nil : $0 }
    let named = config ?? fromEnvironment
    if named == "none" { return ConfigFile(servers: known) }
    if let named, !Files.exists(named) { throw Failure("there is no configuration file \(named)") }
    guard let path = named ?? ConfigFile.find(beside: script, environment: Environment.all) else {
      return ConfigFile(servers: known)
    }
    do throws(ScriptError) {
      return try ConfigFile(path: path, servers: known)
    } catch {
      throw Failure(error.description)
    }
  }
}
