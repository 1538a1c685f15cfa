import NIOCore
import P2PDNet

/// Answers of the servers, and a mapping's life.
extension MappingLease {
  // MARK: Answers

  mutating func heard(_ response: PCPResponse, _ now: NIODeadline) {
    let isSame = pcpEpoch.isSame(response.epoch, now: now)
    switch response.operation {
    case .announce:
      guard open.remove(.pcpAnnounce) != nil else { return }
      if !isSame, phase == .held, grant?.by == .pcp { recover(.pcp, now) }
      return
    case .map(let map):
      guard map.nonce == nonce, map.internalPort == want.port, map.transport == (want.transport == .tcp ? 6 : 17) else {
        return
      }
      guard phase != .stopping else { return end() }
      guard open.remove(.pcpMap) != nil else { return }
      if response.result == .success { return mapped(map, response.lifetime, now) }
    case .other:
      guard response.result != .success, phase != .stopping, open.remove(.pcpMap) != nil else { return }
    }
    guard standing[.pcp] == .waiting || grant?.by == .pcp else { return }
    if response.result == .cannotProvideExternal, suggested.port != 0, grant == nil {
      // Any other will do.
      suggested = Endpoint(ip: .wildcard(want.local.family), port: 0)
      return sendPCP(Self.lifetime)
    }
    if grant?.by == .pcp { lose(now) }
    refused(.pcp, response.result.words, for: .seconds(Int64(response.lifetime)), now)
  }

  private mutating func mapped(_ map: PCPMap, _ seconds: UInt32, _ now: NIODeadline) {
    // The removal of an earlier run's, or of one that was replaced.
    guard seconds > 0 else { return }
    guard seconds >= Self.shortestLifetime, map.external.port != 0 else {
      if grant?.by == .pcp { lose(now) }
      return refused(.pcp, "the router gives a port for \(seconds) s only", now)
    }
    standing[.pcp] = .available
    hold(Grant(by: .pcp, external: map.external, lifetime: Self.bounded(seconds)), now)
  }

  mutating func heard(_ response: NATPMPResponse, _ now: NIODeadline) {
    let isSame = response.epoch.map { natpmpEpoch.isSame($0, now: now) } ?? true
    switch response.content {
    case .address(let ip):
      guard open.remove(.natpmpAddress) != nil else { return }
      let hasMoved = outside.map { $0 != ip } ?? false
      outside = ip
      ready(.natpmp, now)
      if !isSame || hasMoved, phase == .held, grant?.by == .natpmp { recover(.natpmp, now) }
    case .map(let transport, let inside, let port, let seconds):
      guard transport == want.transport, inside == want.port else { return }
      guard phase != .stopping else { return end() }
      guard open.remove(.natpmpMap) != nil, phase == .asking(.natpmp) || phase == .held && grant?.by == .natpmp,
        let outside, seconds > 0
      else { return }
      guard seconds >= Self.shortestLifetime, port != 0 else {
        return failed(.natpmp, "the router gives a port for \(seconds) s only", now)
      }
      hold(Grant(by: .natpmp, external: Endpoint(ip: outside, port: port), lifetime: Self.bounded(seconds)), now)
    case .refused(let opcode):
      if response.result == .unsupportedVersion, standing[.pcp] == .waiting, opcode != 0 {
        // The answer of a router that knows NAT-PMP alone to a request of PCP (RFC 6887 §9).
        return refused(.pcp, "the router speaks NAT-PMP only", now)
      }
      if phase == .stopping { return end() }
      guard open.remove(opcode == 0 ? .natpmpAddress : .natpmpMap) != nil else { return }
      failed(.natpmp, response.result.words, now)
    }
  }

  mutating func upnpGranted(_ new: Grant, _ now: NIODeadline) {
    switch phase {
    case .asking(.upnp): hold(new, now)
    case .held where grant?.by == .upnp: hold(new, now)
    default:
      // Somebody else was faster, or it is wanted no more. The same place may be the other's entry in the same table.
      if grant?.external != new.external { out.append(.removeUPnP(new)) }
    }
  }

  mutating func upnpRefused(_ words: String, isFinal: Bool, _ now: NIODeadline) {
    switch phase {
    case .stopping: end()
    case .held where grant?.by == .upnp:
      // Not answered: the next renewal asks again.
      if isFinal { failed(.upnp, words, now) } else if grant?.lifetime == nil { failedCheck(words, now) }
    default: failed(.upnp, words, now)
    }
  }

  /// The protocol that had the task, or the mapping, will not any more.
  mutating func failed(_ name: PortMappingProtocol, _ words: String, _ now: NIODeadline) {
    if phase == .held, grant?.by == name { lose(now) }
    if phase == .asking(name) { raceOn(now) }
    refused(name, words, now)
  }

  // MARK: Life

