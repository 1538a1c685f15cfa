import NIOCore
import P2PDNet

/// From nothing to a mapping.
extension MappingLease {
  /// The protocols for this address, best first.
  var protocols: [PortMappingProtocol] { want.local.family == .v4 ? [.pcp, .natpmp, .upnp] : [.pcp, .upnp] }

  mutating func race(_ now: NIODeadline) {
    phase = .racing
    started = now
    raceEnd = now + Self.raceTime
    timers = [.grace: raceEnd, .giveUp: now + Self.patience]
    if !isSettled { timers[.settle] = now + Self.settleTime }
    standing = [:]
    refusal = nil
    (pcpTimes, natpmpTimes, ssdpTimes) = (Retransmission(.pcp), Retransmission(.natpmp), Retransmission(.ssdp))
    for name in protocols {
      standing[name] = .waiting
      out.append(.noted(name, .silent))
    }
    for timer in [Timer.pcp, .natpmp, .ssdp] { again(timer, now) }
  }

  /// Sends what this timer repeats, and sets it anew.
  mutating func again(_ timer: Timer, _ now: NIODeadline) {
    let wait: TimeAmount?
    switch (timer, phase) {
    case (.pcp, .racing) where standing[.pcp] == .waiting,
      (.pcp, .asking) where standing[.pcp] == .waiting,
      (.pcp, .held) where grant?.by == .pcp:
      sendPCP(Self.lifetime)
      wait = pcpTimes.next(luck: luck * 2 - 1)
    case (.natpmp, .racing) where standing[.natpmp] == .waiting:
      askAddress()
      wait = natpmpTimes.next(luck: 0)
    case (.natpmp, .asking(.natpmp)),
      (.natpmp, .held) where grant?.by == .natpmp:
      sendNATPMP(Self.lifetime)
      wait = natpmpTimes.next(luck: 0)
    case (.ssdp, .racing) where standing[.upnp] == .waiting:
      out.append(.search)
      wait = ssdpTimes.next(luck: 0)
    default: return
    }
    if let wait { timers[timer] = now + wait }
  }

  mutating func sendPCP(_ lifetime: UInt32) {
    let external =
      lifetime == 0 ? Endpoint(ip: .wildcard(want.local.family), port: 0) : grant?.external ?? suggested
    let map = PCPMap(
      nonce: nonce, transport: want.transport == .tcp ? 6 : 17, internalPort: want.port, external: external)
    open.insert(.pcpMap)
    out.append(.pcp(PCPRequest(client: want.local, lifetime: lifetime, operation: .map(map))))
  }

  mutating func askAddress() {
    open.insert(.natpmpAddress)
    out.append(.natpmp(.address))
  }

  mutating func sendNATPMP(_ lifetime: UInt32) {
    let port = lifetime == 0 ? 0 : grant?.external.port ?? suggested.port
    open.insert(.natpmpMap)
    out.append(.natpmp(.map(want.transport, internalPort: want.port, externalPort: port, lifetime: lifetime)))
  }

  // MARK: Answers

  /// The protocol is there, and can be asked.
  mutating func ready(_ name: PortMappingProtocol, _ now: NIODeadline) {
    guard standing[name] == .waiting else { return }
    standing[name] = .available
    out.append(.noted(name, .answered))
    guard phase == .racing else { return }
    raceEnd = min(raceEnd, now + Self.graceTime)
    timers[.grace] = max(raceEnd, now)
    choose(now)
  }

  /// It answered, and will not.
  mutating func refused(
    _ name: PortMappingProtocol, _ words: String, for time: TimeAmount? = nil, _ now: NIODeadline
  ) {
    guard standing[name] != .refused, phase != .stopping else { return }
    standing[name] = .refused
    out.append(.noted(name, .refused(words)))
    if let time { refusal = min(refusal ?? time, time) }
    if phase == .racing { choose(now) }
  }

  /// Gives the task to the best that is there, unless a better one may still answer.
  mutating func choose(_ now: NIODeadline) {
    guard phase == .racing else { return }
    for name in protocols {
      switch standing[name] {
      case .available: return ask(name, now)
      case .waiting: if now < raceEnd { return }
      case .refused, .unasked, nil: continue
      }
    }
    if protocols.allSatisfy({ standing[$0] == .refused }) { rest(now) }
  }

  private mutating func ask(_ name: PortMappingProtocol, _ now: NIODeadline) {
    phase = .asking(name)
    timers[.grace] = nil
    timers[.giveUp] = nil
    switch name {
    case .pcp: break  // Its request is the race's first.
    case .natpmp:
      natpmpTimes = Retransmission(.natpmp)
      timers[.asking] = now + Self.answerTime
      again(.natpmp, now)
    case .upnp:
      timers[.asking] = now + Self.upnpTime
      addUPnP()
    }
  }

  /// The one that was asked will not: the others go on.
  mutating func raceOn(_ now: NIODeadline) {
    phase = .racing
    timers[.asking] = nil
    timers[.giveUp] = max(started + Self.patience, now)
  }

  mutating func addUPnP() {
    guard !isAdding else { return }
    isAdding = true
    out.append(.addUPnP(suggested: grant?.external.port ?? suggested.port))
  }

  /// Nothing came of it. Once more later: routers start, settings change.
  mutating func rest(_ now: NIODeadline) {
    phase = .resting
    settle()
    let wait = min(refusal ?? .hours(1), Self.firstRest * (1 << min(failures, Self.mostDoublings)))
    failures += 1
    timers = [.rest: now + max(wait, Self.shortestRest) * (1 + luck / 8)]
  }

  /// NAT.md's race, as measured with miniupnpd: PCP answers in 6 to 15 ms, a UPnP search in 50.
  private static let raceTime: TimeAmount = .milliseconds(250)
  private static let graceTime: TimeAmount = .milliseconds(50)
  /// When those who want to know are told that nothing has answered.
  private static let settleTime: TimeAmount = .milliseconds(2_200)
  /// RFC 6886 §3.1 gives up after its ninth request, at 64 s.
  private static let patience: TimeAmount = .seconds(64)
  private static let answerTime: TimeAmount = .seconds(8)
  /// The eight calls that it may take at most, each for as long as it may.
  private static let upnpTime: TimeAmount = .seconds(40)
  private static let firstRest: TimeAmount = .minutes(5)
  private static let shortestRest: TimeAmount = .minutes(1)
  /// Up to 80 minutes.
  private static let mostDoublings = 4
}
