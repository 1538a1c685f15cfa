import NIOCore
import P2PDNet

/// One allocation at one TURN server, from the first question to the last (RFC 8656, RFC 6062): logs in, keeps the allocation,
/// its permissions and its channels alive, and gives it back. Knows no socket and no clock; whoever drives it sends what it
/// asks, tells it what came of that, and wakes it when it says.
public struct TURNSession: Sendable {
  /// What travels between the server and the peers.
  public enum Relaying: UInt8, Sendable {
    /// Datagrams (RFC 8656).
    case udp = 17
    /// Streams (RFC 6062).
    case tcp = 6
  }

  /// Where the allocation is.
  public struct Address: Hashable, Sendable {
    /// Where peers send to.
    public let relayed: Endpoint
    /// Our own address as the server sees it.
    public let mapped: Endpoint?
  }

  public enum Event: Sendable {
    case start
    /// The question of that number was answered; its signature was checked where it has one.
    case answered(Int, STUNMessage)
    case unanswered(Int, NetError)
    /// Let that address through.
    case permit(IPAddress)
    /// Give that peer a channel, which lets it through as well.
    case bind(Endpoint)
    /// The time asked for has come.
    case timer
    /// Give the allocation back.
    case close
  }

  public enum Action: Sendable {
    case ask(Int, STUNMessage, STUNSignature?)
    /// The next thing to do by itself; takes the place of what was said before.
    case wait(until: NIODeadline)
    case allocated(Address)
    case permitted(IPAddress)
    /// It is not let through: never was, or not any longer.
    case refused(IPAddress, NetError)
    case bound(Endpoint, channel: UInt16)
    case unbound(Endpoint, NetError)
    /// Go to that server with a new session (300).
    case redirected(Endpoint, domain: String?)
    /// The server remembers our address and port for something else (437): try from another.
    case needsAnotherPort
    /// Over: nil after ``Event/close``. Nothing follows.
    case ended(NetError?)
  }

  public let server: Endpoint
  public let relaying: Relaying
  /// For connections beside this one: they log in with what is known already.
  public private(set) var authentication: TURNAuthentication
  public private(set) var address: Address?

  private let family: AddressFamily
  private var isClosing = false
  private var isOver = false
  private var questions: [Int: Question] = [:]
  private var lastQuestion = 0
  private var expiry: NIODeadline?
  private var refreshDue: NIODeadline?
  private var permissions: [IPAddress: Grant] = [:]
  private var channels: [Endpoint: Channel] = [:]
  private var lastChannel = TURNFrame.channels.lowerBound
  private var told: NIODeadline?

  private enum Purpose: Hashable {
    case allocate, refresh, release
    case permission(IPAddress)
    case channel(Endpoint)
  }

  private struct Question {
    let purpose: Purpose
    let isSigned: Bool
    /// Challenges its purpose has met in a row.
    var challenges = 0
  }

  /// Something at the server that lives only so long.
  private struct Grant {
    var isAsked = true
    var isGranted = false
    var due: NIODeadline?
    var expiry: NIODeadline?
  }

  private struct Channel {
    let number: UInt16
    var grant = Grant()
  }

  /// - Parameter family: the relayed address's.
  public init(
    _ relaying: Relaying, at server: Endpoint, login: TURNLogin?, family: AddressFamily = .v4
  ) {
    self.relaying = relaying
    self.server = server
    self.family = family
    authentication = TURNAuthentication(login)
  }

  public mutating func handle(_ event: Event, now: NIODeadline) -> [Action] {
    guard !isOver else { return [] }
    var actions = react(to: event, now)
    if isOver { return actions }
    // One timer for all: the earliest.
    let next = ([refreshDue] + permissions.values.map(\.due) + channels.values.map(\.grant.due)).compactMap { $0 }.min()
    if let next, next != told { actions.append(.wait(until: next)) }
    told = next
    return actions
  }

  private mutating func react(to event: Event, _ now: NIODeadline) -> [Action] {
    switch event {
    case .start: return address == nil && questions.isEmpty ? ask(.allocate) : []
    case .permit(let ip): return permit(ip, now)
    case .bind(let peer): return bind(peer, now)
    case .timer:
      told = nil
      return wake(now)
    case .close: return close()
    case .unanswered(let number, let error):
      guard let question = questions.removeValue(forKey: number) else { return [] }
      return failed(question.purpose, error, now)
    case .answered(let number, let message):
      guard let question = questions.removeValue(forKey: number) else { return [] }
      if message.kind == .success { return succeeded(question.purpose, message, now) }
      return refused(question, message, now)
    }
  }

  // MARK: Asking

