import ArgumentParser
import Glibc
import Logging
import NIOCore
import P2PDNet
import P2PDNode
import P2PDScript

struct Run: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Host protocols written in Lua until it is told to stop.",
    discussion: """
      Starts a node, hosts each script under its name (the file's, or M.protocol)
      and prints the node's address, with the command that connects to it from
      another terminal. Who names no protocol gets the first script's. Some seconds
      later, when it knows how it looks from outside and which brokers lead to it,
      it prints the address that tells this, good from anywhere. Standard output
      gets the addresses alone; the rest goes to standard error.

      A script, or anything it requires, that is saved is loaded anew while the
      pipes stay open; what cannot be loaded leaves the old code in service and is
      told with its line. Files that come into a hosted folder or go from it are
      protocols that come and go. SIGHUP loads all scripts anew. Another
      terminal sees and steers the node: `status`, `pipes`, `reload`, `rollback`,
      `generations`, `logs`, `trace`, `attach`, `stop`.

      SIGINT (Control-C) and SIGTERM end it in order: no new pipes, what is queued
      is sent, the scripts' end_cbs run, and the exit status is 0. A second signal
      ends it at once.

      EXAMPLES
        p2pd-lua run ping.lua
        p2pd-lua run --nickname example ping.lua
        p2pd-lua run --port 7000 --state-dir /srv/p2pd chat.lua kv.lua
        p2pd-lua run --listen 127.0.0.1 --ephemeral --sandbox handlers/
      """)

  @Argument(help: "The scripts, or folders of scripts.", completion: .file(extensions: ["lua"]))
  var scripts: [String]

  @Option(
    help: ArgumentHelp(
      "What `status`, `stop` and the like call the node.", discussion: "Default: the name of the first protocol",
      valueName: "name"))
  var name: String?

  @Option(
    help: ArgumentHelp(
      "Register this name for the node, and keep it: others connect to it by name; may be given several times.",
      valueName: "name"))
  var nickname: [String] = []

  @Flag(help: "Make no control socket: nobody sees or steers the node from outside.")
  var noControl = false

  @OptionGroup(title: "Node options") var node: NodeOptions
  @OptionGroup(title: "Server options") var servers: ServerOptions
  @OptionGroup(title: "State options") var state: StateOptions
  @OptionGroup(title: "Configuration") var config: ConfigOptions
  @OptionGroup(title: "Script options") var limits: ScriptLimitOptions
  @OptionGroup(title: "Reload options") var reloading: ReloadFlags
  @OptionGroup(title: "Log options") var log: LogOptions

  func validate() throws {
    try name.map(Self.checkName)
  }

  private static func checkName(_ name: String) throws {
    let isGood = name.utf8.allSatisfy { nameLetters.contains($0) }
    guard isGood, (1...64).contains(name.utf8.count), !name.hasPrefix("-") else {
      throw ValidationError("A node's name has 1 to 64 of the characters A-Z a-z 0-9 . _ -, and begins with no '-'.")
    }
  }

  func run() async throws {
    let ring = LogRing()
    let config = try config.load(beside: scripts.first)
    let logger = try log.logger(defaultLevel: .info, config, ring: ring)
    let paths = try ScriptPaths.expand(scripts)
    let name = name ?? config.name
    try name.map(Self.checkName)
    let configuration = try node.configuration(state, servers, config)
    var options = try limits.scriptOptions(config)
    options.nodeDefaults = configuration
    reloading.apply(to: &options)
    let host = try await ScriptHost.make(on: Engine.loop, options: options, logger: logger)
    // Scripts first: one that cannot be loaded must not open a port.
    let protocols = try await ScriptFailure.explained { try await host.loadProtocols(paths) }
    let node = try await NodeStart.start(configuration, on: Engine.loop, logger: logger)
    do {
      try await host.attach(node)
    } catch {
      throw Failure("the node cannot host the scripts: \(error)")
    }
    let stop = StopSignal()
    let signals = try Signals(hangup: { Task { _ = await host.reload(trigger: "signal") } }) { stop.signalled($0) }
    let triggers = try reloading.watches() ? await triggers(host, logger) : nil
    let control = noControl ? nil : control(host, node, name ?? protocols.first?.name ?? "node", ring, stop, logger)
    try await Engine.loop.submit { announce(node, protocols, config, isWatching: triggers != nil) }.get()
    let names = nickname.isEmpty ? [config.nickname].compactMap { $0 } : nickname
    Engine.loop.execute { for name in names { take(name, node, logger) } }

    let signal = await stop.wait()
    if !log.quiet {
      // Nor does the end wait for a reader.
      LogQueue.shared.add("\n\(Signals.name(signal)): closing (again to end at once)\n")
    }
    await triggers?.close()
    await node.close(flush: Self.flushTime)
    await host.shutdown(deadline: Self.endTime)
    await control?.close()
    withExtendedLifetime(signals) {}
  }

  /// Begins to reload what is saved. A node that cannot do that still does its work, so a failure is told and no more.
  private func triggers(_ host: ScriptHost, _ logger: Logger) async -> ReloadTriggers? {
    do {
      return try await ReloadTriggers.start(host, folders: scripts.filter(Files.isDirectory), logger: logger)
    } catch {
      logger.error("saved scripts are not noticed (\(error)); SIGHUP reloads them")
      return nil
    }
  }

  /// Begins to serve at the control socket. A node without one still does its work, so a failure is an error in the log.
  private func control(
    _ host: ScriptHost, _ node: Node, _ name: String, _ ring: LogRing, _ stop: StopSignal,
    _ logger: Logger
  ) -> ControlService? {
    do {
      let listening = try ControlFolder.open(stateFolder: state.folder).listen(key: node.id)
      let identity = ControlReports.Identity(
        name: name, program: Program.version, pid: Int(getpid()), started: .now,
        socket: listening.path, stateFolder: state.ephemeral ? nil : state.folder)
      let service = ControlService(host, node, ring: ring, identity: identity) {
        Signals.endSoon()
        stop.signalled(Signals.commanded)
      }
      try service.start(listening)
      return service
    } catch {
      logger.error("no control socket, so status, stop and the like cannot find this node: \(error)")
      return nil
    }
  }

  /// The address at once, as good as it is; and again when it is whole, if it is not yet. On the node's loop.
  private func announce(_ node: Node, _ protocols: [HostedProtocol], _ config: ConfigFile, isWatching: Bool) {
    let console = Console.shared
    let first = node.address
    let isAll = node.isSettled || ReachText.isWithoutServers(node.configuration)
    if !log.quiet {
      if let path = config.path { console.note("Settings from \(Printable.line(path)).\n") }
      console.note(ServersText.lines(node.configuration))
      let names = protocols.map { $0.name.isEmpty ? "the default protocol" : $0.name }.joined(separator: ", ")
      let until = isAll ? "" : ", until more is known"
      if isAll, let words = ReachText.found(node) { console.note(words + "\n") }
      console.note("Hosting \(Printable.line(names)). The node's address\(until):\n")
    }
    console.out("\(first)\n")
    if !isAll { tellWhenWhole(node, first) }
    guard !log.quiet else { return }
    console.note("Connect from another terminal:\n")
    for (index, hosted) in protocols.enumerated() {
      let choice = index == 0 ? "" : " --protocol \(Environment.shellWord(hosted.name))"
      console.note("  \(Environment.program) connect\(choice) \(first)\n")
    }
    console.note("\(isWatching ? "A script that is saved is reloaded. " : "")Stop with Control-C.\n")
  }

  /// Takes a name. A node that does not get it still serves those who know its address. On the node's loop.
  private func take(_ name: String, _ node: Node, _ logger: Logger) {
    let isQuiet = log.quiet
    node.nickname(name).assumeIsolated().whenComplete { result in
      switch result {
      case .success(let name):
        guard !isQuiet, !node.isClosing else { return }
        Console.shared.note("The node is called \(name):\n  \(Environment.program) connect \(name)\n")
      case .failure(let error):
        guard !node.isClosing else { return }
        logger.error("the node does not have the name \(Printable.line(name)): \(error)")
      }
    }
  }

  private func tellWhenWhole(_ node: Node, _ first: NodeAddress) {
    let isQuiet = log.quiet
    node.settled().assumeIsolated().whenSuccess {
      let address = node.address
      guard !node.isClosing, let words = ReachText.found(node) else { return }
      if !isQuiet {
        Console.shared.note(
          "\n\(words)\n" + (address == first ? "The address stays as it is.\n" : "The node's address is now:\n"))
      }
      guard address != first else { return }
      Console.shared.out("\(address)\n")
      if !isQuiet { Console.shared.note("Connect from anywhere:\n  \(Environment.program) connect \(address)\n") }
    }
  }

  private static let nameLetters = Set(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-".utf8)

  /// Together they stay below the 5 s in which an asked-for end must be over.
  private static let flushTime = TimeAmount.seconds(2)
  private static let endTime = TimeAmount.seconds(2)
}
