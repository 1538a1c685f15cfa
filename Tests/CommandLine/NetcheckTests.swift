import NIOCore
import P2PDNet
import Testing

@testable import P2PDTraversal
@testable import p2pd_lua

@Suite struct NetcheckTests {
  private static func report(_ mapping: NATBehaviour.Mapping?, _ filtering: NATBehaviour.Filtering? = nil) -> NATReport
  {
    var report = NATReport(interface: "eth0", family: .v4, local: IPAddress("192.168.1.5") ?? .loopback(.v4))
    (report.udp.reach, report.tcp.reach) = (.answered, .answered)
    (report.udp.mapping, report.udp.filtering, report.tcp.mapping) = (mapping, filtering, mapping)
    return report
  }

  private static func silent() -> NATReport {
    var report = report(nil)
    (report.udp.reach, report.tcp.reach) = (.silent, .silent)
    return report
  }

  private static func findings(_ paths: [NATReport], _ change: (inout NetcheckFindings) -> Void = { _ in })
    -> NetcheckFindings
  {
    let nic = NetworkInterface(
      name: "eth0", index: 2, flags: [.up, .running],
      addresses: [InterfaceAddress(ip: IPAddress("192.168.1.5") ?? .loopback(.v4), prefixLength: 24)])
    var servers = ServerList()
    servers.brokers = [ServerURL(.mqtts, host: "b1"), ServerURL(.mqtts, host: "b2"), ServerURL(.mqtt, host: "b3")]
    var findings = NetcheckFindings(snapshot: NetworkSnapshot(interfaces: [nic]), servers: servers)
    findings.paths = paths
    findings.brokers = servers.brokers.map { ServerFinding($0.description, .answered) }
    change(&findings)
    return findings
  }

  private static func clock(_ offset: TimeAmount, error: TimeAmount = .milliseconds(20)) -> ClockReport {
    let reading = ClockReading(offset: offset, error: error, roundTrip: .milliseconds(30))
    var server = ClockFinding(server: "ntp:t1")
    (server.reading, server.stratum) = (reading, 2)
    return ClockReport(reading: reading, servers: [server])
  }

  private static func router(_ answer: PortMappingFinding.Answer, external: String? = nil)
    -> NetcheckRouters.Findings
  {
    let path = PortMappingPath(
      interface: "eth0", local: IPAddress("192.168.1.5") ?? .loopback(.v4),
      gateway: IPAddress("192.168.1.1") ?? .loopback(.v4))
    var finding = PortMappingFinding(path: path)
    finding.answers = [.natpmp: answer, .pcp: .silent]
    finding.router = "Box 7"
    let mappings = external.flatMap { IPAddress($0) }.map { ip in
      PortMapping(
        path: path, transport: .tcp, internalPort: 5, external: Endpoint(ip: ip, port: 5), lifetime: nil, by: .natpmp,
        trust: ip.isPrivate ? .privateAddress : .verified)
    }
    return NetcheckRouters.Findings(routers: [finding], mappings: mappings.map { [$0] } ?? [])
  }