  private mutating func ask(_ purpose: Purpose, challenges: Int = 0) -> [Action] {
    let (method, attributes) = text(of: purpose)
    let (message, signature) = authentication.signed(method, attributes)
    lastQuestion += 1
    questions[lastQuestion] = Question(purpose: purpose, isSigned: signature != nil, challenges: challenges)
    return [.ask(lastQuestion, message, signature)]
  }

  private func text(of purpose: Purpose) -> (STUNMethod, [STUNAttribute]) {
    switch purpose {
    case .allocate:
      // IPv4 is what a server gives that is not asked for a family, and older ones do not know the question.
      let wanted: [STUNAttribute] = family == .v6 ? [.requestedAddressFamily(.v6)] : []
      return (.allocate, [.requestedTransport(relaying.rawValue)] + wanted)
    case .refresh: return (.refresh, [])
    case .release: return (.refresh, [.lifetime(0)])
    case .permission(let ip): return (.createPermission, [.xorPeerAddress(Endpoint(ip: ip, port: 0))])
    case .channel(let peer):
      return (.channelBind, [.channelNumber(channels[peer]?.number ?? 0), .xorPeerAddress(peer)])
    }
  }

  private mutating func permit(_ ip: IPAddress, _ now: NIODeadline) -> [Action] {
    if let known = permissions[ip] { return known.isGranted ? [.permitted(ip)] : [] }
    guard address != nil, !isClosing else { return [.refused(ip, Self.notOpen)] }
    guard permissions.count < Self.mostPermissions else {
      return [.refused(ip, NetError(.limit, "let \(ip) through", cause: "there are \(permissions.count) already"))]
    }
    permissions[ip] = Grant()
    return ask(.permission(ip))
  }

  private mutating func bind(_ peer: Endpoint, _ now: NIODeadline) -> [Action] {
    if let known = channels[peer] { return known.grant.isGranted ? [.bound(peer, channel: known.number)] : [] }
    guard address != nil, !isClosing else { return [.unbound(peer, Self.notOpen)] }
    guard relaying == .udp, channels.count < Self.mostChannels, lastChannel < TURNFrame.channels.upperBound else {
      return [.unbound(peer, NetError(.limit, "bind a channel to \(peer)", cause: "there is none left"))]
    }
    // A number is never used again: for 5 minutes after its end the server would not have it (RFC 8656 §12).
    channels[peer] = Channel(number: lastChannel)
    lastChannel += 1
    return ask(.channel(peer))
  }

  private mutating func wake(_ now: NIODeadline) -> [Action] {
    var actions: [Action] = []
    if let expiry, expiry <= now {
      return end(NetError(.timeout, what, cause: "the server did not answer, and its allocation has run out"))
    }
    if let due = refreshDue, due <= now {
      refreshDue = nil
      actions += ask(isClosing ? .release : .refresh)
    }
    for (ip, grant) in permissions.sorted(by: { $0.key.description < $1.key.description }) {
      guard let due = grant.due, due <= now else { continue }
      permissions[ip]?.due = nil
      permissions[ip]?.isAsked = true
      actions += ask(.permission(ip))
    }
    for (peer, channel) in channels.sorted(by: { $0.value.number < $1.value.number }) {
      guard let due = channel.grant.due, due <= now else { continue }
      channels[peer]?.grant.due = nil
      channels[peer]?.grant.isAsked = true
      actions += ask(.channel(peer))
    }
    return actions
  }

  private mutating func close() -> [Action] {
    guard !isClosing else { return [] }
    isClosing = true
    for ip in permissions.keys { permissions[ip]?.due = nil }
    for peer in channels.keys { channels[peer]?.grant.due = nil }
    refreshDue = nil
    // An Allocate on its way may still succeed, and is given back then.
    if address == nil { return questions.values.contains { $0.isSigned } ? [] : end(nil) }
    return ask(.release)
  }

  // MARK: Answers

  private mutating func succeeded(_ purpose: Purpose, _ message: STUNMessage, _ now: NIODeadline) -> [Action] {
    switch purpose {
    case .allocate:
      guard let relayed = message.relayed else {
        return end(NetError(.io, what, cause: "the server's answer names no relayed address"))
      }
      if let problem = Self.problem(relayed, of: server) { return end(problem) }
      let address = Address(relayed: relayed, mapped: message.mapped)
      self.address = address
      lives(message, now)
      if isClosing {
        refreshDue = nil
        return ask(.release)
      }
      return [.allocated(address)]
    case .refresh:
      if message.lifetime == 0 { return end(NetError(.closed, what, cause: "the server took the allocation back")) }
      lives(message, now)
      return []
    case .release: return end(nil)
    case .permission(let ip):
      guard let grant = permissions[ip] else { return [] }
      permissions[ip] = Self.granted(Self.permissionLife, now)
      return grant.isGranted ? [] : [.permitted(ip)]
    case .channel(let peer):
      guard let channel = channels[peer] else { return [] }
      // The server refreshes the peer's permission with it, for less time than the channel lives (RFC 8656 §12).
      channels[peer]?.grant = Self.granted(Self.permissionLife, now)
      return channel.grant.isGranted ? [] : [.bound(peer, channel: channel.number)]
    }
  }

