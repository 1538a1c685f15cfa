import Foundation
import Glibc
import NIOCore
import P2PDNames
import P2PDNet
import Testing

/// Names on a LAN of two machines without Internet, in the kernel's own packets, and what programs of others make of them.
@Suite(
  "Names on a LAN", .enabled(if: InterfaceNamespace.isAvailable, Comment(rawValue: InterfaceNamespace.whyNot)),
  .timeLimit(.minutes(2)))
struct LocalNamesScenario {
  private static let key = [UInt8](1...32)
  private static let other = [UInt8](repeating: 9, count: 32)

  private static func on<T: Sendable>(
    _ machine: TwoMachines.Machine, _ body: @escaping @Sendable () throws -> EventLoopFuture<T>
  ) async throws -> T {
    try await machine.loop.flatSubmit {
      do { return try body() } catch { return machine.loop.makeFailedFuture(error) }
    }.get()
  }

  @Test(
    "over either family alone and over both",
    arguments: [
      ["192.168.77.1/24", "192.168.77.2/24"], ["fe80::1/64", "fe80::2/64"],
    ])
  func found(addresses: [String]) async throws {
    try await TwoMachines.run(left: [addresses[0]], right: [addresses[1]]) { left, right in
      let (one, two) = (LocalNames(on: left.loop), LocalNames(on: right.loop))
      let value = String(repeating: "p2pd1", count: 200)
      try await Self.on(left) { one.announce("example", key: Self.key, value: value, port: 7000) }
      let clock = ContinuousClock()
      let began = clock.now
      let found = try await Self.on(right) { two.find("example", timeout: .seconds(5)) }
      #expect(found.map(\.value).first == value && found.first?.key == Self.key && found.first?.interface == "cable1")
      // At most the second that an announcement bars another answer, and the time to settle.
      #expect(clock.now - began < .milliseconds(2000))
      #expect(try await Self.on(right) { two.browse() }.map(\.label) == ["example"])
      // Its own machine finds it too: a program hears what it sends.
      #expect(try await Self.on(left) { one.find("example", timeout: .seconds(5)) }.isEmpty == false)
      try await Self.on(left) { one.stop() }
      #expect(try await Self.on(right) { two.find("example", timeout: .milliseconds(300)) }.isEmpty)
      try await Self.on(right) { two.stop() }
    }
  }

