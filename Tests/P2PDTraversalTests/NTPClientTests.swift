import Foundation
import NIOCore
import P2PDNet
import Testing

@testable import P2PDTraversal

@Suite("Asking time servers over a network")
struct NTPClientTests {
  /// Three servers on simulated hosts, each ahead of the right time by so much; nil: the host is off.
  private func ask(
    _ offsets: [TimeAmount?], latency: TimeAmount = .milliseconds(20), loss: Double = 0, off ours: TimeAmount = .zero,
    spoil: FakeTimeServer.Spoil? = nil
  ) async throws -> (report: ClockReport, took: TimeAmount) {
    let time = try VirtualTime()
    defer { time.stop() }
    let net = MemoryNetwork(time, seed: 4)
    (net.standard.latency, net.standard.loss) = (latency, loss)
    let host = net.addHost("client")
    let began: Int64 = 1_700_000_000_000_000_000
    let zero = time.now
    let right = { @Sendable (offset: TimeAmount) in began + (time.now - zero).nanoseconds + offset.nanoseconds }
    let servers = offsets.enumerated().map { (net.addHost("time\($0)"), $1) }
    return try await host.loop.run {
      for (server, offset) in servers {
        let clock = { @Sendable in NTPTimestamp(unixNanoseconds: right(offset ?? .zero)) }
        _ = try await FakeTimeServer.start(ep("0.0.0.0:123"), on: server.loop, clock: clock, spoil).get()
        server.hasVanished = offset == nil
      }
      let urls = servers.map { ServerURL(.ntp, host: $0.0.name) }
      let start = time.now
      let report = try await NTPClient(servers: urls, on: host.loop) { right(ours) }.ask().get()
      let took = time.now - start
      net.reset(seed: 0)
      return (report, took)
    }.get()
  }

  @Test("a clock that is five seconds slow is found to be, in one round trip")
  func slow() async throws {
    let (report, took) = try await ask([.zero, .zero, .zero], off: .seconds(-5))
    let reading = try report.get()
    #expect(abs(reading.offset.nanoseconds - 5_000_000_000) < 1000 && reading.roundTrip < .milliseconds(41))
    #expect(took < .milliseconds(41))
    #expect(reading.corrected(0) == reading.offset.nanoseconds)
  }

  @Test("a liar, a dead server and a lossy line change nothing")
  func bad() async throws {
    let (report, _) = try await ask([.seconds(3600), .zero, nil, .zero, .zero], loss: 0.2)
    #expect(abs(try report.get().offset.nanoseconds) < 21_000_000)
    #expect(report.servers[2].problem?.hasPrefix("no answer") == true)
  }

  @Test("nobody answers: told in time, with what each met")
  func silent() async throws {
    let (report, took) = try await ask([nil, nil])
    #expect(took <= .seconds(5))
    do throws(NetError) {
      _ = try report.get()
      Issue.record("somebody answered")
    } catch {
      #expect(error.code == .timeout && error.attempts.count == 2, "\(error)")
    }
  }

  @Test("names that cannot be found are said, and no server is no answer")
  func names() async throws {
    let report = try await onLoop { loop in
      NTPClient(servers: [ServerURL(.ntp, host: "nowhere.invalid")], on: loop).ask()
    }
    #expect(report.reading == nil && report.servers[0].problem != nil && report.servers[0].problem != "no answer")
    let none = try await onLoop { loop in NTPClient(servers: [], on: loop).ask() }
    #expect(none.reading == nil && none.servers.isEmpty)
  }

  @Test("a real server, chrony, tells the time that it has", .enabled(if: !Chrony.isMissing, Chrony.whyMissing))
  func chrony() async throws {
    let server = try await Chrony.start()
    let url = ServerURL(.ntp, host: "127.0.0.1", port: server.port)
    let report = try await onLoop { loop in
      NTPClient(servers: [url], on: loop) { NTPClient.systemClock() - 5_000_000_000 }.ask()
    }
    let reading = try report.get()
    // Its clock is this machine's.
    #expect(abs(reading.offset.nanoseconds - 5_000_000_000) < 50_000_000, "\(reading)")
    #expect(reading.roundTrip < .milliseconds(100) && report.servers[0].stratum == 8)
    await server.stop()
    let gone = try await onLoop { loop in NTPClient(servers: [url], on: loop).ask(patience: .milliseconds(1200)) }
    #expect(gone.reading == nil)
  }

  @Test(
    "a real server that does not know the time is not believed", .enabled(if: !Chrony.isMissing, Chrony.whyMissing))
  func unsynchronised() async throws {
    let server = try await Chrony.start(isSynchronised: false)
    let url = ServerURL(.ntp, host: "127.0.0.1", port: server.port)
    let report = try await onLoop { loop in NTPClient(servers: [url], on: loop).ask() }
    #expect(report.reading == nil && report.servers[0].problem == "does not know the time itself")
    await server.stop()
  }
}
