import NIOCore
import P2PDNet

@testable import P2PDNames

/// A neighbour that says anything, at any time, to a node that has a name and to one that looks for names. The input is a row
/// of messages: a byte how long to wait, a byte that chooses the port and what else happens, two bytes of length. Nothing
/// may trap, nothing is woken without pause, no more is sent than RFC 6762 allows, and a search ends once, within bounds.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzMDNS(_ data: UnsafePointer<UInt8>, _ size: Int) -> Int32 {
  var reader = ByteReader([UInt8](UnsafeBufferPointer(start: data, count: size)))
  var side = Side()
  for _ in 0..<64 {
    guard let wait = reader.byte(), let kind = reader.byte(), let length = reader.uint16() else { break }
    side.run(.milliseconds(Int64(wait) * 8))
    let source = Endpoint(ip: .loopback(.v4), port: kind & 1 == 0 ? 5353 : 40_000)
    // What goes and comes back within a moment is new; only this host can do that, not a neighbour.
    if kind & 0xe0 != 0 { side.forgetSent() }
    if kind & 0xe0 == 0x20 {
      side.tell(.addresses(kind & 2 == 0 ? [] : [.loopback(.v6), IPAddress(family: .v4, high: 1 << 60, low: 0)]))
    }
    if kind & 0xe0 == 0x40, let service = Side.service(value: String(repeating: "v", count: Int(kind))) {
      side.tell(.changed(service))
    }
    if kind & 0xe0 == 0x60 { side.tell(.stop) }
    guard let bytes = reader.bytes(min(Int(length), reader.remaining)), let message = DNSMessage(Array(bytes)) else {
      continue
    }
    side.tell(.received(message, from: source))
    for index in side.searches.indices {
      side.tell(.received(message, from: source, interface: "eth0"), index)
    }
  }
  side.run(.seconds(200))
  precondition(side.ends == 2, "a search without end")
  return 0
}

private struct Side {
  var now = NIODeadline.uptimeNanoseconds(1_000_000_000)
  private let began = NIODeadline.uptimeNanoseconds(1_000_000_000)
  var responder: LinkResponder
  var searches: [LocalSearch] = []
  var ends = 0
  private var wake: NIODeadline?
  private var searchWakes: [NIODeadline?] = [nil, nil]
  private var sent: [DNSRecord: NIODeadline] = [:]
  private var unicasts = 0
  private var asked = 0

  static func service(value: String) -> LocalService? {
    try? LocalService(label: "example", key: [UInt8](repeating: 7, count: 32), value: value, port: 1)
  }

  init() {
    guard let service = Self.service(value: "p2pd1abc") else { preconditionFailure("no service") }
    responder = LinkResponder(service, addresses: [IPAddress(family: .v4, high: 1 << 60, low: 0)], now: now) { 0.5 }
    searches = [
      LocalSearch(.name(service.instance), now: now, timeout: .seconds(60)),
      LocalSearch(.all, now: now, timeout: .seconds(60)),
    ]
    tell(.start)
    for index in searches.indices { tell(.start, index) }
  }

  mutating func tell(_ event: LinkResponder.Event) {
    for action in responder.handle(event, now: now) {
      switch action {
      case .multicast(let message): multicast(message)
      case .unicast(let message, _):
        unicasts += 1
        precondition(message.bytes.count <= 1500, "an answer longer than a packet")
        precondition(Double(unicasts) <= 41 + 20 * elapsed, "answers without bound")
      case .wait(let time): wake = time
      case .claimed, .taken: break
      }
    }
  }

  mutating func forgetSent() { sent = [:] }

  private mutating func multicast(_ message: DNSMessage) {
    precondition(message.bytes.count <= 1500, "a message longer than a packet")
    guard message.isResponse else { return }
    for record in message.answers + message.additionals where record.ttl > 0 {
      if let last = sent[record] {
        precondition(now - last >= .milliseconds(250), "the same again in a quarter of a second")
      }
      sent[record] = now
    }
  }

  mutating func tell(_ event: LocalSearch.Event, _ index: Int) {
    for action in searches[index].handle(event, now: now) {
      switch action {
      case .ask(let message):
        asked += 1
        precondition(message.bytes.count <= 1500 && Double(asked) <= 40 + 10 * elapsed, "questions without bound")
      case .wait(let time): searchWakes[index] = time
      case .finish(let found):
        ends += 1
        searchWakes[index] = nil
        precondition(found.count <= 256 && found.allSatisfy { $0.key.count == 32 && $0.value.utf8.count <= 1024 })
      }
    }
  }

  mutating func run(_ time: TimeAmount) {
    let end = now + time
    var turns = 0
    while let next = ([wake] + searchWakes).compactMap({ $0 }).min(), next <= end {
      turns += 1
      precondition(turns < 2000, "woken without pause")
      now = max(now, next)
      if let due = wake, due <= now {
        wake = nil
        tell(.timer)
      }
      for index in searches.indices {
        if let due = searchWakes[index], due <= now { tell(.timer, index) }
      }
    }
    now = end
  }

  private var elapsed: Double { Double((now - began).nanoseconds) / 1e9 }
}
