import ArgumentParser
import Glibc
import NIOCore
import P2PDNet
import P2PDNode
import P2PDScript

struct Explain: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Tell how a node can be reached from here, and why not.",
    discussion: """
      Says what is known of this machine's network and of the node's, then connects
      as `connect` would and tells each step with its time: what was tried, what came
      back, what the other node tried. Where only a relay leads there, it goes on until
      it is known why.

      EXAMPLES
        p2pd-lua explain p2pd1...
        p2pd-lua explain example.peer
        p2pd-lua explain --strategy direct --strategy punch p2pd1...

      EXIT STATUS
        0  a way led there
        1  none did; the last line says what would help
        2  the command line is wrong
      """)

  @Argument(help: "The node's address, p2pd1..., or its name.")
  var address: String

  @Option(help: ArgumentHelp("The protocol asked for.", discussion: "Default: the node's first", valueName: "name"))
  var `protocol`: String = ""

  @Option(
    help: ArgumentHelp(
      "A way to try: direct, reverse, punch or relay; may be given several times.", discussion: "Default: all",
      valueName: "way"))
  var strategy: [ConnectStrategy] = []

  @Option(help: ArgumentHelp("How long connecting may take.", discussion: "Default: 10", valueName: "seconds"))
  var connectTimeout: Double = 10

  @OptionGroup(title: "Server options") var servers: ServerOptions
  @OptionGroup(title: "State options") var state: StateOptions
  @OptionGroup(title: "Configuration") var config: ConfigOptions
  @OptionGroup(title: "Log options") var log: LogOptions

  func validate() throws {
    guard (0...86_400).contains(connectTimeout) else {
      throw ValidationError("--connect-timeout is given in seconds, from 0 to 86400; \(connectTimeout) is not.")
    }
  }

  func run() async throws {
    var isName = false
    if case .name? = Target(argument: address) { isName = true }
    // A mistake is told before anything is started.
    if !isName { _ = try Self.read(address) }
    let config = try config.load()
    var configuration = NodeConfiguration()
    configuration.ephemeral = true
    configuration.port = 0
    try servers.apply(to: &configuration, config)
    configuration.servers.brokers = []
    if isName { configuration.names = try servers.naming(state, config) }
    let node = try await NodeStart.start(
      configuration, on: Engine.loop, logger: log.logger(defaultLevel: .error, config))
    if !configuration.offline { try await Engine.loop.flatSubmit { node.settled() }.get() }
    let here = try await Engine.loop.submit { Self.words(of: node) }.get()
    Self.print(section: "From here", here)
    var failure: (any Error)?
    do {
      let (target, source) = try await isName ? find(node) : (Self.read(address), nil)
      let now = UInt32(clamping: time(nil))
      let facts = target.explanation(now: now).map { "\($0.what): \($0.value)" }
      Self.print(section: "To there", (source.map { ["\(address): says \($0)"] } ?? []) + facts)
      failure = await attempt(node, target)
    } catch {
      failure = error
    }
    await node.close(flush: .zero)
    if let failure { throw failure }
  }

  private static func read(_ text: String) throws -> NodeAddress {
    do { return try NodeAddress(text) } catch { throw Failure("\(error)") }
  }

  /// The address that a name has, and who says so. No name is remembered for it.
  private func find(_ node: Node) async throws -> (NodeAddress, String?) {
    do {
      let report = try await Engine.loop.flatSubmit { node.lookup(address) }.get()
      let found = try report.result.get()
      return (try Self.read(found.address), found.source.words)
    } catch let error as NetError {
      throw Failure("\(error)")
    }
  }

  /// Tries it, and tells each step.
  private func attempt(_ node: Node, _ target: NodeAddress) async -> (any Error)? {
    let steps = Steps(on: Engine.loop)
    let watcher = MoveWatcher(on: Engine.loop)
    defer { watcher.giveUp() }
    Console.shared.out("Trying\n")
    do {
      let pipe = try await node.connect(
        target, protocol: self.protocol, sink: watcher, timeout: .nanoseconds(Int64(connectTimeout * 1e9)),
        strategies: strategy.isEmpty ? ConnectStrategy.allCases : strategy,
        watch: { for line in steps.lines($0) { Console.shared.out(line) } })
      Console.shared.out("Connected: \(try await Self.way(of: pipe)), \(steps.elapsed).\n")
      try await Engine.loop.flatSubmit { node.searched(for: pipe) }.get()
      let (isRelayed, why) = try await Engine.loop.submit { (pipe.strategy == "relay", pipe.whyNoBetter) }.get()
      if let why {
        Console.shared.out("\(why.remedy)\n")
      } else if isRelayed, try await watcher.moved.get() {
        Console.shared.out("Moved: \(try await Self.way(of: pipe)), \(steps.elapsed).\n")
      }
      _ = try? await Engine.loop.flatSubmit { pipe.close() }.get()
      return nil
    } catch let error as NetError {
      Console.shared.out("Not connected, \(steps.elapsed): \(Printable.line(error.cause)).\n")
      if !error.attempts.isEmpty { Self.print(section: "In all", error.attempts.map { "\($0)" }) }
      return Failure("no way leads to the node", remedy: error.remedy.isEmpty ? nil : error.remedy)
    } catch {
      return error
    }
  }

  private static func way(of pipe: Pipe) async throws -> String {
    try await Engine.loop.submit { "\(pipe.strategy), \(pipe.path)" }.get()
  }

  private static func print(section: String, _ lines: [String]) {
    Console.shared.out("\(section)\n" + lines.map { "  \(Printable.line($0))\n" }.joined())
  }

  /// What is known of this machine's network. On the loop.
  private static func words(of node: Node) -> [String] {
    if node.configuration.offline { return ["offline: only direct connections are tried"] }
    let outside = node.knownExternals.map(\.description)
    var lines = [outside.isEmpty ? "not seen from outside" : "seen from outside as \(outside.joined(separator: ", "))"]
    for report in ReachText.reports(node) where report.hasAnswer {
      lines.append("\(report.interface), \(report.family): \(report.sentences.first ?? "")")
    }
    let relays = node.configuration.servers.turn.map(\.description)
    lines.append(relays.isEmpty ? "no relay is known" : "relays: \(relays.joined(separator: ", "))")
    return lines
  }
}