  @Test("a router's answers, and what its mapping is worth")
  func routers() {
    #expect(
      NetcheckText.routers(Self.router(.granted, external: "203.0.113.9")) == [
        "Box 7, 192.168.1.1 on eth0", "  PCP is silent; NAT-PMP opens a port", "  reached from outside at 203.0.113.9",
      ])
    #expect(NetcheckText.routers(Self.router(.granted, external: "100.64.0.9")).last?.contains("of no use: ") == true)
    let refused = Self.findings([Self.report(.endpointIndependent)]) {
      $0.routers = Self.router(.refused("not allowed"))
    }
    #expect(NetcheckAdvice(refused) == .openPort)
    #expect(NetcheckAdvice(refused).sentence(refused).contains("its NAT-PMP refuses: not allowed"))
    let text = NetcheckJSON.object(refused).text
    #expect(
      text.contains(#""protocols":{"pcp":"silent","natpmp":"refused","upnp":null},"problems":["NAT-PMP: not allowed"]"#)
    )
  }

  @Test("exactly one piece of advice: what stands in the way of everything else comes first")
  func advice() {
    let symmetric = Self.report(.addressAndPortDependent, .addressAndPortDependent)
    let home = Self.report(.endpointIndependent, .addressAndPortDependent)
    let open = Self.report(NATBehaviour.Mapping.none, NATBehaviour.Filtering.none)
    let guarded = Self.report(NATBehaviour.Mapping.none, .addressAndPortDependent)
    var carrier = home
    carrier.carrierNAT = true
    let relay = { (findings: inout NetcheckFindings) in findings.relays = [ServerFinding("turn:r", .answered)] }
    let noBroker = { (findings: inout NetcheckFindings) in
      for index in findings.brokers.indices { findings.brokers[index].outcome = .silent }
    }
    let cases: [(NetcheckAdvice, NetcheckFindings)] = [
      (.connect, Self.findings([]) { $0.snapshot.interfaces = [] }),
      (.checkNetwork, Self.findings([Self.silent()], noBroker)),
      (
        .checkNetwork,
        Self.findings([Self.silent()]) {
          noBroker(&$0)
          $0.lookups = .init(all: 2, unknown: ["a", "b"])
        }
      ),
      (.fixDNS, Self.findings([home]) { $0.lookups = .init(all: 2, unknown: ["a", "b"]) }),
      (.openPort, Self.findings([home]) { $0.lookups = .init(all: 2, unknown: ["a"]) }),
      (.setClock, Self.findings([symmetric]) { $0.clock = Self.clock(.seconds(-300)) }),
      (.configureRelay, Self.findings([symmetric]) { $0.clock = Self.clock(.seconds(30)) }),
      // Not known well enough to be wrong.
      (.openPort, Self.findings([home]) { $0.clock = Self.clock(.seconds(70), error: .seconds(80)) }),
      (.findBroker, Self.findings([open], noBroker)), (.nothing, Self.findings([open, symmetric])),
      (.nothing, Self.findings([open]) { ($0.brokers, $0.servers.brokers) = ([], []) }),
      (.askProvider, Self.findings([carrier])), (.relayHelps, Self.findings([carrier], relay)),
      (.portOpens, Self.findings([home]) { $0.routers = Self.router(.granted, external: "203.0.113.9") }),
      // It is open in the inner of two routers.
      (.askProvider, Self.findings([home]) { $0.routers = Self.router(.granted, external: "100.64.0.9") }),
      (.secondRouter, Self.findings([home]) { $0.routers = Self.router(.granted, external: "192.168.0.9") }),
      (.openFirewall, Self.findings([guarded])),
      (.openFirewall, Self.findings([Self.report(NATBehaviour.Mapping.none)])),
      (.openPort, Self.findings([home, guarded])),
      (.configureRelay, Self.findings([symmetric])), (.relayHelps, Self.findings([symmetric], relay)),
      (.openPort, Self.findings([home])), (.openPort, Self.findings([Self.report(nil)])),
      // STUN is silent, brokers answer: there is a way out.
      (.openPort, Self.findings([Self.silent()])),
    ]
    for (advice, findings) in cases {
      #expect(NetcheckAdvice(findings) == advice)
      let sentence = advice.sentence(findings)
      #expect(sentence.hasSuffix(".") && NetcheckText.lines(findings).contains("Advice\n  \(sentence)\n"))
    }
    #expect(Set(cases.map(\.0)) == Set(NetcheckAdvice.allCases), "each is given somewhere")
  }

  @Test("a wrong certificate everywhere has an advice of its own")
  func certificates() {
    let findings = Self.findings([Self.report(.endpointIndependent)]) {
      for index in $0.brokers.indices { $0.brokers[index].outcome = .certificate }
    }
    #expect(NetcheckAdvice(findings) == .findBroker)
    #expect(NetcheckAdvice(findings).sentence(findings).contains("certificate authority"))
  }

  @Test("what is blocked: by path, and by port where several servers are silent there and others answer")
  func blocked() {
    var udp = Self.report(nil)
    udp.udp.reach = .blocked
    let findings = Self.findings([udp]) {
      $0.brokers[0].outcome = .silent
      $0.brokers[1].outcome = .refused
      $0.servers.stun = [ServerURL(.stun, host: "s1")]
      $0.stun = [ServerFinding("stun:s1", .silent)]
    }
    #expect(
      findings.blocked == [
        "UDP on eth0 IPv4: servers answer over TCP only.", "TCP port 8883: none of 2 servers answers there.",
      ])
    #expect(Self.findings([Self.report(.endpointIndependent)]).blocked.isEmpty)
    // Nobody answers at all: that is no matter of ports.
    let dark = Self.findings([Self.silent()]) {
      for index in $0.brokers.indices { $0.brokers[index].outcome = .silent }
    }
    #expect(dark.blocked == ["Everything: nobody on the Internet answers."] && !dark.hasAnswer)
  }

  @Test("a server whose name nobody answers for is not silent; where none can be looked up, that is told")
  func names() {
    var findings = Self.findings([Self.report(.endpointIndependent)]) {
      $0.servers.ntp = [ServerURL(.ntp, host: "t1"), ServerURL(.ntp, host: "t2")]
      $0.clock = ClockReport(reading: nil, servers: ["ntp:t1", "ntp:t2"].map { ClockFinding(server: $0) })
      for index in $0.brokers.indices { $0.brokers[index].outcome = .silent }
    }
    findings.mark(.init(all: 5, unknown: ["b1", "t1"]))
    #expect(findings.brokers.map(\.outcome) == [.noName, .silent, .silent])
    #expect(findings.clock?.servers.map(\.problem) == ["its name cannot be looked up", nil])
    #expect(!findings.blocked.contains { $0.hasPrefix("DNS") })
    findings.mark(.init(all: 5, unknown: ["b1", "b2", "b3", "t1", "t2"]))
    #expect(findings.brokers.allSatisfy { $0.outcome == .noName })
    #expect(findings.blocked == ["DNS: none of 5 server names can be looked up."])
  }

  @Test("a bridge to guests and an address for the local network are no ways out, and nothing is blocked there")
  func beside() {
    let home = Self.report(.endpointIndependent)
    var bridge = Self.silent()
    bridge.interface = "docker0"
    var local = Self.report(NATBehaviour.Mapping.none)
    (local.family, local.local) = (.v6, IPAddress("2001:db8::5") ?? .loopback(.v6))
    var unique = Self.silent()
    (unique.family, unique.local) = (.v6, IPAddress("fd00::5") ?? .loopback(.v6))
    for index in [0, 1] {
      let finding = NATReport.ServerFinding(
        server: Endpoint(ip: .loopback(.v4), port: 1), transport: .udp, problem: "no answer")
      if index == 0 { bridge.servers = [finding] } else { unique.servers = [finding] }
    }
    let findings = Self.findings([home, bridge, local, unique]) {
      $0.servers.stun = [ServerURL(.stun, host: "s1")]
    }
    #expect(findings.blocked.isEmpty)
    #expect(NetcheckText.lines(findings).split(separator: "\n").count { $0.contains("its own network") } == 2)
    // The only one of its family, or the one that packets take: that is told.
    let alone = Self.findings([local, bridge]) { $0.servers.stun = [ServerURL(.stun, host: "s1")] }
    #expect(alone.blocked == ["Everything on docker0 IPv4: no server answers there."])
    let unplugged = Self.findings([bridge, Self.silent(), local]) {
      $0.snapshot.defaultRoutes = [.v4: DefaultRoute(family: .v4, interfaceIndex: 2)]
      $0.paths[0].udp.reach = .answered
    }
    #expect(unplugged.blocked == ["Everything on eth0 IPv4: no server answers there."])
    let nobody = NetcheckText.lines(Self.findings([Self.silent()]))
    #expect(nobody.contains("no STUN server is configured") && nobody.contains("Relays (TURN)\n  none is configured"))
  }

  @Test("each outcome in words of its own, with its times")
  func outcomes() {
    let findings = ServerFinding.Outcome.allCases.map { outcome in
      var finding = ServerFinding("mqtts://b", outcome)
      if outcome == .answered { (finding.setup, finding.roundTrip) = (.milliseconds(90), .microseconds(12_340)) }
      return finding
    }
    let lines = NetcheckText.servers(findings)
    #expect(lines.first == "mqtts://b  answers in 12 ms, ready after 90 ms")
    #expect(Set(lines).count == findings.count)
  }

  @Test("the clock in words")
  func clocks() {
    #expect(NetcheckText.clock(nil) == ["not measured in time"])
    #expect(NetcheckText.clock(ClockReport(reading: nil, servers: [])) == ["no time server is configured"])
    #expect(NetcheckText.clock(Self.clock(.milliseconds(5)))[0] == "this machine's clock is right, give or take 20 ms")
    #expect(
      NetcheckText.clock(Self.clock(.milliseconds(-2500)))[0] == "this machine's clock is 3 s fast, give or take 20 ms")
    #expect(NetcheckText.clock(Self.clock(.milliseconds(250)))[1] == "ntp:t1  250 ms slow by it, answers in 30 ms")
    var silent = ClockFinding(server: "ntp:t2")
    silent.problem = "no answer"
    #expect(
      NetcheckText.clock(ClockReport(reading: nil, servers: [silent])) == [
        "not known: no server tells the time", "ntp:t2  no answer",
      ])
  }

  @Test("JSON has every part, and null for what is not known")
  func json() {
    let text = NetcheckJSON.object(Self.findings([Self.report(nil)])).text
    for part in [
      "\"format\":1", "\"brokers\":[{\"server\":\"mqtts://b1\",\"outcome\":\"answered\",\"setup_us\":null",
      "\"clock\":null",
      "\"advice_code\":\"open_port\"", "\"mapping\":null", "\"took_us\":0", "\"relays\":[]", "\"blocked\":[]",
    ] { #expect(text.contains(part), "\(part)") }
  }

  @Test("progress names what is not done")
  func progress() {
    var progress = NetcheckProgress()
    progress.expect(.paths)
    progress.expect(.brokers, 3)
    progress.expect(.clock)
    progress.finished(.brokers)
    progress.finished(.clock)
    #expect(
      progress.text(after: .milliseconds(1240)) == "looking at the network: NAT, brokers 1/3 (1.2 s)"
        && !progress.isDone)
    progress.finished(.paths)
    progress.finished(.brokers)
    progress.finished(.brokers)
    #expect(progress.isDone)
  }
}