  private mutating func hold(_ new: Grant, _ now: NIODeadline) {
    let (old, wasHeld) = (grant, phase == .held)
    if let old, old.by == .upnp, new.by != .upnp, old.external != new.external { out.append(.removeUPnP(old)) }
    phase = .held
    (grant, given, renewals, failures) = (new, now, 0, 0)
    // Another port than the one given now is not asked for after a restart of the router.
    suggested = new.external
    let settles = isSettled ? nil : max(now, started + Self.raceTail)
    timers = [:]
    if let lifetime = new.lifetime { timers[.expire] = now + lifetime }
    timers[.settle] = settles
    timers[.check] = now + Self.checkTime * (1 + luck / 8)
    plan(now)
    if !wasHeld || old?.by != new.by { out.append(.noted(new.by, .granted)) }
    standing[new.by] = .available
    if old?.external != new.external || old?.by != new.by || old?.lifetime != new.lifetime { out.append(.granted(new)) }
  }

  /// Sets the time of the next renewal.
  private mutating func plan(_ now: NIODeadline) {
    guard let grant else { return }
    guard let lifetime = grant.lifetime else {
      timers[.renew] = now + Self.lookTime * (1 + luck / 8)
      return
    }
    timers[.renew] = Renewal.delay(lifetime: lifetime, attempt: renewals, luck: luck).map { given + $0 }
    // A UPnP router that restarted says nothing; asking again is what finds out.
    if grant.by == .upnp, renewals == 0 {
      let look = now + Self.lookTime * (1 + luck / 8)
      timers[.renew] = timers[.renew].map { min($0, look) } ?? look
    }
  }

  mutating func renew(_ now: NIODeadline) {
    guard phase == .held, let grant else { return }
    renewals += 1
    switch grant.by {
    case .pcp: sendPCP(Self.lifetime)
    case .natpmp: sendNATPMP(Self.lifetime)
    case .upnp: addUPnP()
    }
    plan(now)
  }

  /// The router has forgotten it: asked for at once, and until it answers.
  private mutating func recover(_ name: PortMappingProtocol, _ now: NIODeadline) {
    switch name {
    case .pcp:
      pcpTimes = Retransmission(.pcp)
      again(.pcp, now)
    case .natpmp:
      natpmpTimes = Retransmission(.natpmp)
      again(.natpmp, now)
    case .upnp: addUPnP()
    }
  }

  /// A mapping without an end is lost when the router has not answered for that many looks.
  private mutating func failedCheck(_ words: String, _ now: NIODeadline) {
    if renewals >= Self.mostSilentLooks { failed(.upnp, words, now) }
  }

  /// Asks whether the router is still the one that it was: two dozen bytes on the LAN.
  mutating func check(_ now: NIODeadline) {
    guard phase == .held, let grant else { return }
    timers[.check] = now + Self.checkTime * (1 + luck / 8)
    switch grant.by {
    case .pcp:
      open.insert(.pcpAnnounce)
      out.append(.pcp(PCPRequest(client: want.local, operation: .announce)))
    case .natpmp: askAddress()
    case .upnp: break
    }
  }

  /// It is gone; the race begins anew.
  mutating func lose(_ now: NIODeadline) {
    guard grant != nil else { return }
    grant = nil
    out.append(.lost)
    race(now)
  }

  // MARK: The end

  mutating func stop(_ now: NIODeadline) {
    guard phase != .stopping else { return }
    let (was, held) = (phase, grant)
    phase = .stopping
    grant = nil
    timers = [:]
    if held != nil { out.append(.lost) }
    if let held {
      leaving = held.by
    } else if was == .asking(.natpmp) {
      leaving = .natpmp
    } else if isAdding {
      leaving = .upnp
    } else if standing[.pcp] == .waiting, open.contains(.pcpMap) {
      // What was asked for may be granted without anybody hearing of it.
      sendPCP(0)
    }
    guard let leaving else { return end() }
    if leaving == .upnp {
      if let held { out.append(.removeUPnP(held)) }
      timers[.stop] = now + Self.upnpFarewell
    } else {
      farewell(now)
    }
  }

  /// Asks for the removal, a few times over as long as somebody who leaves can be kept waiting.
  mutating func farewell(_ now: NIODeadline) {
    guard leaving != .upnp, farewells < Self.mostFarewells else { return end() }
    farewells += 1
    if leaving == .pcp { sendPCP(0) } else { sendNATPMP(0) }
    timers[.stop] = now + Self.farewellTime
  }

  mutating func end() {
    phase = .over
    timers = [:]
    out.append(.over)
  }

  private static func bounded(_ seconds: UInt32) -> TimeAmount { .seconds(Int64(min(seconds, longestLifetime))) }

  /// Seconds. Less would be a renewal every few seconds.
  static let shortestLifetime: UInt32 = 30
  /// Seconds: a day, RFC 6887 §15's advice for the longest.
  static let longestLifetime: UInt32 = 86_400
  /// What the other protocols say is waited for so long, since it tells about the router.
  private static let raceTail: TimeAmount = .milliseconds(250)
  private static let checkTime: TimeAmount = .minutes(4)
  /// For UPnP, which has no clock to compare.
  private static let lookTime: TimeAmount = .minutes(20)
  private static let mostSilentLooks = 3
  private static let mostFarewells = 3
  private static let farewellTime: TimeAmount = .milliseconds(200)
  private static let upnpFarewell: TimeAmount = .milliseconds(1_500)
}
