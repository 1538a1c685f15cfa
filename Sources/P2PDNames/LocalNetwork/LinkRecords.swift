import NIOCore
import P2PDNet

/// The records of one service on one link, with what is needed to send each neither too often nor too early.
struct LinkRecords: Sendable {
  struct Entry: Sendable {
    let record: DNSRecord
    /// Others have a record of that name and type too.
    let isShared: Bool
    /// When it was multicast last.
    var sent: NIODeadline?
    /// When it is to be multicast.
    var due: NIODeadline?
    /// Who asked for it, where that was one alone.
    var asker: Endpoint?
  }

  private(set) var entries: [Entry] = []
  private let service: LocalService

  init(_ service: LocalService, addresses: [IPAddress], after old: LinkRecords? = nil) {
    self.service = service
    let addresses = Self.told(addresses)
    add(LocalService.allTypes, .ptr(LocalService.type), ttl: Self.longLife, isShared: true)
    add(LocalService.type, .ptr(service.instance), ttl: Self.longLife, isShared: true)
    add(service.instance, .srv(priority: 0, weight: 0, port: service.port, target: service.host), ttl: Self.life)
    add(service.instance, .txt(LocalText.strings(key: service.key, value: service.value)), ttl: Self.longLife)
    for ip in addresses { add(service.host, ip.family == .v4 ? .a(ip) : .aaaa(ip), ttl: Self.life) }
    add(service.instance, .nsec(next: service.instance, types: [.srv, .txt]), ttl: Self.life)
    let types = Set(addresses.map { $0.family == .v4 ? DNSType.a : .aaaa })
    add(service.host, .nsec(next: service.host, types: types.sorted { $0.number < $1.number }), ttl: Self.life)
    for index in entries.indices {
      entries[index].sent = old?.entries.first { $0.record == entries[index].record }?.sent
    }
  }

  private mutating func add(_ name: DNSName, _ data: DNSData, ttl: UInt32, isShared: Bool = false) {
    let record = DNSRecord(name: name, rawClass: isShared ? 1 : 0x8001, ttl: ttl, data: data)
    entries.append(Entry(record: record, isShared: isShared))
  }

  /// Addresses that a neighbour can use, without the scopes, which mean nothing to others.
  private static func told(_ addresses: [IPAddress]) -> [IPAddress] {
    var told: [IPAddress] = []
    for address in addresses where !address.isLoopback && !address.isMulticast && !address.isWildcard {
      var ip = address
      ip.scopeID = 0
      if !told.contains(ip), told.count < mostAddresses { told.append(ip) }
    }
    return told
  }

  // MARK: What is asked for

  /// The entries that answer a question; where the name is ours and has nothing of the type, the one that says so
  /// (RFC 6762 §6.1).
  func answers(to question: DNSQuestion) -> [Int] {
    guard question.isInternet else { return [] }
    let named = entries.indices.filter { entries[$0].record.name == question.name }
    let fit = named.filter {
      let type = entries[$0].record.type
      return type == question.type || question.type == .any && type != .nsec
    }
    return fit.isEmpty ? named.filter { entries[$0].record.type == .nsec } : fit
  }

  /// What else an asker will want (RFC 6763 §12).
  func additions(to answers: [Int]) -> [Int] {
    let given = Set(answers.map { entries[$0].record.name })
    guard given.contains(LocalService.type) || given.contains(service.instance) else { return [] }
    return entries.indices.filter { index in
      let (name, type) = (entries[index].record.name, entries[index].record.type)
      guard type != .nsec, !answers.contains(index) else { return false }
      return name == service.host || name == service.instance && given.contains(LocalService.type)
    }
  }

  /// What the network is told unasked.
  var announced: [Int] { entries.indices.filter { entries[$0].record.type != .nsec } }

  /// What a prober says that it wants to own (RFC 6762 §8.2).
  var claimed: [DNSRecord] {
    entries.map(\.record).filter { $0.name == service.instance && $0.type != .nsec }.map { $0.plain() }
  }

  // MARK: What is to be sent, and when

  /// The time of the next.
  var due: NIODeadline? { entries.compactMap(\.due).min() }

