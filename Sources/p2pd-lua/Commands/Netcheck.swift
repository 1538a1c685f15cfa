import ArgumentParser
import NIOCore
import P2PDNet
import P2PDScript

struct Netcheck: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Find out how this machine is connected to the Internet, and what that means for peers.",
    usage: "p2pd-lua netcheck [OPTIONS]",
    discussion: """
      Asks the configured servers, all at once and for 5 seconds at most: STUN servers how they see
      this machine over UDP and TCP, brokers, relays and name servers whether they answer and
      how fast, time servers whether the clock is right. The router is asked to open a port,
      which is closed again. Nothing else is contacted. docs/netcheck.md describes the JSON.

      EXIT STATUS
        0    somebody on the Internet answered
        1    nobody did, or it could not be tried or told
        2    the command line is wrong
        130  ended by SIGINT; 143: by SIGTERM

      EXAMPLES
        p2pd-lua netcheck
        p2pd-lua netcheck --stun 192.0.2.7 --stun 192.0.2.8:3479
        p2pd-lua netcheck --json | jq '.paths[].nat_type, .advice'
      """)

  @Flag(help: "Write JSON.")
  var json = false

  @Option(name: .customLong("interface"), help: "Measure only this interface's NAT; may be given several times.")
  var interfaces: [String] = []

  @OptionGroup(title: "Server options") var servers: ServerOptions
  @OptionGroup(title: "Configuration") var config: ConfigOptions

  func run() async throws {
    let config = try config.load()
    if try servers.isOffline(config) {
      throw Failure(
        "netcheck asks servers, and --offline (or P2PD_OFFLINE, or \(config.path ?? ConfigFile.fileName)) forbids that")
    }
    let snapshot: NetworkSnapshot
    do {
      snapshot = try NetworkSnapshot.current()
      for name in interfaces { _ = try snapshot.interface(named: name) }
    } catch {
      throw Failure("\(error)", remedy: "`\(Environment.program) ifs` lists the interfaces.")
    }
    let (list, caFile) = (try servers.list(config), try servers.caFile(config))
    let (only, loop) = (interfaces.isEmpty ? nil : interfaces, Engine.loop)
    let asksRouters = try servers.mapsPorts(config) ?? !list.isEmpty
    let isWatched = Console.shared.errorIsTerminal
    let look = try await loop.submit {
      NetcheckRun(snapshot, servers: list, interfaces: only, caFile: caFile, asksRouters: asksRouters, on: loop) {
        progress, time in
        if isWatched { Console.shared.setLive("\r\(progress.text(after: time))\u{1b}[K") }
      }
    }.get()
    // The router's port is closed again, however this ends.
    let stop = StopSignal()
    let signals = try Signals { number in
      stop.signalled(number)
      loop.execute { look.stop() }
    }
    let findings = try await loop.flatSubmit { look.run() }.get()
    withExtendedLifetime(signals) {}
    if isWatched { Console.shared.setLive(nil) }
    if let number = stop.received { throw ExitCode(128 + number) }
    let text = json ? NetcheckJSON.object(findings).pretty + "\n" : NetcheckText.lines(findings)
    guard Console.shared.out(text), findings.hasAnswer else { throw Exit.failed }
  }
}
