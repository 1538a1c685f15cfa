import NIOCore
import P2PDNet

/// One port of one path and all that is done to have it open: the race of the protocols, the renewals, the removal.
/// A value to be stepped by hand; whoever drives it performs what it answers. It knows no socket and no clock.
///
/// The race (at most 250 ms): PCP's MAP, NAT-PMP's address request and UPnP's search leave at once. PCP wins with its
/// answer. The first other answer gives the better protocols 50 ms more. When the time is over, whoever is there gets
/// the task, and later answers win in the order they come.
public struct MappingLease: Sendable {
  /// What is to be opened.
  public struct Want: Hashable, Sendable {
    public var local: IPAddress
    public var transport: PipeProto
    public var port: UInt16

    public init(local: IPAddress, transport: PipeProto, port: UInt16) {
      self.local = local
      self.transport = transport
      self.port = port
    }
  }

  /// What a router gave.
  public struct Grant: Hashable, Sendable {
    public var by: PortMappingProtocol
    public var external: Endpoint
    /// nil: until it is taken away.
    public var lifetime: TimeAmount?
    /// UPnP's name of a hole in an IPv6 firewall.
    public var pinhole: UInt16?

    public init(by: PortMappingProtocol, external: Endpoint, lifetime: TimeAmount?, pinhole: UInt16? = nil) {
      self.by = by
      self.external = external
      self.lifetime = lifetime
      self.pinhole = pinhole
    }
  }

  public enum Event: Sendable {
    case start
    /// The time of the last ``Action/wait(until:)`` has come.
    case timer
    case pcp(PCPResponse)
    case natpmp(NATPMPResponse)
    /// A gateway that can do it was found.
    case upnpReady
    /// A gateway was found, but it cannot.
    case upnpUnfit(String)
    /// What came of ``Action/addUPnP(suggested:)``.
    case upnpGranted(Grant)
    /// Refused, and whether for good; otherwise it was not understood or not answered.
    case upnpRefused(String, isFinal: Bool)
    case upnpRemoved
    /// The router says, to everybody, that it has started.
    case announced
    /// Take it away.
    case stop
  }

  public enum Action: Hashable, Sendable {
    case pcp(PCPRequest)
    case natpmp(NATPMPRequest)
    /// Search for a UPnP gateway, and tell of it.
    case search
    case addUPnP(suggested: UInt16)
    case removeUPnP(Grant)
    /// Replaces the time asked for before.
    case wait(until: NIODeadline)
    /// It is open, anew or elsewhere than before.
    case granted(Grant)
    /// It is not open any more.
    case lost
    case noted(PortMappingProtocol, PortMappingFinding.Answer)
    /// What can be found out has been, for now.
    case settled
    /// After `stop`: it is gone, or the time for it is over.
    case over
  }

  enum Phase: Hashable {
    case idle, racing, resting, stopping, over
    /// The request was sent; PCP's is part of the race.
    case asking(PortMappingProtocol)
    case held
  }

  enum Standing: Hashable {
    case unasked, waiting, available, refused
  }

  enum Timer: Int, Hashable {
    case pcp, natpmp, ssdp, grace, asking, settle, giveUp, renew, check, expire, rest, stop
  }

  /// Questions that have no answer yet. What nobody asked for is no answer: these protocols know no signature.
  enum Question: Hashable {
    case pcpMap, pcpAnnounce, natpmpMap, natpmpAddress
  }

  public let want: Want
  public let nonce: PCPNonce
  /// What the router gave, while it holds.
  public internal(set) var grant: Grant?

