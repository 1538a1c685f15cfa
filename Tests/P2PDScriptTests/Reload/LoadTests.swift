import Glibc
import LuaVM
import NIOCore
import P2PDNet
import Synchronization
import Testing

@testable import P2PDScript

/// Reloads under load: every message is answered once, in order, by a sound generation.
@Suite(.timeLimit(.minutes(5))) struct LoadTests {
  private func handler(_ name: String) -> String {
    """
    local function answer(msg, tup, pipe) pipe:send(msg .. " \(name)", tup) end
    local t = p2pd.daemon { framing = "line", msg_cb = answer }
    local u = p2pd.daemon { msg_cb = answer }
    t:add_listener(p2pd.TCP, { "127.0.0.1", 0 })
    u:add_listener(p2pd.UDP, { "127.0.0.1", 0 })
    function M.msg_cb(msg, tup, pipe)
      pipe:send(tostring(t:servers()[1]:getsockname()) .. " " .. tostring(u:servers()[1]:getsockname()))
    end
    """
  }

  private static let broken = [
    "function M.msg_cb( end", "error('no')", "M.msg_cb = 1",
    "function M.check() return false end function M.msg_cb() end",
    "M.version = 2 function M.migrate() error('no') end function M.msg_cb() end",
  ]

  /// The whole measure is `P2PD_LOAD=1000`: pipes; senders are a fifth of them, reloads too.
  @Test func everyMessageIsAnsweredOnce() async throws {
    let pipes = getenv("P2PD_LOAD").flatMap { Int(String(cString: $0)) } ?? 100
    let senders = max(1, pipes / 5)
    let reloads = max(20, pipes / 5)
    try await withHandler(handler("g0"), { $0.autoRollback = false }) { bench, control in
      let places = try await control.ask("where").split(separator: " ").map(String.init)
      let loop = sharedLoop
      var talkers: [Talker] = []
      for index in 0..<(pipes + senders) {
        let isStream = index < pipes
        let parts = places[isStream ? 0 : 1].split(separator: ":")
        let endpoint = Endpoint(ip: try #require(IPAddress(String(parts[0]))), port: try #require(UInt16(parts[1])))
        var conf = PipeConf()
        conf.framing = isStream ? .line : .raw
        let talker = Talker(ahead: isStream ? 4 : 1)
        let pipe = try await PipeOpener.open(
          isStream ? .tcp : .udp, to: .endpoint(endpoint), conf: conf, sink: talker, on: loop
        ).get()
        try await loop.submit { talker.begin(pipe) }.get()
        talkers.append(talker)
      }
      for number in 1...reloads {
        let isBroken = number % 2 == 0
        let report = try await bench.reload(isBroken ? Self.broken[number % Self.broken.count] : handler("g\(number)"))
        #expect(report.result == (isBroken ? .rejected : .active), "\(report)")
      }
      // Each has heard the last generation, so each was served after the last swap.
      let last = "g\(reloads % 2 == 0 ? reloads - 1 : reloads)"
      for talker in talkers { await talker.hears(last) }
      var total = 0
      for talker in talkers {
        let (count, faults) = await talker.end(on: loop)
        total += count
        #expect(faults.isEmpty, "\(faults.prefix(3))")
      }
      #expect(total > talkers.count * 2)
      await bench.until { $0.generations.count == 1 }
    }
  }
}

/// Sends numbers, some ahead of their answers, and checks that each answer is the next one.
private final class Talker: PipeSink, @unchecked Sendable {
  private let ahead: Int
  private var pipe: P2PDNet.Pipe?
  private var sent = 0
  private var answered = 0
  private var faults: [String] = []
  private var isEnding = false
  private var lastGeneration = ""
  private var wanted: (name: String, done: CheckedContinuation<Void, Never>)?

  init(ahead: Int) { self.ahead = ahead }

  func begin(_ pipe: P2PDNet.Pipe) {
    self.pipe = pipe
    for _ in 0..<ahead { send() }
  }

  private func send() {
    sent += 1
    _ = Array("\(sent)".utf8).withUnsafeBytes { pipe?.send($0) }
  }

  func pipe(_ pipe: P2PDNet.Pipe, message: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    let parts = String(decoding: message, as: UTF8.self).split(separator: " ")
    answered += 1
    if parts.first.flatMap({ Int($0) }) != answered { faults.append("\(parts) in place of \(answered)") }
    lastGeneration = String(parts.last ?? "")
    if let wanted, wanted.name == lastGeneration {
      self.wanted = nil
      wanted.done.resume()
    }
    if !isEnding { send() }
    return true
  }

  func pipeEnded(_ pipe: P2PDNet.Pipe, reason: EndReason) {
    if !isEnding { faults.append("the pipe ended: \(reason)") }
    wanted?.done.resume()
    wanted = nil
  }

  func hears(_ name: String) async {
    guard let pipe else { return }
    await withCheckedContinuation { done in
      pipe.loop.execute {
        if self.lastGeneration == name || !pipe.isOpen { done.resume() } else { self.wanted = (name, done) }
      }
    }
  }

  func end(on loop: any EventLoop) async -> (Int, [String]) {
    (try? await loop.submit { () -> (Int, [String]) in
      self.isEnding = true
      self.pipe?.close(flush: .zero)
      return (self.answered, self.faults)
    }.get()) ?? (0, ["the loop is gone"])
  }
}
