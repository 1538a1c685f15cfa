import NIOCore
import P2PDNet

/// Asks several time servers at once, as a client that wants to know the time once and then leaves (RFC 4330, and what RFC
/// 5905 has beyond it). A server is asked again only where its answer got lost or says too little, at most three times,
/// and of its answers the one that travelled least counts.
public struct ClockQuery: Sendable {
  public enum Event: Sendable {
    case start
    /// The server's address is known and it can be asked.
    case opened(Int)
    /// It cannot be, or not any more.
    case failed(Int, String)
    case received(NTPPacket, from: Int)
    /// The time asked for with ``Action/wait(until:)`` has come.
    case timer
  }

  public enum Action: Sendable {
    case send(NTPPacket, to: Int)
    case wait(until: NIODeadline)
    case finish(ClockReport)
  }

  private struct Server: Sendable {
    var finding: ClockFinding
    /// Questions that may still be answered: their random numbers, and when they left.
    var open: [(number: UInt64, sent: NIODeadline)] = []
    var questions = 0
    /// When to go on with it; nil: it waits to be opened, or is done.
    var due: NIODeadline?
    var isOver = false
  }

  private var servers: [Server]
  private let clock: NTPTimestamp
  private let began: NIODeadline
  private let end: NIODeadline
  private let random: @Sendable () -> UInt64
  private var isOver = false

  /// - Parameters:
  ///   - servers: as errors call them.
  ///   - clock: what this host's clock says now. Read once: a clock that is set meanwhile changes nothing.
  ///   - patience: for all of it.
  ///   - random: unpredictable, anew at each call: whoever cannot see the questions cannot answer them.
  public init(
    _ servers: [String], clock: NTPTimestamp, now: NIODeadline, patience: TimeAmount,
    random: @escaping @Sendable () -> UInt64
  ) {
    self.servers = servers.map { Server(finding: ClockFinding(server: $0)) }
    self.clock = clock
    began = now
    end = now + patience
    self.random = random
  }

  public mutating func handle(_ event: Event, now: NIODeadline) -> [Action] {
    guard !isOver else { return [] }
    switch event {
    case .start: break
    case .opened(let index):
      guard servers.indices.contains(index), servers[index].questions == 0, !servers[index].isOver else { return [] }
      return ask(index, now) + goOn(now)
    case .failed(let index, let why):
      guard servers.indices.contains(index), !servers[index].isOver else { return [] }
      over(index, why)
    case .received(let packet, let index):
      guard servers.indices.contains(index), !servers[index].isOver else { return [] }
      take(packet, index, now)
    case .timer:
      let due = servers.indices.filter { servers[$0].due.map { $0 <= now } ?? false }
      return due.flatMap { again($0, now) } + goOn(now)
    }
    return goOn(now)
  }

  // MARK: Asking

  private mutating func ask(_ index: Int, _ now: NIODeadline) -> [Action] {
    let number = random()
    servers[index].open.append((number, now))
    servers[index].questions += 1
    servers[index].due = now + Self.answerTime
    return [.send(.question(number), to: index)]
  }

  private mutating func again(_ index: Int, _ now: NIODeadline) -> [Action] {
    guard servers[index].questions >= Self.questions else { return ask(index, now) }
    over(index, servers[index].finding.reading == nil ? "no answer" : nil)
    return []
  }

  private mutating func over(_ index: Int, _ problem: String?) {
    servers[index].isOver = true
    servers[index].due = nil
    servers[index].finding.problem = problem
  }

  // MARK: Answers

  private mutating func take(_ packet: NTPPacket, _ index: Int, _ now: NIODeadline) {
    // Not what was asked, or a second answer to it: nobody's, or somebody else's (RFC 5905 §8, "bogus" and "duplicate").
    guard let place = servers[index].open.firstIndex(where: { $0.number == packet.origin.bits }) else { return }
    let sent = servers[index].open.remove(at: place).sent
    if let problem = Self.fault(in: packet, after: now - sent) { return over(index, problem) }
    let sample = ClockReading(
      packet, sent: clock.advanced(by: sent - began), arrived: clock.advanced(by: now - began))
    servers[index].finding.stratum = packet.stratum
    if servers[index].finding.reading.map({ sample.roundTrip < $0.roundTrip }) ?? true {
      servers[index].finding.reading = sample
    }
    // It is not bothered again where it cannot say anything better.
    if servers[index].questions >= Self.questions || sample.error <= Self.goodError {
      over(index, nil)
    } else {
      servers[index].due = sent + Self.spacing
    }
  }

