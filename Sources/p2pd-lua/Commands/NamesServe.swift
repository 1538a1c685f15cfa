import ArgumentParser
import Logging
import P2PDNameServer
import P2PDNet

struct NamesServe: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "serve",
    abstract: "Serve names of nodes over HTTP until it is told to stop.",
    discussion: """
      Keeps signed records of names in an SQLite file and answers pushes and lookups.
      docs/names-api.md describes the API, docs/servers how to host a set of three.
      Standard output gets a line for each address that it listens on; the rest goes
      to standard error.

      A push is answered when it is on the disk. The process may be killed at any
      moment. SIGINT (Control-C) and SIGTERM end it in order: no new requests, those
      under way are answered, and the exit status is 0. SIGHUP reads certificate and
      key anew.

      EXAMPLES
        p2pd-lua names serve --db names.sqlite --listen 127.0.0.1:7353
        p2pd-lua names serve --db names.sqlite --listen '*:443' \\
          --cert server.pem --key server.key
        curl http://127.0.0.1:7353/v1/status
      """)

  @Option(
    help: ArgumentHelp("The file of the names; made where there is none.", valueName: "file"), completion: .file())
  var db: String

  @Option(
    help: ArgumentHelp(
      "Where to listen: 192.0.2.1:7353, [2001:db8::1]:7353, or *:7353 for all addresses; may be given several times.",
      valueName: "address"))
  var listen: [String]

  @Flag(help: "Connections from this host are a reverse proxy's: believe its X-Forwarded-For.")
  var trustForwarded = false

  @Option(
    help: ArgumentHelp("Serve HTTPS with this certificate and its chain (PEM).", valueName: "file"), completion: .file()
  )
  var cert: String?

  @Option(help: ArgumentHelp("The certificate's key (PEM).", valueName: "file"), completion: .file())
  var key: String?

  @OptionGroup(title: "Limits") var limits: NameLimitOptions
  @OptionGroup(title: "Log options") var log: LogOptions

  func validate() throws {
    if (cert == nil) != (key == nil) { throw ValidationError("--cert and --key belong together.") }
    guard !listen.isEmpty else { throw ValidationError("Say where to listen, --listen 127.0.0.1:7353 for example.") }
    for text in listen { _ = try endpoints(text) }
  }

  private func endpoints(_ text: String) throws -> [Endpoint] {
    do throws(NetError) {
      return try NameServerConfiguration.endpoints(text)
    } catch {
      throw ValidationError("\(error)")
    }
  }

  func run() async throws {
    var configuration = NameServerConfiguration(
      database: db, listen: try listen.flatMap(endpoints), version: Program.version)
    configuration.limits = limits.limits
    configuration.trustsProxy = trustForwarded
    if let cert, let key { configuration.certificate = (cert, key) }
    let logger = try log.logger(defaultLevel: .info)
    let stop = StopSignal()
    let box = ServerBox()
    let signals = try Signals(hangup: { Task { await box.reload(logger) } }) { stop.signalled($0) }
    let server: NameServer
    do {
      server = try await NameServer.start(configuration, logger: logger)
    } catch {
      throw Failure("the name server cannot start: \(error)")
    }
    await box.set(server)
    let scheme = cert == nil ? "http" : "https"
    if !log.quiet { Console.shared.note("Serving the names in \(Printable.line(db)). Stop with Control-C.\n") }
    for endpoint in server.endpoints { Console.shared.out("\(scheme)://\(endpoint)\n") }

    let signal = await stop.wait()
    if !log.quiet { LogQueue.shared.add("\n\(Signals.name(signal)): closing (again to end at once)\n") }
    await server.stop()
    withExtendedLifetime(signals) {}
  }
}

/// The server, for a signal that may come before there is one.
private actor ServerBox {
  private var server: NameServer?

  func set(_ server: NameServer) { self.server = server }

  func reload(_ logger: Logger) async {
    do {
      try await server?.reloadCertificate()
      logger.info("certificate and key were read anew")
    } catch {
      logger.error("the old certificate stays in use: \(error)")
    }
  }
}

/// How much the server keeps and does for whom.
struct NameLimitOptions: ParsableArguments {
  @Option(help: ArgumentHelp("Names that one key may hold (default: \(NameLimits().namesPerKey)).", valueName: "count"))
  var namesPerKey: Int?

  @Option(
    help: ArgumentHelp(
      "Names registered from one IPv4 address or IPv6 /64 (default: \(NameLimits().namesPerSource)).",
      valueName: "count"))
  var namesPerSource: Int?

  @Option(help: ArgumentHelp("Names in all (default: \(NameLimits().names)).", valueName: "count"))
  var maxNames: Int?

  @Option(
    help: ArgumentHelp(
      "Pushes in a second from one source; twenty times as many at once (default: \(Int(NameLimits().pushesPerSecond))).",
      valueName: "rate"))
  var pushRate: Double?

  @Option(
    help: ArgumentHelp(
      "Lookups in a second from one source; ten times as many at once (default: \(Int(NameLimits().lookupsPerSecond))).",
      valueName: "rate"))
  var lookupRate: Double?

  @Option(help: ArgumentHelp("Open connections (default: \(NameLimits().connections)).", valueName: "count"))
  var maxConnections: Int?

  @Option(
    help: ArgumentHelp(
      "Open connections of one source (default: \(NameLimits().connectionsPerSource)).", valueName: "count"))
  var connectionsPerSource: Int?

  func validate() throws {
    let counts = [namesPerKey, namesPerSource, maxNames, maxConnections, connectionsPerSource]
    guard counts.allSatisfy({ $0.map { (1...1_000_000_000).contains($0) } ?? true }) else {
      throw ValidationError("A limit is a whole number of 1 or more.")
    }
    guard [pushRate, lookupRate].allSatisfy({ $0.map { (0.001...1_000_000).contains($0) } ?? true }) else {
      throw ValidationError("A rate is a number from 0.001 to 1000000.")
    }
  }

  var limits: NameLimits {
    var limits = NameLimits()
    if let namesPerKey { limits.namesPerKey = namesPerKey }
    if let namesPerSource { limits.namesPerSource = namesPerSource }
    if let maxNames { limits.names = maxNames }
    if let maxConnections { limits.connections = maxConnections }
    if let connectionsPerSource { limits.connectionsPerSource = connectionsPerSource }
    if let pushRate { (limits.pushesPerSecond, limits.pushBurst) = (pushRate, max(1, pushRate * 20)) }
    if let lookupRate { (limits.lookupsPerSecond, limits.lookupBurst) = (lookupRate, max(1, lookupRate * 10)) }
    return limits
  }
}
