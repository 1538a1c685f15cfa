import ArgumentParser
import NIOCore
import P2PDNet

struct Netcheck: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Find out how this machine is connected to the Internet, and what that means for peers.",
    discussion: """
      Asks the configured servers, all at once and for 5 seconds at most: STUN servers how they see
      this machine over UDP and TCP, brokers and relays whether they answer and how fast, time
      servers whether the clock is right. Nothing else is contacted.

      EXIT STATUS
        0  somebody on the Internet answered
        1  nobody did, or it could not be tried
        2  the command line is wrong

      EXAMPLES
        p2pd-lua netcheck
        P2PD_STUN=192.0.2.7,192.0.2.8:3479 p2pd-lua netcheck
        p2pd-lua netcheck --json | jq '.paths[].nat_type, .advice'
      """)

  @Flag(help: "Write JSON.")
  var json = false

  @Option(
    name: .customLong("stun"),
    help: ArgumentHelp(
      "A STUN server to ask, HOST or HOST:PORT; may be given several times. P2PD_STUN (separated by commas) stands in for it. Default: well-known public servers.",
      valueName: "server"))
  var stun: [String] = []

  @Option(name: .customLong("interface"), help: "Measure only this interface's NAT; may be given several times.")
  var interfaces: [String] = []

  func validate() throws { _ = try servers() }

  private func servers() throws -> ServerList {
    var environment: [String: String] = [:]
    for name in ["P2PD_STUN", "P2PD_TURN", "P2PD_BROKERS", "P2PD_NTP"] { environment[name] = Environment.value(name) }
    if !stun.isEmpty { environment["P2PD_STUN"] = stun.joined(separator: ",") }
    do throws(NetError) {
      return try ServerList.publicServers.overridden(by: environment)
    } catch {
      throw ValidationError("\(error)")
    }
  }

  func run() async throws {
    if try Environment.flag("P2PD_OFFLINE") {
      throw Failure(
        "netcheck asks servers on the Internet, and P2PD_OFFLINE forbids that", remedy: "Unset it for this.")
    }
    let snapshot: NetworkSnapshot
    do {
      snapshot = try NetworkSnapshot.current()
      for name in interfaces { _ = try snapshot.interface(named: name) }
    } catch {
      throw Failure("\(error)", remedy: "`\(Environment.program) ifs` lists the interfaces.")
    }
    let (servers, only, loop) = (try servers(), interfaces.isEmpty ? nil : interfaces, Engine.loop)
    let isWatched = Console.shared.errorIsTerminal
    let findings = try await loop.flatSubmit {
      NetcheckRun(snapshot, servers: servers, interfaces: only, caFile: nil, on: loop) { progress, time in
        if isWatched { Console.shared.setLive("\r\(progress.text(after: time))\u{1b}[K") }
      }.run()
    }.get()
    if isWatched { Console.shared.setLive(nil) }
    Console.shared.out(json ? NetcheckJSON.object(findings).pretty + "\n" : NetcheckText.lines(findings))
    if !findings.hasAnswer { throw Exit.failed }
  }
}
