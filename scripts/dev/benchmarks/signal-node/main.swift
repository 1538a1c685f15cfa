// A node's signalling alone, for measuring it under a flood. Its modes:
//   serve BROKER...                 answers every request with its bytes; prints READY {key, topic}, then STATS each second
//   ask KEY TOTAL BROKER...         TOTAL requests, one each 100 ms; prints how many were answered and how fast
//   insider KEY SECONDS BROKER...   floods KEY with messages of many true senders, as fast as one process can seal them
// KEY is in hexadecimal, BROKER a URL.
import Glibc
import Logging
import NIOCore
import P2PDNet
import P2PDSignaling

struct Usage: Error {}

func randomIdentity() throws -> SignalIdentity {
  guard let identity = SignalIdentity(seed: (0..<32).map { _ in UInt8.random(in: 0...255) }) else { throw Usage() }
  return identity
}

func hex(_ bytes: [UInt8]) -> String { bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined() }

func key(_ text: String) throws -> SignalKey {
  let digits = Array(text.utf8)
  let bytes = stride(from: 0, to: digits.count - 1, by: 2).compactMap {
    UInt8(String(decoding: digits[$0...($0 + 1)], as: UTF8.self), radix: 16)
  }
  guard let key = SignalKey(bytes: bytes) else { throw Usage() }
  return key
}

func say(_ text: String) {
  print(text)
  fflush(nil)
}

let loop = try KernelLoop.start(name: "signals")
let logger = Logger(label: "signal") { StreamLogHandler.standardError(label: $0) }

func service(_ brokers: [Broker]) async throws -> SignalingService {
  let service = SignalingService(try randomIdentity(), brokers: brokers, logger: logger, on: loop)
  try await loop.submit { service.start() }.get()
  return service
}

/// Until that many of the brokers are up.
func untilUp(_ count: Int, _ service: SignalingService) async throws {
  while try await loop.submit({ service.status.filter { $0.state == .up }.count < count }).get() {
    try await Task.sleep(nanoseconds: 5_000_000)
  }
}

func serve(_ brokers: [Broker]) async throws {
  let service = try await service(brokers)
  try await loop.submit { service.onMessage = { $0.answer($0.bytes) } }.get()
  try await untilUp(brokers.count, service)
  let topics = brokers.map { "\"\(SignalingService.topic(of: service.key, at: $0))\"" }.joined(separator: ",")
  say("READY {\"key\":\"\(hex(service.key.bytes))\",\"topics\":[\(topics)]}")
  while true {
    try await Task.sleep(nanoseconds: 1_000_000_000)
    let stats = try await loop.submit { service.stats }.get()
    let refused = SignalStats.Refusal.allCases.map { "\"\($0.rawValue)\":\(stats[$0])" }.joined(separator: ",")
    say("STATS {\"delivered\":\(stats.delivered),\(refused)}")
  }
}

func ask(_ receiver: SignalKey, _ total: Int, _ brokers: [Broker]) async throws {
  let service = try await service(brokers)
  try await untilUp(brokers.count, service)
  var times: [Double] = []
  try await withThrowingTaskGroup(of: Double?.self) { group in
    for _ in 0..<total {
      group.addTask {
        let answer = try? await loop.flatSubmit {
          service.request(Array("hello".utf8), to: receiver, brokers: brokers, timeout: .seconds(3))
        }.get()
        return answer.map { Double($0.total.nanoseconds) / 1e6 }
      }
      try await Task.sleep(nanoseconds: 100_000_000)
    }
    for try await time in group { if let time { times.append(time) } }
  }
  times.sort()
  let median = times.isEmpty ? "null" : String(times[times.count / 2])
  say(
    "{\"asked\":\(total),\"answered\":\(times.count),\"p50_ms\":\(median),\"max_ms\":\(times.last.map { String($0) } ?? "null")}"
  )
}

func insider(_ receiver: SignalKey, _ seconds: Int, _ brokers: [Broker]) async throws {
  var senders: [SignalingService] = []
  for _ in 0..<20 { senders.append(try await service(brokers)) }
  for sender in senders { try await untilUp(brokers.count, sender) }
  let end = loop.now + .seconds(Int64(seconds))
  var sent = 0
  while loop.now < end {
    let sender = senders[sent % senders.count]
    _ = try? await loop.flatSubmit { sender.send([1], to: receiver, brokers: brokers) }.get()
    sent += 1
  }
  say("{\"sent\":\(sent)}")
}

let words = Array(CommandLine.arguments.dropFirst())
let urls = try words.dropFirst(words.first == "serve" ? 1 : 3).map { try ServerURL($0) }
let brokers = urls.compactMap { Broker($0) }
switch words.first {
case "serve": try await serve(brokers)
case "ask": try await ask(try key(words[1]), Int(words[2]) ?? 1, brokers)
case "insider": try await insider(try key(words[1]), Int(words[2]) ?? 1, brokers)
default: throw Usage()
}
