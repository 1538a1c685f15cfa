import NIOCore
import P2PDNet

@testable import P2PDNames

/// Messages of the DNS, as servers and neighbours send them, and what comes of an answer: nothing may trap, no name is
/// longer than names are, what was read is written and read again as the same, and a question ends once.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzDNS(_ data: UnsafePointer<UInt8>, _ size: Int) -> Int32 {
  let bytes = [UInt8](UnsafeBufferPointer(start: data, count: size))
  _ = ResolverFile(String(decoding: bytes, as: UTF8.self)).servers
  guard let message = DNSMessage(bytes) else { return 0 }
  let records = message.answers + message.authorities + message.additionals
  precondition(records.count * 11 + message.questions.count * 5 + 12 <= size, "records out of nothing")
  for name in records.map(\.name) + message.questions.map(\.name) {
    precondition(name.wire.count <= 255 && DNSName(labels: name.labels.map { Array($0) }) == name, "an impossible name")
    _ = name.description
  }
  let written = message.bytes
  // Names in full may be more than the 64 KiB that a message is; then nobody has to read it.
  if written.count <= 0xffff, records.allSatisfy({ $0.data.canonical.count <= 0xffff }) {
    precondition(DNSMessage(written) == message, "not what was read")
  }
  for record in records { _ = record.data.canonical }
  if case .txt(let strings)? = records.first?.data, let text = LocalText.read(strings) {
    precondition(text.key.count == 32 && text.value.utf8.count <= 1024, "a text that is none")
  }
  ask(message)
  return 0
}

private func ask(_ message: DNSMessage) {
  guard let name = message.questions.first?.name else { return }
  var ends = 0
  var asked = 0
  var now = NIODeadline.uptimeNanoseconds(1)
  var query = TextQuery(name, servers: ["a", "b"], now: now, timeout: .seconds(20)) { message.id }
  var wake = now
  func tell(_ event: TextQuery.Event) {
    for action in query.handle(event, now: now) {
      precondition(ends == 0, "it goes on after its end")
      switch action {
      case .ask: asked += 1
      case .wait(let time): wake = time
      case .finish(let result):
        ends += 1
        if case .success(let texts) = result {
          precondition(!texts.isEmpty && texts.count <= 64, "texts without bound")
        }
      }
    }
  }
  tell(.start)
  for _ in 0..<20 where ends == 0 {
    for place in [TextQuery.Place(server: 0), TextQuery.Place(server: 0, isStream: true), TextQuery.Place(server: 1)] {
      tell(.received(message, from: place))
    }
    guard ends == 0 else { break }
    precondition(wake > now, "woken without pause")
    now = wake
    tell(.timer)
  }
  precondition(ends == 1 && asked <= 12, "no end")
}
