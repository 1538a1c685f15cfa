import NIOCore
import P2PDNet
import Testing

@testable import P2PDTraversal

@Suite("Measuring a path")
struct NATProbeTests {
  private static let hasty = STUNTransaction.Schedule(rto: .milliseconds(30), requests: 3, lastWait: 2)

  /// A server with two addresses and two ports on loopback that does as RFC 5780 says. Sockets: a:p, a:q, b:p, b:q.
  private static func discovery(_ loop: any EventLoop) -> EventLoopFuture<FakeServer> {
    let late = Late()
    return FakeServer.start([ep("127.0.0.1:0")], on: loop).flatMap { probe in
      let port = probe.endpoints[0].port
      probe.close()
      let other = port ^ 1
      let places = ["127.0.0.1:\(port)", "127.0.0.1:\(other)", "127.0.0.2:\(port)", "127.0.0.2:\(other)"].map(ep)
      return FakeServer.start(places, on: loop) { request, from, index in
        var by = index
        for case .changeRequest(let change) in request.attributes {
          if change.contains(.port) { by ^= 1 }
          if change.contains(.ip) { by ^= 2 }
        }
        let other = late.server?.endpoints[index ^ 3] ?? from
        let answer = STUNMessage(
          .success, .binding, transaction: request.transaction,
          attributes: [.xorMappedAddress(from), .otherAddress(other)])
        return (answer, by)
      }.map { server in
        late.server = server
        return server
      }
    }
  }

  /// Confined to the test's loop.
  private final class Told: @unchecked Sendable { var reports: [NATReport] = [] }

  private final class Late: @unchecked Sendable { weak var server: FakeServer? }

  private func probe(
    servers: @escaping @Sendable (any EventLoop) -> EventLoopFuture<[FakeServer]>
  ) async throws -> (NATReport, [NATReport]) {
    try await onLoop { loop in
      servers(loop).flatMap { servers in
        let told = Told()
        let probe = NATProbe(
          interface: "lo", local: IPAddress.loopback(.v4), servers: servers.map { $0.endpoints[0] },
          schedule: Self.hasty,
          on: loop
        ) { told.reports.append($0) }
        probe.start()
        return probe.finished.map { report in
          for server in servers { server.close() }
          return (report, told.reports)
        }
      }
    }
  }

  @Test("no translation and no filter, by a server with two addresses")
  func open() async throws {
    let (report, told) = try await probe { loop in Self.discovery(loop).map { [$0] } }
    #expect(report.udp.mapping == NATBehaviour.Mapping.none && report.udp.filtering == NATBehaviour.Filtering.none)
    #expect(report.udp.allocation == .preserving && report.p2pdType == 1)
    #expect(report.isComplete && report.external == [.loopback(.v4)])
    #expect(report.tcp.mapping == nil, "the server does not speak TCP, which says nothing about the router")
    let first = told.first { $0.udp.mapping != nil }
    #expect(first?.udp.mapping == NATBehaviour.Mapping.none && first?.isComplete == false, "told before all is done")
  }

  /// Holds what has happened. Confined to the test's loop.
  private final class Lost: @unchecked Sendable { var transactions: Set<STUNTransactionID> = [] }

  /// The same behind a router that has a port for each destination and lets everybody in. The first answers from another
  /// address are lost, with all their repetitions.
  private static func symmetric(_ loop: any EventLoop) -> EventLoopFuture<FakeServer> {
    let late = Late()
    let lost = Lost()
    return discovery(loop).flatMap { probe in
      let places = probe.endpoints
      probe.close()
      return FakeServer.start(places, on: loop) { request, from, index in
        var by = index
        for case .changeRequest(let change) in request.attributes {
          if change.contains(.port) { by ^= 1 }
          if change.contains(.ip) { by ^= 2 }
        }
        if by & 2 != index & 2, lost.transactions.count < 2 || lost.transactions.contains(request.transaction) {
          lost.transactions.insert(request.transaction)
          return nil
        }
        let mapped = Endpoint(ip: ep("127.9.9.9:0").ip, port: from.port &+ UInt16(index) &+ 1)
        return (
          STUNMessage(
            .success, .binding, transaction: request.transaction,
            attributes: [.xorMappedAddress(mapped), .otherAddress(late.server?.endpoints[index ^ 3] ?? from)]), by
        )
      }.map { server in
        late.server = server
        return server
      }
    }
  }