  var phase = Phase.idle
  var standing: [PortMappingProtocol: Standing] = [:]
  var timers: [Timer: NIODeadline] = [:]
  var open: Set<Question> = []
  var out: [Action] = []
  /// The router's address as NAT-PMP tells it.
  var outside: IPAddress?
  var suggested: Endpoint
  var started = NIODeadline.uptimeNanoseconds(0)
  var raceEnd = NIODeadline.uptimeNanoseconds(0)
  var given = NIODeadline.uptimeNanoseconds(0)
  var renewals = 0
  var failures = 0
  var farewells = 0
  /// Whom the removal is asked of.
  var leaving: PortMappingProtocol?
  var isAdding = false
  var isSettled = false
  /// The last announcement that was believed.
  var announcement: NIODeadline?
  var pcpTimes = Retransmission(.pcp)
  var natpmpTimes = Retransmission(.natpmp)
  var ssdpTimes = Retransmission(.ssdp)
  var pcpEpoch = EpochWatch(.pcp)
  var natpmpEpoch = EpochWatch(.natpmp)
  /// How long the router's refusals stand.
  var refusal: TimeAmount?
  private let random: @Sendable () -> Double

  /// - Parameters:
  ///   - nonce: the one of an earlier run, so that its mapping is found again.
  ///   - suggested: the outside place of an earlier run, to have it again.
  ///   - random: 0 to 1.
  public init(
    _ want: Want, nonce: PCPNonce = .random(), suggested: Endpoint? = nil,
    random: @escaping @Sendable () -> Double = { .random(in: 0...1) }
  ) {
    self.want = want
    self.nonce = nonce
    self.random = random
    self.suggested = suggested ?? Endpoint(ip: .wildcard(want.local.family), port: want.port)
  }

  /// Whether it has come to an end.
  public var isOver: Bool { phase == .over }

  public mutating func handle(_ event: Event, now: NIODeadline) -> [Action] {
    guard phase != .over else { return [] }
    switch event {
    case .start: if phase == .idle { race(now) }
    case .timer:
      // In the order of their times; one may set or clear another.
      while phase != .over, let due = timers.min(by: { ($0.value, $0.key.rawValue) < ($1.value, $1.key.rawValue) }),
        due.value <= now
      {
        timers[due.key] = nil
        fire(due.key, now)
      }
    case .pcp(let response): heard(response, now)
    case .natpmp(let response): heard(response, now)
    case .upnpReady: ready(.upnp, now)
    case .upnpUnfit(let words):
      refused(.upnp, words, now)
    case .upnpGranted(let grant):
      isAdding = false
      upnpGranted(grant, now)
    case .upnpRefused(let words, let isFinal):
      isAdding = false
      upnpRefused(words, isFinal: isFinal, now)
    case .upnpRemoved: if phase == .stopping { end() }
    case .announced: announced(now)
    case .stop: stop(now)
    }
    if phase != .over, let next = timers.values.min() { out.append(.wait(until: next)) }
    defer { out = [] }
    return out
  }

  /// Anybody on the link can say so: it costs one renewal in a while, no more.
  private mutating func announced(_ now: NIODeadline) {
    guard phase == .held, grant?.by != .upnp, announcement.map({ now - $0 >= Self.announcedRest }) ?? true else {
      return
    }
    announcement = now
    let soon = now + Self.announcedSpread * luck
    timers[.renew] = min(timers[.renew] ?? soon, soon)
  }

  /// 0 to 1.
  var luck: Double { random() }

  private mutating func fire(_ timer: Timer, _ now: NIODeadline) {
    switch timer {
    case .pcp, .natpmp, .ssdp: again(timer, now)
    case .grace: choose(now)
    case .asking:
      if case .asking(let name) = phase { failed(name, "it answers, but not to the request for a mapping", now) }
    case .settle: settle()
    case .giveUp: rest(now)
    case .renew: renew(now)
    case .check: check(now)
    case .expire: lose(now)
    case .rest: race(now)
    case .stop: farewell(now)
    }
  }

  mutating func settle() {
    timers[.settle] = nil
    guard !isSettled else { return }
    isSettled = true
    out.append(.settled)
  }

  /// Seconds asked for: long enough to be seldom a burden, short enough that what is forgotten goes by itself.
  public static let lifetime: UInt32 = 7200
  private static let announcedRest: TimeAmount = .seconds(30)
  /// RFC 6887 §14.1.3: not everybody at once when a router starts.
  private static let announcedSpread: TimeAmount = .seconds(5)
}

extension TimeAmount {
  static func * (time: TimeAmount, part: Double) -> TimeAmount {
    .nanoseconds(Int64(Double(time.nanoseconds) * part))
  }
}
