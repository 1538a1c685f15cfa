import ArgumentParser
import Logging
import P2PDNet
import P2PDNode
import P2PDScript

/// Which servers the program may contact.
struct ServerOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The servers, one URL a line, in place of all others.",
      discussion: "Default: those of \(ConfigFile.fileName), else well-known public ones", valueName: "file"),
    completion: .file())
  var servers: String?

  @Option(
    help: ArgumentHelp(
      "A STUN server, HOST or HOST:PORT, in place of the others; may be given several times, as may the next three.",
      discussion: "It tells how this machine looks from outside (P2PD_STUN, separated by commas; 'none' for none)",
      valueName: "server"))
  var stun: [String] = []

  @Option(
    help: ArgumentHelp(
      "A broker, mqtts://HOST or mqtt://HOST.", discussion: "Others reach this node there (P2PD_BROKERS)",
      valueName: "url"))
  var broker: [String] = []

  @Option(
    help: ArgumentHelp(
      "A relay, turn:USER:PASSWORD@HOST.", discussion: "For peers that no other way leads to (P2PD_TURN)",
      valueName: "url"))
  var turn: [String] = []

  @Option(
    help: ArgumentHelp(
      "PEM file of the roots that the servers' certificates are checked against.",
      discussion: "Default: the machine's (P2PD_CA)", valueName: "file"),
    completion: .file())
  var ca: String?

  @Flag(help: "Contact no server, only the peers asked for (P2PD_OFFLINE=1).")
  var offline = false

  @Flag(help: "Do not ask the router to open the node's port (P2PD_NO_PORT_MAPPING=1).")
  var noPortMapping = false

  func validate() throws {
    _ = try Environment.flag("P2PD_OFFLINE")
    _ = try Environment.flag("P2PD_NO_PORT_MAPPING")
    // Without the files, which may not be there yet; they are read when the command runs.
    _ = try named(ServerList())
    if offline, servers != nil || !(stun + broker + turn).isEmpty {
      throw ValidationError("--offline contacts no server, so naming servers has no meaning with it.")
    }
  }

  func isOffline(_ config: ConfigFile) throws -> Bool {
    if offline { return true }
    if let said = Environment.value("P2PD_OFFLINE"), !said.isEmpty { return try Environment.flag("P2PD_OFFLINE") }
    return config.offline ?? false
  }

  /// The servers in force: those of the file, changed by the environment, changed by the options.
  func list(_ config: ConfigFile) throws -> ServerList {
    guard let servers else { return try named(config.servers) }
    guard let bytes = Files.read(servers, atMost: Self.largestFile) else {
      throw Failure(errno: "cannot read the list of servers \(servers)")
    }
    do throws(NetError) {
      return try options(ServerList(text: String(decoding: bytes, as: UTF8.self), file: servers))
    } catch {
      throw Failure("\(error)", remedy: "A line is a URL such as stun:HOST, mqtts://HOST or turn:USER:PASSWORD@HOST.")
    }
  }

  func caFile(_ config: ConfigFile) throws -> String? {
    let fromEnvironment = Environment.value("P2PD_CA").flatMap { $0.isEmpty ? nil : $0 }
    let file = ca ?? fromEnvironment ?? config.caFile
    if let file, !Files.exists(file) { throw Failure("there is no file \(file) to check certificates against") }
    return file
  }

  /// nil: as the servers say.
  func mapsPorts(_ config: ConfigFile) throws -> Bool? {
    if noPortMapping { return false }
    if let said = Environment.value("P2PD_NO_PORT_MAPPING"), !said.isEmpty {
      return try Environment.flag("P2PD_NO_PORT_MAPPING") ? false : nil
    }
    return config.portMapping
  }

  /// Puts the servers in force into a node's configuration.
  func apply(to node: inout NodeConfiguration, _ config: ConfigFile) throws {
    node.offline = try isOffline(config)
    node.servers = try list(config)
    node.caFile = try caFile(config)
    node.portMapping = try mapsPorts(config)
  }

  private func named(_ known: ServerList) throws -> ServerList {
    do throws(NetError) {
      return try options(try known.overridden(by: Environment.all))
    } catch {
      throw ValidationError("\(error)")
    }
  }

  private func options(_ known: ServerList) throws(NetError) -> ServerList {
    var list = known
    for (group, texts) in [(ServerList.Group.stun, stun), (.brokers, broker), (.turn, turn)] where !texts.isEmpty {
      list = try list.replacing(group, with: texts == ["none"] ? [] : texts)
    }
    return list
  }

  private static let largestFile = 1 << 20
}

/// The servers in force, for a person: what is contacted, in a few lines, without passwords.
enum ServersText {
  static func lines(_ configuration: NodeConfiguration) -> String {
    if configuration.offline { return "Offline: no server is contacted.\n" }
    let configuration = configuration.effective
    if configuration.isForThisMachine, configuration.servers.isEmpty {
      return "It listens on this machine alone (--listen): no server is contacted.\n"
    }
    var table = TextTable()
    for (what, servers) in configuration.servers.summary { table.add(["  " + what, servers]) }
    return "Servers it may contact (--offline: none, --servers FILE: others):\n" + table.text
  }

  static func metadata(_ configuration: NodeConfiguration) -> Logger.Metadata {
    if configuration.offline { return ["servers": "none: offline"] }
    let configuration = configuration.effective
    if configuration.isForThisMachine, configuration.servers.isEmpty {
      return ["servers": "none: listens on this machine alone"]
    }
    return Dictionary(uniqueKeysWithValues: configuration.servers.summary.map { ($0.what, "\($0.servers)") })
  }
}
