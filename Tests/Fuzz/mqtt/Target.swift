import NIOCore
import P2PDNet

@testable import P2PDSignaling

/// A broker's stream: however the network cuts it up, the same packets come out, each reads back as it was written, and
/// nothing a broker says breaks a session or makes it keep more than it may.
///
/// Input: the limit in units of 8 bytes (1 byte), how it is cut (1), the stream.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzMQTT(_ data: UnsafePointer<UInt8>, _ size: Int) -> Int32 {
  guard size >= 2 else { return 0 }
  let input = [UInt8](UnsafeBufferPointer(start: data, count: size))
  let stream = Array(input[2...])
  let limit = Int(input[0]) * 8
  let whole = Reading(stream, limit, piece: stream.count)
  let cut = Reading(stream, limit, piece: Int(input[1]) + 1)
  precondition(whole.packets == cut.packets && whole.error == cut.error, "packets depend on how the stream was cut")
  precondition(whole.skipped == cut.skipped, "what is passed over depends on how the stream was cut")
  for packet in whole.packets {
    let again = Reading(MQTTCodec.encode(packet), 1 << 20, piece: 1 << 20)
    precondition(again.packets == [packet] && again.error == nil, "a packet changes when it is written")
  }
  step(whole.packets, seed: input[1])
  return 0
}

private struct Reading {
  var packets: [MQTTPacket] = []
  var error: MQTTError?
  var skipped = 0

  init(_ stream: [UInt8], _ limit: Int, piece: Int) {
    var reader = MQTTReader(limit: limit)
    var got: [MQTTPacket] = []
    var rest = stream[...]
    while !rest.isEmpty, error == nil {
      let next = Array(rest.prefix(max(1, piece)))
      rest = rest.dropFirst(next.count)
      error = next.withUnsafeBytes { bytes -> MQTTError? in
        do throws(MQTTError) {
          try reader.feed(bytes) { packet, size in
            precondition(size >= 2, "a packet of no size")
            got.append(packet)
          }
          return nil
        } catch {
          return error
        }
      }
    }
    packets = got
    skipped = reader.skipped
  }
}

private func step(_ packets: [MQTTPacket], seed: UInt8) {
  var session = MQTTSession(
    .init(name: "b", connect: MQTTConnect(clientID: "c", keepAlive: 75), topics: ["t"]), chance: { 0.5 })
  var now = NIODeadline.uptimeNanoseconds(1 << 40)
  var token: UInt64 = 0
  var open = 0
  func take(_ actions: [MQTTSession.Action]) {
    open -= actions.filter { if case .done = $0 { true } else { false } }.count
  }
  take(session.handle(.start, now: now))
  for packet in packets {
    if session.phase == .connecting { take(session.handle(.opened, now: now)) }
    token += 1
    open += 1
    take(
      session.handle(
        .publish(.init(token: token, topic: "u", payload: [], qos: seed & 1, expires: now + .seconds(3))), now: now))
    take(session.handle(.packet(packet), now: now))
    if let wake = session.nextWake, token & 3 == 0 {
      now = max(now, wake)
      take(session.handle(.wake, now: now))
    }
    precondition(session.pending == open, "a message without an end, or with two")
    precondition(session.pending <= MQTTSession.longestQueue + MQTTSession.window, "a queue without a bound")
  }
  take(session.handle(.stop, now: now))
  precondition(open == 0 && session.pending == 0, "messages outlive the session")
}
