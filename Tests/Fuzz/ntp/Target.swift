@testable import P2PDTraversal

/// NTP packets: nothing in them may trap, a packet that was read is written as it was, and whatever a server says, a
/// query ends and believes no time that it could have made up about how long it took.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzNTP(_ data: UnsafePointer<UInt8>, _ size: Int) -> Int32 {
  let bytes = [UInt8](UnsafeBufferPointer(start: data, count: size))
  guard let packet = NTPPacket(decoding: bytes) else { return 0 }
  precondition(packet.encoded == Array(bytes.prefix(48)), "it changed on its way")
  _ = packet.kiss
  // The input's packets answer a query, one after the other, first as they are and then with the number that was asked for.
  var query = ClockQuery(
    ["a", "b", "c"], clock: NTPTimestamp(bits: 0xec00_0000_0000_0000), now: .uptimeNanoseconds(0), patience: .seconds(5)
  ) { 42 }
  var now = 0 as UInt64
  var reports = 0
  var asked: [Int] = []
  func step(_ event: ClockQuery.Event) {
    for action in query.handle(event, now: .uptimeNanoseconds(now)) {
      switch action {
      case .send(let question, let index):
        precondition(question.transmit.bits == 42 && reports == 0)
        asked.append(index)
      case .wait(let time): precondition(time <= .uptimeNanoseconds(5_000_000_000))
      case .finish(let report):
        reports += 1
        for reading in report.servers.compactMap(\.reading) {
          precondition(reading.roundTrip >= .zero && reading.roundTrip <= .nanoseconds(Int64(now) + 1_000_000))
          precondition(reading.error >= .zero && reading.error < .seconds(6))
        }
        _ = try? report.get()
      }
    }
  }
  step(.start)
  for index in 0..<3 { step(.opened(index)) }
  var rest = bytes[...]
  var count = 0
  while count < 60 {
    let next = NTPPacket(decoding: Array(rest.prefix(48)))
    rest = rest.dropFirst(next == nil ? rest.count : 48)
    if let next {
      step(.received(next, from: count % 3))
      var known = next
      known.origin.bits = 42
      step(.received(known, from: count % 3))
    }
    now += 100_000_000
    step(.timer)
    count += 1
  }
  precondition(reports == 1, "it has no end")
  precondition(asked.count <= 9, "a server is bothered")
  return 0
}