  @Test("answers that are lost make no open symmetric router a stricter one")
  func lossy() async throws {
    let (report, _) = try await probe { loop in Self.symmetric(loop).map { [$0] } }
    #expect(report.udp.mapping == .addressAndPortDependent)
    #expect(report.udp.filtering == .endpointIndependent)
  }

  @Test("the filtering is known while dead servers are still waited for")
  func early() async throws {
    let (report, told) = try await probe { loop in
      Self.discovery(loop).and(FakeServer.start([ep("127.0.0.3:0")], on: loop) { _, _, _ in nil }).map { [$0, $1] }
    }
    #expect(report.isComplete && report.udp.filtering == NATBehaviour.Filtering.none)
    let first = told.first { $0.udp.filtering != nil }
    #expect(first != nil && first?.servers.contains { $0.problem != nil && $0.transport == .udp } == false)
  }

  @Test("a translation seen alike by all, whose ports follow with an offset")
  func offset() async throws {
    let (report, _) = try await probe { loop in
      let places = ["127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0"].map(ep)
      return EventLoopFuture.whenAllSucceed(
        places.map { place in
          FakeServer.start([place], on: loop) { request, from, index in
            let mapped = Endpoint(ip: ep("127.9.9.9:0").ip, port: from.port &- 1000)
            return (
              STUNMessage(
                .success, .binding, transaction: request.transaction, attributes: [.xorMappedAddress(mapped)]),
              index
            )
          }
        }, on: loop)
    }
    #expect(report.udp.mapping == .endpointIndependent && report.udp.allocation == .offset(-1000))
    #expect(report.udp.filtering == nil, "no server can tell")
    #expect(report.p2pdType == 5 && report.p2pdDelta == (3, -1000))
  }

  @Test("nobody answers")
  func silent() async throws {
    let (report, _) = try await probe { loop in
      FakeServer.start([loopback], on: loop) { _, _, _ in nil }.map { [$0] }
    }
    #expect(report.udp.reach == .silent && report.udp.mapping == nil && !report.hasAnswer && report.p2pdType == 0)
  }

  @Test("a cancelled probe ends at once and tells nothing more")
  func cancelled() async throws {
    let count = try await onLoop { loop in
      FakeServer.start([loopback], on: loop) { _, _, _ in nil }.flatMap { server in
        let told = Told()
        let probe = NATProbe(
          interface: "lo", local: .loopback(.v4), servers: server.endpoints, on: loop
        ) { told.reports.append($0) }
        probe.start()
        probe.cancel()
        return probe.finished.map { _ in
          server.close()
          return told.reports.count
        }
      }
    }
    #expect(count == 0)
  }
}

@Suite("The paths of a host")
struct NetworkKnowledgeTests {
  private func nic(_ name: String, _ index: UInt32, _ ips: [String], up: Bool = true) -> NetworkInterface {
    NetworkInterface(
      name: name, index: index, flags: up ? [.up, .running] : [.up],
      addresses: ips.compactMap { IPAddress($0) }.map {
        InterfaceAddress(ip: $0, prefixLength: $0.family == .v4 ? 24 : 64)
      })
  }

