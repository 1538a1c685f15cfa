import Foundation
import NIOCore
import NIOEmbedded
import NIOHTTP1
import P2PDNames
import P2PDNet

@testable import P2PDNameServer

/// Some moment, in seconds since 1970.
let moment: UInt64 = 1_790_000_000
let day: UInt64 = 86_400

func record(
  _ label: String, _ owner: NameOwner, _ sequence: UInt64 = 1, expires: UInt64 = moment + day, value: String = "v"
) throws -> NameRecord {
  try NameRecord.sign(
    name: PeerName(label: label, tld: "peer"), value: value, sequence: sequence, expires: expires, as: owner)
}

let home = Source(IPAddress("192.0.2.1") ?? .loopback(.v4))
let away = Source(IPAddress("2001:db8:1:2:3::4") ?? .loopback(.v6))

/// A folder that is gone with the test.
final class Folder {
  let path = NSTemporaryDirectory() + "p2pd-names-\(UUID().uuidString)"

  init() throws { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  var database: String { path + "/names.sqlite" }
}

/// Answers requests from a script, at once or when told.
final class ScriptedService: RequestService {
  var asked: [NameRequest] = []
  var waiting: [(APIAnswer) -> Void] = []
  var answersAtOnce = true
  var answered: [UInt] = []

  func answer(
    _ request: NameRequest, _ manner: RequestReader.Manner, _ source: Source, _ done: @escaping (APIAnswer) -> Void
  ) {
    asked.append(request)
    if answersAtOnce { done(.text("answer \(asked.count)", type: "text/plain")) } else { waiting.append(done) }
  }

  func date() -> String { "Sun, 06 Nov 1994 08:49:37 GMT" }

  func answered(_ method: HTTPMethod, _ status: HTTPResponseStatus, after time: TimeAmount) {
    answered.append(status.code)
  }
}

/// A connection of the server in memory, with a clock that the test moves.
final class Wire {
  let channel = EmbeddedChannel()
  let service = ScriptedService()
  let connection: HTTPConnection
  private(set) var got = ""

  init() throws {
    connection = try HTTPConnection.add(to: channel, service, home, .init())
    try channel.connect(to: SocketAddress(ipAddress: "192.0.2.1", port: 1)).wait()
  }

  deinit { _ = try? channel.finish(acceptAlreadyClosed: true) }

  var isOpen: Bool { channel.isActive }

  /// Sends the text and gives what the server has answered since the last look.
  @discardableResult
  func send(_ text: String) throws -> String {
    _ = try? channel.writeInbound(ByteBuffer(string: text))
    return try look()
  }

  func look() throws -> String {
    channel.embeddedEventLoop.run()
    var text = ""
    while let bytes = try channel.readOutbound(as: ByteBuffer.self) { text += String(buffer: bytes) }
    got += text
    return text
  }

  func pass(_ time: TimeAmount) { channel.embeddedEventLoop.advanceTime(by: time) }
}

extension String {
  /// How often the text is in it.
  func count(of text: String) -> Int { components(separatedBy: text).count - 1 }
}

extension NameOutcome: Equatable {
  /// Failures are the same where their codes are.
  public static func == (one: NameOutcome, other: NameOutcome) -> Bool {
    switch (one, other) {
    case (.registered, .registered), (.replaced, .replaced), (.same, .same), (.wrongKey, .wrongKey): true
    case (.stale(let record), .stale(let otherRecord)): record == otherRecord
    case (.limit(let why, let retry), .limit(let otherWhy, let otherRetry)): why == otherWhy && retry == otherRetry
    case (.failed(let error), .failed(let otherError)): error.code == otherError.code
    default: false
    }
  }
}