  private mutating func lives(_ message: STUNMessage, _ now: NIODeadline) {
    let seconds = Int64(min(max(message.lifetime ?? Self.usualLifetime, Self.shortestLifetime), Self.longestLifetime))
    expiry = now + .seconds(seconds)
    refreshDue = now + .seconds(max(seconds - Self.margin, seconds / 2))
  }

  private static func granted(_ life: TimeAmount, _ now: NIODeadline) -> Grant {
    Grant(isAsked: false, isGranted: true, due: now + life - .seconds(margin), expiry: now + life)
  }

  /// An error response.
  private mutating func refused(_ question: Question, _ message: STUNMessage, _ now: NIODeadline) -> [Action] {
    let code = message.error?.code ?? 500
    let purpose = question.purpose
    switch code {
    case 401, 438:
      guard question.challenges < Self.mostChallenges else {
        return failed(
          purpose, NetError(.permission, "log in", cause: "the server asks for it anew each time"), now, isFinal: true)
      }
      if let problem = authentication.challenged(by: message, wasSigned: question.isSigned) {
        return failed(purpose, problem, now, isFinal: true)
      }
      if isClosing, purpose == .allocate { return end(nil) }
      return ask(purpose, challenges: question.challenges + 1)
    case 300 where purpose == .allocate && !isClosing:
      guard let other = message.alternateServer else { break }
      isOver = true
      return [.redirected(other, domain: message.alternateDomain)]
    case 437 where purpose == .allocate && !isClosing:
      isOver = true
      return [.needsAnotherPort]
    case 437:
      if purpose == .release { return end(nil) }
      return end(NetError(.closed, what, cause: "the server does not know the allocation any more"))
    default: break
    }
    return failed(purpose, Self.error(code, message.error?.reason ?? "", what), now, isFinal: true)
  }

  /// - Parameter isFinal: it was refused; otherwise it may work later.
  private mutating func failed(
    _ purpose: Purpose, _ error: NetError, _ now: NIODeadline, isFinal: Bool = false
  ) -> [Action] {
    switch purpose {
    case .allocate: return end(isClosing ? nil : named(error))
    case .release: return end(nil)
    case .refresh:
      guard let expiry, !isFinal, now < expiry else { return end(named(error)) }
      refreshDue = min(now + Self.again, expiry)
      return []
    case .permission(let ip):
      guard let grant = permissions[ip] else { return [] }
      if !isFinal, let expiry = grant.expiry, now + Self.again < expiry {
        permissions[ip]?.due = now + Self.again
        return []
      }
      permissions[ip] = nil
      return [
        .refused(ip, NetError(error.code, "let \(ip) through at \(server)", cause: error.cause, remedy: error.remedy))
      ]
    case .channel(let peer):
      guard let channel = channels[peer] else { return [] }
      if !isFinal, let expiry = channel.grant.expiry, now + Self.again < expiry {
        channels[peer]?.grant.due = now + Self.again
        return []
      }
      channels[peer] = nil
      return [
        .unbound(
          peer, NetError(error.code, "bind a channel to \(peer) at \(server)", cause: error.cause, remedy: error.remedy)
        )
      ]
    }
  }

  private mutating func end(_ error: NetError?) -> [Action] {
    isOver = true
    questions = [:]
    return [.ended(isClosing ? nil : error)]
  }

  private var what: String { "use the relay \(server)" }

  /// The same failure of the whole.
  private func named(_ error: NetError) -> NetError {
    NetError(error.code, what, cause: error.cause.isEmpty ? error.what : error.cause, remedy: error.remedy)
  }

  private static let notOpen = NetError(.closed, "use a relay", cause: "there is no allocation")

  // MARK: Numbers

  /// RFC 8656 §9: a permission lives 300 s, a channel 600.
  private static let permissionLife: TimeAmount = .seconds(300)
  /// Seconds before the end at which life is asked for anew (RFC 8656 §8 recommends a minute).
  private static let margin: Int64 = 60
  /// After a question that nobody answered.
  private static let again: TimeAmount = .seconds(5)
  /// RFC 8656 §3.2, and the bounds of what is believed.
  private static let usualLifetime: UInt32 = 600
  private static let shortestLifetime: UInt32 = 10
  private static let longestLifetime: UInt32 = 3600
  /// The first 401 and a nonce that went stale between; a server that wants more never lets anybody in.
  private static let mostChallenges = 3
  private static let mostPermissions = 64
  private static let mostChannels = 256
}