  /// What keeps an answer from being used (RFC 4330 §5, RFC 5905 §7.4 and A.5.1.1).
  private static func fault(in packet: NTPPacket, after elapsed: TimeAmount) -> String? {
    guard packet.mode == .server, (3...4).contains(packet.version) else { return "answers, but not as an NTP server" }
    if let kiss = packet.kiss {
      return switch kiss {
      case "RATE": "wants to be asked less often"
      case "DENY", "RSTR": "refuses this host"
      case "INIT", "STEP": "does not know the time itself"
      default: "wants not to be asked (\(kiss))"
      }
    }
    let (delay, dispersion) = (packet.rootDelay.time, packet.rootDispersion.time)
    // chrony without a source says stratum 0, others 16.
    guard packet.leap != 3, (1...15).contains(packet.stratum), packet.transmit.bits != 0, packet.receive.bits != 0,
      delay < mostRootDistance, dispersion < mostRootDistance
    else { return "does not know the time itself" }
    // It cannot have had the question for longer than it took; else its answer would seem to have travelled less than
    // nothing, and to be the best of all.
    let held = packet.transmit.since(packet.receive)
    guard held >= .zero, held <= elapsed + clockGrain else { return "tells impossible times" }
    return nil
  }

  // MARK: The end

  private mutating func goOn(_ now: NIODeadline) -> [Action] {
    let used = servers.indices.filter { servers[$0].finding.reading != nil }
    let vote = ClockVote.count(used.compactMap { servers[$0].finding.reading })
    if servers.allSatisfy(\.isOver) || now >= end || isEnough(vote, used.count) {
      isOver = true
      var report = ClockReport(reading: vote?.best, servers: servers.map(\.finding))
      for place in vote?.doubted ?? [] { report.servers[used[place]].problem = "contradicts the other servers" }
      for index in servers.indices where !servers[index].isOver && report.servers[index].reading == nil {
        report.servers[index].problem = "no answer yet"
      }
      return [.finish(report)]
    }
    return [.wait(until: min(end, servers.compactMap(\.due).min() ?? end))]
  }

  /// Most of all servers agree, and closely enough for what the time is needed for.
  private func isEnough(_ vote: (best: ClockReading, doubted: [Int])?, _ answered: Int) -> Bool {
    guard let vote, vote.best.error <= Self.goodError else { return false }
    return (answered - vote.doubted.count) * 2 > servers.count
  }

  /// To each server. One that is lost or held up is made good, and a server is not bothered (RFC 4330 §10).
  private static let questions = 3
  /// RFC 5905 §13 (BTIME): ntpd and chrony count what comes faster as abuse.
  private static let spacing: TimeAmount = .seconds(2)
  /// For an answer, before it counts as lost; a late one is taken all the same.
  private static let answerTime: TimeAmount = .seconds(1)
  /// Two hosts that meet at a time need it no better than the way between them takes, 10 to 100 ms.
  private static let goodError: TimeAmount = .milliseconds(50)
  /// RFC 4330 §5: "infinity is currently a cozy number like one second".
  private static let mostRootDistance: TimeAmount = .seconds(1)
  /// Clocks of two hosts tick with different grains.
  private static let clockGrain: TimeAmount = .milliseconds(1)
}

extension ClockReading {
  /// RFC 5905 §8: the offset is right where both ways take the same time, and wrong by half of the round trip at most.
  fileprivate init(_ packet: NTPPacket, sent: NTPTimestamp, arrived: NTPTimestamp) {
    let (there, back) = (packet.receive.since(sent), packet.transmit.since(arrived))
    let travelled = max(.zero, arrived.since(sent) - packet.transmit.since(packet.receive))
    let distance = max(Self.leastDistance, travelled + packet.rootDelay.time)
    self.init(
      offset: .nanoseconds((there.nanoseconds + back.nanoseconds) / 2),
      error: .nanoseconds(distance.nanoseconds / 2) + packet.rootDispersion.time, roundTrip: travelled)
  }

  /// RFC 5905 §11.2.1 (MINDISP): no clock on a network is better.
  private static let leastDistance: TimeAmount = .milliseconds(5)
}