/// Waits for a pipe to move from its relay.
private final class MoveWatcher: PipeSink, @unchecked Sendable {
  /// Whether it has.
  var moved: EventLoopFuture<Bool> { promise.futureResult }
  private let promise: EventLoopPromise<Bool>

  init(on loop: any EventLoop) {
    promise = loop.makePromise()
  }

  func giveUp() { promise.succeed(false) }

  func pipe(_ pipe: Pipe, message: UnsafeRawBufferPointer, from peer: Peer) -> Bool { true }
  func pipeMoved(_ pipe: Pipe) { promise.succeed(true) }
  func pipeEnded(_ pipe: Pipe, reason: EndReason) { giveUp() }

  func pipeOpened(_ pipe: Pipe) {
    // The better way may die before the pipe stands on it for good.
    pipe.loop.assumeIsolated().scheduleTask(in: Self.patience) { self.giveUp() }
  }

  private static let patience = TimeAmount.seconds(20)
}

/// Writes steps with the time since the first.
final class Steps: @unchecked Sendable {
  private let loop: any EventLoop
  private let began: NIODeadline

  init(on loop: any EventLoop) {
    self.loop = loop
    began = loop.now
  }

  var elapsed: String { "\(Double((loop.now - began).nanoseconds / 100_000) / 10) ms" }

  func tell(_ words: String) { for line in lines(words) { Console.shared.note(line) } }

  func lines(_ words: String) -> [String] {
    words.split(separator: "\n").map { "  \(elapsed)  \(Printable.line(String($0)))\n" }
  }
}

extension ConnectStrategy: ExpressibleByArgument {}