  @Test("private addresses share a path, public ones have one, link-local and downed ones none")
  func paths() {
    let snapshot = NetworkSnapshot(interfaces: [
      nic("lan", 2, ["192.168.1.5", "192.168.1.6", "203.0.113.5", "203.0.113.6", "fe80::1"]),
      nic("down", 3, ["192.168.2.5"], up: false), nic("six", 4, ["2001:db8::5", "fd00::5"]),
    ])
    let found = NetworkKnowledge.paths(snapshot).map(\.description).sorted()
    #expect(
      found == [
        "lan IPv4 192.168.1.5", "lan IPv4 203.0.113.5", "six IPv6 2001:db8::5", "six IPv6 fd00::5",
      ])
    #expect(NetworkKnowledge.paths(snapshot, only: ["six"]).count == 2)
  }

  @Test("another router is another path, and what is gone is forgotten")
  func changes() async throws {
    let lan = nic("lan", 2, ["192.168.1.5"])
    func route(_ gateway: String) -> [AddressFamily: DefaultRoute] {
      [.v4: DefaultRoute(family: .v4, interfaceIndex: 2, gateway: IPAddress(gateway))]
    }
    let a = NetworkSnapshot(interfaces: [lan], defaultRoutes: route("192.168.1.1"))
    let b = NetworkSnapshot(interfaces: [lan], defaultRoutes: route("192.168.1.2"))
    #expect(NetworkKnowledge.paths(a) != NetworkKnowledge.paths(b))
    let counts = try await onLoop { loop in
      let knowledge = NetworkKnowledge(servers: [], on: loop)
      let counts = [a, a, b, NetworkSnapshot()].map { snapshot in
        knowledge.update(snapshot)
        return knowledge.reports.count
      }
      return knowledge.settled().map {
        knowledge.close()
        return counts
      }
    }
    #expect(counts == [1, 1, 1, 0])
  }

  /// Stands on loopback under another name, so that a server of the test can be asked.
  private func snapshot(_ gateway: String, _ ips: [String] = ["127.0.0.1"]) -> NetworkSnapshot {
    NetworkSnapshot(
      interfaces: [nic("net", 2, ips)],
      defaultRoutes: [.v4: DefaultRoute(family: .v4, interfaceIndex: 2, gateway: IPAddress(gateway))])
  }

  @Test("a change of the router is measured anew, what did not change is not; routes get their outside addresses")
  func measured() async throws {
    let words: [String] = try await onLoop { loop in
      FakeServer.start([loopback], on: loop) { request, from, index in
        let mapped = Endpoint(ip: ep("127.9.9.9:0").ip, port: from.port)
        return (
          STUNMessage(.success, .binding, transaction: request.transaction, attributes: [.xorMappedAddress(mapped)]),
          index
        )
      }.flatMap { server in
        let knowledge = NetworkKnowledge(
          servers: server.endpoints.map { STUNServer($0) },
          schedule: .init(rto: .milliseconds(30), requests: 2, lastWait: 2), on: loop)
        let seen = Seen()
        knowledge.changed = { seen.changes += 1 }
        @Sendable func look() {
          let route = knowledge.routes(of: self.nic("net", 2, ["127.0.0.1"]), .v4).first
          seen.words.append(
            "\(route?.extIPs.map(\.description) ?? []) \(seen.changes > 0) \(server.requests > seen.requests)")
          seen.changes = 0
          seen.requests = server.requests
        }
        knowledge.update(self.snapshot("192.168.1.1"))
        look()
        return knowledge.settled().flatMap {
          look()
          knowledge.update(self.snapshot("192.168.1.1"))
          return knowledge.settled()
        }.flatMap {
          look()
          knowledge.update(self.snapshot("192.168.1.2"))
          return knowledge.settled()
        }.map {
          look()
          knowledge.close()
          server.close()
          return seen.words
        }
      }
    }
    let known = "[\"127.9.9.9\"]"
    #expect(words == ["[] true false", "\(known) true true", "\(known) false false", "\(known) true true"])
  }

  private final class Seen: @unchecked Sendable {
    var words: [String] = []
    var changes = 0
    var requests = 0
  }
}