  @Test("two nodes on one machine share the port, and a name that one of them has is taken for the others")
  func taken() async throws {
    try await TwoMachines.run(
      left: ["10.1.0.1/24", "fd00:77::1/64"], right: ["10.1.0.2/24", "fd00:77::2/64"]
    ) { left, right in
      let names = [LocalNames(on: left.loop), LocalNames(on: left.loop)]
      let far = LocalNames(on: right.loop)
      try await Self.on(left) { names[0].announce("example", key: Self.key, value: "a", port: 1) }
      for (machine, one) in [(left, names[1]), (right, far)] {
        await #expect {
          try await Self.on(machine) { one.announce("example", key: Self.other, value: "b", port: 1) }
        } throws: {
          ($0 as? NetError)?.code == .taken
        }
      }
      try await Self.on(left) { names[1].announce("second", key: Self.other, value: "b", port: 1) }
      let all = try await Self.on(right) { far.browse() }
      #expect(all.map(\.label) == ["example", "second"])
      for one in names { try await Self.on(left) { one.stop() } }
      try await Self.on(right) { far.stop() }
    }
  }

  @Test("a cable that was pulled and plugged in again: the name is told and found anew")
  func cable() async throws {
    try await TwoMachines.run(left: ["10.1.0.1/24"], right: ["10.1.0.2/24"]) { left, right in
      let (one, two) = (LocalNames(on: left.loop), LocalNames(on: right.loop))
      try await Self.on(left) { one.announce("example", key: Self.key, value: "a", port: 1) }
      let monitors = [
        try await Self.on(left) { InterfaceMonitor.start(on: left.loop) { _, now in one.update(now) } },
        try await Self.on(right) { InterfaceMonitor.start(on: right.loop) { _, now in two.update(now) } },
      ]
      #expect(try await Self.on(right) { two.find("example", timeout: .seconds(5)) }.map(\.value) == ["a"])
      try left.ip("link set cable0 down")
      var state = [LocalNames.Announcement]()
      repeat {
        try await Self.on(left) { left.loop.scheduleTask(in: .milliseconds(20)) {}.futureResult }
        state = try await left.loop.submit { one.announcements }.get()
      } while !state.isEmpty
      await #expect(throws: NetError.self) { try await Self.on(left) { one.find("example") } }
      try left.ip("link set cable0 up")
      var found = [LocalName]()
      while found.isEmpty {
        try await Self.on(left) { left.loop.scheduleTask(in: .milliseconds(20)) {}.futureResult }
        found = (try? await Self.on(right) { two.find("example", timeout: .milliseconds(500)) }) ?? []
      }
      #expect(found.map(\.value) == ["a"])
      for monitor in monitors { try await monitor.eventLoop.flatSubmit { monitor.stop() }.get() }
      try await Self.on(left) { one.stop() }
      try await Self.on(right) { two.stop() }
    }
  }

  static let dig = InterfaceNamespace.find("dig")
  static let dnsmasq = InterfaceNamespace.find("dnsmasq")

  @Test("dig reads what we answer", .enabled(if: dig != nil, "dig is not installed (Debian: bind9-dnsutils)"))
  func foreignReader() async throws {
    let dig = try #require(Self.dig)
    try await TwoMachines.run(left: ["10.1.0.1/24"], right: ["10.1.0.2/24"]) { left, right in
      let one = LocalNames(on: left.loop)
      try await Self.on(left) { one.announce("my name", key: Self.key, value: "p2pd1abc", port: 7000) }
      let ask = { (words: String) in
        try right.tool(
          dig,
          ["@10.1.0.1", "-p", "5353", "+short", "+tries=3", "+timeout=2"] + words.split(separator: " ").map(String.init)
        )
      }
      #expect(try ask("_services._dns-sd._udp.local PTR") == "_p2pd._udp.local.\n")
      #expect(try ask("_p2pd._udp.local PTR") == "my\\032name._p2pd._udp.local.\n")
      let text = try ask("my\\032name._p2pd._udp.local TXT")
      #expect(text.contains("\"p2pd=p2pd1abc\"") && text.contains("\"key=AQID"), "\(text)")
      let place = try ask("my\\032name._p2pd._udp.local SRV")
      #expect(place.hasPrefix("0 0 7000 p2pd-aeba"), "\(place)")
      let host = place.split(separator: " ").last.map { $0.trimmingSuffix("\n") } ?? ""
      #expect(try ask("\(host) A") == "10.1.0.1\n")
      try await Self.on(left) { one.stop() }
    }
  }

  @Test(
    "texts come from a real DNS server, short ones over UDP, long ones over TCP",
    .enabled(if: dnsmasq != nil, "dnsmasq is not installed (Debian: dnsmasq-base)"))
  func texts() async throws {
    let dnsmasq = try #require(Self.dnsmasq)
    try await TwoMachines.run(left: ["10.1.0.1/24"], right: ["10.1.0.2/24"]) { left, right in
      let pidFile = "/tmp/dnsmasq-\(getpid()).pid"
      let long = (0..<8).map { _ in String(repeating: "x", count: 250) }
      _ = try right.tool(
        dnsmasq,
        [
          "--conf-file=/dev/null", "--pid-file=\(pidFile)", "--no-resolv", "--no-hosts", "--user=root",
          "--listen-address=10.1.0.2",
          "--bind-interfaces", "--txt-record=_p2pd.example.org,p2pd=p2pd1abc", "--local=/example.org/",
          "--txt-record=long.example.org,p2pd=," + long.joined(separator: ","),
          "--cname=alias.example.org,_p2pd.example.org",
          "--host-record=host.example.org,10.9.9.9",
        ])
      defer { stopDaemon(pidFile) }
      let records = TextRecords(
        servers: [Endpoint(ip: try #require(IPAddress("10.1.0.2")), port: 53)], on: left.loop)
      let text = { @Sendable (name: String) in try await Self.on(left) { records.text(of: name) } }
      #expect(try await text("_p2pd.example.org") == ["p2pd=p2pd1abc"])
      #expect(try await text("_P2PD.Example.org.") == ["p2pd=p2pd1abc"])
      #expect(try await text("long.example.org") == ["p2pd=" + long.joined()])
      for missing in ["nobody.example.org", "host.example.org"] {
        await #expect { try await text(missing) } throws: { ($0 as? NetError)?.code == .notFound }
      }
      // It knows nobody else to ask.
      await #expect { try await text("elsewhere.test") } throws: { ($0 as? NetError)?.code == .refused }
      let nobody = TextRecords(
        servers: [Endpoint(ip: try #require(IPAddress("10.1.0.99")), port: 53)], on: left.loop)
      await #expect {
        try await Self.on(left) { nobody.text(of: "a.example", timeout: .seconds(1)) }
      } throws: {
        ($0 as? NetError)?.code == .timeout
      }
    }
  }
}

/// Ends the daemon that wrote its number there.
private func stopDaemon(_ pidFile: String) {
  guard let text = try? String(contentsOfFile: pidFile, encoding: .utf8), let pid = pid_t(text.filter(\.isNumber))
  else {
    return
  }
  kill(pid, SIGTERM)
  unlink(pidFile)
}

extension Substring {
  fileprivate func trimmingSuffix(_ end: Character) -> String { last == end ? String(dropLast()) : String(self) }
}
