import ArgumentParser
import Glibc
import Logging
import NIOCore
import P2PDNet
import P2PDNode
import P2PDScript

struct Connect: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Talk to a node, or to a host and port.",
    discussion: """
      At a terminal each line typed is sent as a message, and messages are shown
      as they come. The arrows edit the line and bring back earlier ones;
      Control-D or Control-C ends.

      In a pipeline standard input is sent, one message a line (to a host: bytes
      as they are). Then this side says that no more comes and waits for answers,
      until the peer ends or nothing came for --timeout seconds.

      EXAMPLES
        p2pd-lua connect p2pd1...                    a node's first protocol
        p2pd-lua connect example.peer                the same, by its name
        p2pd-lua connect --protocol chat p2pd1...    another one of its protocols
        echo "ECHO hi" | p2pd-lua connect p2pd1...   every node answers: hi
        p2pd-lua connect --raw p2pd1... < cat.jpg    bytes, 64 KiB a message
        p2pd-lua connect example.org:7               plain TCP
        p2pd-lua connect --udp [2001:db8::1]:7       one datagram a line
        p2pd-lua connect --tls --crlf example.org:443

      EXIT STATUS
        0    the conversation ended in good order
        1    no connection, or it broke; the reason of each attempt is given
        2    the command line is wrong
        130  ended by SIGINT; 143: by SIGTERM
      """)

  @Argument(help: "A node's address (p2pd1...) or name, HOST:PORT, [IPV6]:PORT or unix:PATH.")
  var target: String

  @Option(
    help: ArgumentHelp("The protocol asked for at a node.", discussion: "Default: the node's first", valueName: "name"))
  var `protocol`: String?

  @Flag(help: "UDP to a host and port.")
  var udp = false

  @Flag(help: "TLS to a host and port; its certificate is verified.")
  var tls = false

  @Option(
    help: ArgumentHelp(
      "How a host's stream keeps messages apart; u16 and u32 are length prefixes.",
      discussion: "Default: raw", valueName: "framing"))
  var framing: Framing?

  @Flag(help: "Send and show bytes as they are, in pieces of 64 KiB, whatever the lines.")
  var raw = false

  @Flag(help: "End a typed line with carriage return and line feed, as HTTP and SMTP want it.")
  var crlf = false

  @Option(
    help: ArgumentHelp(
      "In a pipeline: how long without an answer to wait after the input's end; 0 does not wait.",
      discussion: "Default: 5", valueName: "seconds"))
  var timeout: Double = 5

  @Option(
    help: ArgumentHelp("How long connecting may take.", discussion: "Default: 10", valueName: "seconds"))
  var connectTimeout: Double = 10

  @Flag(help: "Show a node this machine's own key (the one of `id`) and not a fresh one.")
  var identity = false

  @Option(
    help: ArgumentHelp(
      "A way to a node to try: direct, reverse, punch or relay; may be given several times.",
      discussion: "Default: all", valueName: "way"))
  var strategy: [ConnectStrategy] = []

  @Flag(name: .shortAndLong, help: "Tell each step of connecting to a node, with its time.")
  var verbose = false

  @OptionGroup(title: "Server options") var servers: ServerOptions
  @OptionGroup(title: "State options") var state: StateOptions
  @OptionGroup(title: "Configuration") var config: ConfigOptions
  @OptionGroup(title: "Log options") var log: LogOptions

  func validate() throws {
    for (name, value) in [("--timeout", timeout), ("--connect-timeout", connectTimeout)]
    where !(0...86_400).contains(value) {
      throw ValidationError("\(name) is given in seconds, from 0 to 86400; \(value) is not.")
    }
    guard let target = Target(argument: target) else {
      throw ValidationError(
        "\"\(self.target)\" is neither a node's address (p2pd1...) or name nor HOST:PORT, [IPV6]:PORT or unix:PATH.")
    }
    switch target {
    case .node, .name:
      if udp || tls || framing != nil || crlf {
        throw ValidationError(
          "--udp, --tls, --framing and --crlf are for HOST:PORT; pipes between nodes are encrypted and keep messages whole."
        )
      }
    case .host, .unix:
      if self.protocol != nil || identity || verbose || !strategy.isEmpty {
        throw ValidationError(
          "--protocol, --strategy, --identity and --verbose are for nodes (p2pd1..., example.peer).")
      }
      if udp, tls || framing != nil {
        throw ValidationError("--tls and --framing are for TCP; a datagram keeps its boundaries.")
      }
      if udp, case .unix = target { throw ValidationError("--udp needs HOST:PORT.") }
    }
  }

  func run() async throws {
    guard let target = Target(argument: target) else { throw Exit.usage }
    let console = Console.shared
    let config = try config.load()
    let logger = try log.logger(defaultLevel: .warning, config)
    let loop = Engine.loop
    let historyFolder = state.ephemeral ? nil : state.folder
    let settings = settings(for: target, console)
    let history = settings.isInteractive ? historyFolder.map { History(file: $0 + Self.historyName) } : nil
    let conversation = Conversation(settings, history: history ?? History(), on: loop)
    let signals = try Signals { number in
      loop.execute { conversation.interrupt(status: 128 + number) }
    }
    let dialled: Dialled
    do {
      dialled = try await dial(target, conversation, config, logger)
    } catch {
      conversation.abandon()
      throw error
    }
    if settings.showsNotes, settings.isInteractive { console.note("Connected \(dialled.how). End with Control-D.\n") }
    loop.execute { conversation.start(dialled.pipe) }
    let outcome = try await conversation.outcome.get()
    if let historyFolder, settings.isInteractive {
      let history = try await loop.submit { conversation.history }.get()
      if Files.makeFolder(historyFolder) { history?.save(to: historyFolder + Self.historyName) }
    }
    await dialled.node?.close(flush: .seconds(1))
    withExtendedLifetime(signals) {}
    if let words = outcome.words, outcome.status != 0 || settings.showsNotes { console.note("p2pd-lua: \(words)\n") }
    if outcome.status != 0 { throw ExitCode(outcome.status) }
  }

  private func settings(for target: Target, _ console: Console) -> Conversation.Settings {
    var settings = Conversation.Settings()
    let isDumb = Environment.value("TERM") == "dumb"
    settings.isInteractive = console.inputIsTerminal && console.outputIsTerminal && !isDumb && !raw
    switch target {
    case .node, .name: break
    case .host, .unix: settings.hasMessages = udp || (framing ?? .raw) != .raw
    }
    settings.isRaw = raw
    settings.lineEnd = crlf ? "\r\n" : "\n"
    // Larger datagrams would be cut into fragments on most paths (RFC 8085 §3.2).
    if udp { settings.pieceSize = 1200 }
    settings.patience = .nanoseconds(Int64(timeout * 1e9))
    settings.showsNotes = !log.quiet
    settings.showsProgress = !log.quiet && console.errorIsTerminal && !console.inputIsTerminal
    return settings
  }

  private static let historyName = "/connect_history"

  // MARK: Dialling

  private struct Dialled: Sendable {
    let pipe: Pipe
    let node: Node?
    let how: String
  }

  private func dial(_ target: Target, _ sink: Conversation, _ config: ConfigFile, _ logger: Logger) async throws
    -> Dialled
  {
    do {
      switch target {
      case .node(let text), .name(let text): return try await dialNode(text, sink, config, logger)
      case .host(let host, let port): return try await dialHost(.host(host, port), sink)
      case .unix(let path): return try await dialHost(.unix(path), sink)
      }
    } catch let error as NetError {
      throw Failure("no connection: \(error)", remedy: remedy(error))
    }
  }

  private func dialHost(_ destination: Destination, _ sink: Conversation) async throws -> Dialled {
    var conf = PipeConf()
    conf.framing = framing ?? .raw
    conf.conTimeout = .nanoseconds(Int64(connectTimeout * 1e9))
    if tls { conf.tls = try TLSSetup.client() }
    let opened = PipeOpener.open(udp ? .udp : .tcp, to: destination, conf: conf, sink: sink, on: Engine.loop)
    let pipe = try await opened.get()
    let place = try await Engine.loop.submit { pipe.peer.map(\.description) ?? destination.description }.get()
    return Dialled(pipe: pipe, node: nil, how: "to \(place)\(udp ? " by UDP" : tls ? " by TLS" : "")")
  }

  private func dialNode(_ text: String, _ sink: Conversation, _ config: ConfigFile, _ logger: Logger) async throws
    -> Dialled
  {
    var address: NodeAddress?
    if case .node? = Target(argument: text) {
      do { address = try NodeAddress(text) } catch { throw Failure("\(error)") }
    }
    var configuration = NodeConfiguration()
    configuration.stateDirectory = state.given
    configuration.ephemeral = !identity
    try servers.apply(to: &configuration, config)
    // It only calls, so no broker is to lead to it; but the node it calls may have to call back. The port of this
    // machine's node stays that node's.
    configuration.servers.brokers = []
    configuration.names = try servers.naming(state, config)
    if configuration.offline { configuration.listen = [.loopback(.v4)] }
    configuration.port = 0
    let node = try await NodeStart.start(configuration, on: Engine.loop, logger: logger)
    let steps = Steps(on: Engine.loop)
    let tell: @Sendable (String) -> Void = { steps.tell($0) }
    let watch = verbose ? tell : nil
    let (name, timeout) = (self.protocol ?? "", TimeAmount.nanoseconds(Int64(connectTimeout * 1e9)))
    let strategies = strategy.isEmpty ? ConnectStrategy.allCases : strategy
    let pipe: Pipe
    do {
      if let address {
        pipe = try await node.connect(
          address, protocol: name, sink: sink, timeout: timeout, strategies: strategies, watch: watch)
      } else {
        pipe = try await node.connect(
          name: text, protocol: name, sink: sink, timeout: timeout, strategies: strategies, watch: watch)
      }
    } catch {
      await node.close(flush: .zero)
      throw error
    }
    let how = try await Engine.loop.submit { "\(pipe.strategy), \(pipe.path)" }.get()
    return Dialled(pipe: pipe, node: node, how: "to the node (\(how))")
  }

  private func remedy(_ error: NetError) -> String? {
    // It says so itself.
    if !error.remedy.isEmpty { return nil }
    return switch error.code {
    case .refused: "Nothing listens there. Is the node running, and is the address its newest?"
    case .tls where tls: "Does it speak TLS there, and has its certificate the name you gave?"
    default: nil
    }
  }
}

extension Framing: ExpressibleByArgument {
  public init?(argument: String) {
    self.init(rawValue: argument)
    if self == .message { return nil }  // between nodes only
  }

  public static var allValueStrings: [String] { allCases.filter { $0 != .message }.map(\.rawValue) }
}
