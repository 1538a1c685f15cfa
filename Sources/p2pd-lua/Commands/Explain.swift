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
      back, what the other node tried.

      EXAMPLES
        p2pd-lua explain p2pd1...
        p2pd-lua explain --strategy direct --strategy punch p2pd1...

      EXIT STATUS
        0  a way led there
        1  none did; the last line says what would help
        2  the command line is wrong
      """)

  @Argument(help: "The node's address, p2pd1...")
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
  @OptionGroup(title: "Configuration") var config: ConfigOptions
  @OptionGroup(title: "Log options") var log: LogOptions

  func validate() throws {
    guard (0...86_400).contains(connectTimeout) else {
      throw ValidationError("--connect-timeout is given in seconds, from 0 to 86400; \(connectTimeout) is not.")
    }
  }

  func run() async throws {
    let target: NodeAddress
    do {
      target = try NodeAddress(address)
    } catch {
      throw Failure("\(error)")
    }
    let config = try config.load()
    var configuration = NodeConfiguration()
    configuration.ephemeral = true
    configuration.port = 0
    try servers.apply(to: &configuration, config)
    configuration.servers.brokers = []
    let node = try await NodeStart.start(
      configuration, on: Engine.loop, logger: log.logger(defaultLevel: .error, config))
    if !configuration.offline { try await Engine.loop.flatSubmit { node.settled() }.get() }
    let here = try await Engine.loop.submit { Self.words(of: node) }.get()
    Self.print(section: "From here", here)
    let now = UInt32(clamping: time(nil))
    Self.print(section: "To there", target.explanation(now: now).map { "\($0.what): \($0.value)" })
    let failure = await attempt(node, target)
    await node.close(flush: .zero)
    if let failure { throw failure }
  }

  /// Tries it, and tells each step.
  private func attempt(_ node: Node, _ target: NodeAddress) async -> (any Error)? {
    let steps = Steps(on: Engine.loop)
    Console.shared.out("Trying\n")
    do {
      let pipe = try await node.connect(
        target, protocol: self.protocol, timeout: .nanoseconds(Int64(connectTimeout * 1e9)),
        strategies: strategy.isEmpty ? ConnectStrategy.allCases : strategy, watch: { steps.tell($0) })
      let how = try await Engine.loop.submit { "\(pipe.strategy), \(pipe.path)" }.get()
      Console.shared.out("Connected: \(how), \(steps.elapsed).\n")
      _ = try? await Engine.loop.flatSubmit { pipe.close() }.get()
      return nil
    } catch let error as NetError {
      Console.shared.out("Not connected, \(steps.elapsed): \(Printable.line(error.cause)).\n")
      return Failure("no way leads to the node", remedy: error.remedy.isEmpty ? nil : error.remedy)
    } catch {
      return error
    }
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

/// Writes steps with the time since the first.
final class Steps: @unchecked Sendable {
  private let loop: any EventLoop
  private let began: NIODeadline

  init(on loop: any EventLoop) {
    self.loop = loop
    began = loop.now
  }

  var elapsed: String { "\(Double((loop.now - began).nanoseconds / 100_000) / 10) ms" }

  func tell(_ words: String) {
    for line in words.split(separator: "\n") { Console.shared.note("  \(elapsed)  \(Printable.line(String(line)))\n") }
  }
}

extension ConnectStrategy: ExpressibleByArgument {}
