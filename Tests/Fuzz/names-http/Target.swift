import NIOCore
import NIOEmbedded
import NIOHTTP1
@testable import P2PDNameServer
import P2PDNames
import P2PDNet

/// What a client of a name server may send, in pieces of any size, to whom answers come at once or late. Nothing may trap, the
/// pieces' sizes change nothing, each request has one answer, and a record that is read is written as it was.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzNamesHTTP(_ data: UnsafePointer<UInt8>, _ size: Int) -> Int32 {
  let bytes = [UInt8](UnsafeBufferPointer(start: data, count: size))
  guard let first = bytes.first else { return 0 }
  let text = bytes[1...]
  let whole = serve(text, piece: max(1, text.count), isLate: first & 0x80 != 0)
  let dripped = serve(text, piece: Int(first & 0x3f) + 1, isLate: first & 0x40 != 0)
  // Who is slow to answer may not see what came behind garbage.
  if first & 0xc0 == 0 { precondition(whole == dripped, "the size of the pieces matters") }
  return 0
}

private final class Service: RequestService {
  var asked: [NameRequest] = []
  var waiting: [(APIAnswer) -> Void] = []
  var answers = 0
  let isLate: Bool

  init(isLate: Bool) { self.isLate = isLate }

  func answer(
    _ request: NameRequest, _ manner: RequestReader.Manner, _ source: Source, _ done: @escaping (APIAnswer) -> Void
  ) {
    asked.append(request)
    _ = Source.forwarded(manner.forwarded)
    let answer: APIAnswer
    switch request {
    case .push(let name, let body, _):
      precondition(body.count <= APIAnswer.longestBody, "more than a body may have")
      do throws(NetError) {
        let record = try NameRecord(json: body)
        precondition((try? NameRecord(json: record.json)) == record, "a record changes on its way")
        answer = record.name == name ? .pushed(record, .registered) : .pushed(record, .stale(record))
      } catch {
        answer = .refused(error)
      }
    case .lookup(let name):
      precondition(name.label.utf8.count <= PeerName.longestLabel, "a long name")
      answer = .notFound
    case .status, .metrics: answer = .text("x", type: "text/plain")
    }
    if isLate { waiting.append { _ in done(answer) } } else { done(answer) }
  }

  func answered(_ method: HTTPMethod, _ status: HTTPResponseStatus, after time: TimeAmount) { answers += 1 }

  func date() -> String { "Sun, 06 Nov 1994 08:49:37 GMT" }
}

private func serve(_ bytes: ArraySlice<UInt8>, piece: Int, isLate: Bool) -> [NameRequest] {
  let channel = EmbeddedChannel()
  let service = Service(isLate: isLate)
  guard let address = try? SocketAddress(ipAddress: "192.0.2.1", port: 1), let ip = IPAddress("192.0.2.1"),
    let connection = try? HTTPConnection.add(to: channel, service, Source(ip), .init()),
    (try? channel.connect(to: address).wait()) != nil
  else { preconditionFailure("no channel") }
  var rest = bytes
  while !rest.isEmpty, channel.isActive {
    try? channel.writeInbound(ByteBuffer(bytes: rest.prefix(piece)))
    rest = rest.dropFirst(piece)
    while !service.waiting.isEmpty { service.waiting.removeFirst()(.notFound) }
  }
  connection.stop()
  channel.embeddedEventLoop.advanceTime(by: .seconds(100))
  precondition(!channel.isActive, "it does not end")
  _ = try? channel.finish(acceptAlreadyClosed: true)
  return service.asked
}