  /// Not before a second (of a prober's: a quarter) after it was last sent (RFC 6762 §6).
  mutating func schedule(_ index: Int, at time: NIODeadline, for asker: Endpoint, isProbe: Bool) {
    let entry = entries[index]
    let earliest = entry.sent.map { $0 + (isProbe ? Self.probePause : Self.pause) } ?? time
    let due = max(time, earliest)
    entries[index].asker = entry.due == nil || entry.asker == asker ? asker : nil
    entries[index].due = min(entry.due ?? due, due)
  }

  mutating func takeDue(_ now: NIODeadline) -> [Int] {
    let due = entries.indices.filter { entries[$0].due.map { $0 <= now } ?? false }
    for index in due { (entries[index].due, entries[index].asker) = (nil, nil) }
    return due
  }

  mutating func forgetDue() {
    for index in entries.indices { (entries[index].due, entries[index].asker) = (nil, nil) }
  }

  /// Another host said it just now (RFC 6762 §7.4), or the only one who asked knows it already (§7.2).
  mutating func cancel(_ record: DNSRecord, knownTo asker: Endpoint?) {
    for index in entries.indices where entries[index].due != nil && entries[index].record.isKnown(by: record) {
      guard asker == nil || entries[index].asker == asker else { continue }
      (entries[index].due, entries[index].asker) = (nil, nil)
    }
  }

  mutating func markSent(_ indices: [Int], _ now: NIODeadline) {
    for index in indices { entries[index].sent = now }
  }

  /// Sent so long ago that others may soon forget it (RFC 6762 §5.4: a quarter of its life).
  func isFresh(_ index: Int, _ now: NIODeadline) -> Bool {
    entries[index].sent.map { now - $0 < .seconds(Int64(entries[index].record.ttl) / 4) } ?? false
  }

  func wasSentJustNow(_ index: Int, _ now: NIODeadline) -> Bool {
    entries[index].sent.map { now - $0 < Self.pause } ?? false
  }

  // MARK: Numbers

  /// Seconds: RFC 6762 §10, for records with a host's name or address in them, and for others.
  private static let life: UInt32 = 120
  private static let longLife: UInt32 = 4500
  /// RFC 6762 §6.
  private static let pause: TimeAmount = .seconds(1)
  private static let probePause: TimeAmount = .milliseconds(250)
  /// Both families, stable and temporary, fit into one packet with the rest.
  private static let mostAddresses = 6
}

extension DNSRecord {
  /// As those want it who know no multicast DNS (RFC 6762 §6.7), and probers (§8.1): without the mark of the unique one.
  func plain(ttl limit: UInt32 = .max) -> DNSRecord {
    var plain = self
    plain.rawClass &= 0x7fff
    plain.ttl = min(ttl, limit)
    return plain
  }

  /// The same for that many seconds; 0 takes it back (RFC 6762 §10.1).
  func lasting(_ seconds: UInt32) -> DNSRecord {
    var other = self
    other.ttl = seconds
    return other
  }

  /// Another's copy makes ours needless: it says the same, and lasts at least half as long (RFC 6762 §7.1).
  func isKnown(by other: DNSRecord) -> Bool { saysSame(as: other) && other.ttl >= ttl / 2 }
}

extension DNSMessage {
  /// Answers in as few messages as they fit into; what is additional goes along where there is room.
  static func packed(_ answers: [DNSRecord], additionals: [DNSRecord] = [], to query: DNSMessage? = nil) -> [DNSMessage]
  {
    guard !answers.isEmpty else { return [] }
    var empty = DNSMessage()
    empty.isResponse = true
    empty.isAuthoritative = true
    empty.id = query?.id ?? 0
    empty.questions = query?.questions ?? []
    var messages: [DNSMessage] = []
    var current = empty
    for answer in answers {
      var longer = current
      longer.answers.append(answer)
      if longer.bytes.count > longestPacked, !current.answers.isEmpty {
        messages.append(current)
        longer = empty
        longer.answers = [answer]
      }
      current = longer
    }
    for addition in additionals {
      var longer = current
      longer.additionals.append(addition)
      if longer.bytes.count <= longestPacked { current = longer }
    }
    return messages + [current]
  }

  /// RFC 6762 §17: within the link's packets, 1500 bytes on Ethernet less the headers of IPv6 and UDP. One record that is
  /// longer goes alone.
  private static let longestPacked = 1452
}
