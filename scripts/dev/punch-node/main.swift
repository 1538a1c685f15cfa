// TCP hole punching alone, for the laboratory: whoever drives it carries what one tells to the other.
//   p2pd-punch-node SERVER...     STUN servers as ADDRESS:PORT
// It prints READY once it knows its network, and then takes lines on standard input:
//   take                              answers SIDE and the side in the form below
//   punch ROLE DELAY SID SIDE         dials DELAY ms from now; ROLE a confirms a path, b follows; answers OK MS WORDS or
//                                     FAILED MS REASON, and MORE with a line of the report for each attempt
// A side is a path or several, with / between: FAMILY|MAPPING|FILTERING|ALLOCATION|HAIRPIN|PORT|PORT..., a port its
// endpoints with commas between, and ~ before it where they are predicted; - is unknown.
import Glibc
import NIOCore
import P2PDNet
import P2PDTraversal

extension PunchSide {
  var text: String {
    paths.map { path in
      let allocation =
        switch path.allocation {
        case nil: "-"
        case .preserving?: "preserve"
        case .offset(let distance)?: "offset:\(distance)"
        case .sequential(let step, let range)?: "seq:\(step):\(range.lowerBound):\(range.upperBound)"
        case .random(let range)?: "random:\(range.lowerBound):\(range.upperBound)"
        }
      let ports = path.ports.map { port in
        (port.isPredicted ? "~" : "") + port.endpoints.map(\.description).joined(separator: ",")
      }
      let facts = [
        "\(path.family.rawValue)", path.mapping?.rawValue ?? "-", path.filtering?.rawValue ?? "-", allocation,
        path.hairpin?.rawValue ?? "-",
      ]
      return (facts + ports).joined(separator: "|")
    }.joined(separator: "/")
  }

  init(text: String) {
    self.init(
      text.split(separator: "/").compactMap { path in
        let parts = path.split(separator: "|").map(String.init)
        guard parts.count >= 5, let family = UInt8(parts[0]).flatMap({ AddressFamily(rawValue: $0) }) else { return nil }
        let numbers = parts[3].split(separator: ":").dropFirst().compactMap { Int($0) }
        let allocation: PortAllocation? =
          switch (parts[3].split(separator: ":").first, numbers.count) {
          case ("preserve", _): .preserving
          case ("offset", 1): .offset(numbers[0])
          case ("seq", 3): .sequential(step: numbers[0], range: UInt16(numbers[1])...UInt16(numbers[2]))
          case ("random", 2): .random(range: UInt16(numbers[0])...UInt16(numbers[1]))
          default: nil
          }
        return Path(
          family, mapping: NATBehaviour.Mapping(rawValue: parts[1]),
          filtering: NATBehaviour.Filtering(rawValue: parts[2]), allocation: allocation,
          hairpin: NATReport.Hairpin(rawValue: parts[4]),
          ports: parts.dropFirst(5).map { text in
            let places = text.drop { $0 == "~" }.split(separator: ",").compactMap { Endpoint(String($0)) }
            return Port(places, isPredicted: text.hasPrefix("~"))
          })
      })
  }
}

/// Not by way of C's streams: flushing them waits for whoever reads standard input.
func say(_ text: String) {
  let line = Array((text + "\n").utf8)
  _ = line.withUnsafeBytes { write(1, $0.baseAddress, $0.count) }
}

/// One punch: every stream says hello; the first that answers a's hello is confirmed, and the others are closed.
final class Run: PipeSink, @unchecked Sendable {
  private let isController: Bool
  private let sid: String
  private let loop: any EventLoop
  private let started: NIODeadline
  private var punch: TCPPunch?
  private var streams: [(pipe: Pipe, attempt: PunchReport.Attempt)] = []
  private var chosen: Pipe?
  private var isOver = false
  private let finished: () -> Void

  init(_ words: [String], _ hand: PunchHand, on loop: any EventLoop, finished: @escaping () -> Void) {
    isController = words[1] == "a"
    sid = words[3]
    self.loop = loop
    self.finished = finished
    started = loop.now + .milliseconds(Int64(words[2]) ?? 0)
    punch = TCPPunch(
      hand, peer: PunchSide(text: words.count > 4 ? words[4] : ""), at: started, on: loop,
      connected: { self.connected($0, $1) }, ended: { self.ended($0) })
  }

  func start() { punch?.start() }

  private func connected(_ stream: Transport, _ attempt: PunchReport.Attempt) {
    var conf = PipeConf()
    conf.framing = .line
    let pipe = Pipe.adopt(stream, conf: conf, sink: self, on: loop)
    streams.append((pipe, attempt))
    send("hello \(sid)", pipe)
  }

  private func send(_ text: String, _ pipe: Pipe) { _ = Array(text.utf8).withUnsafeBytes { pipe.send($0) } }

  func pipe(_ pipe: Pipe, message bytes: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    switch String(decoding: bytes, as: UTF8.self) {
    case "hello \(sid)" where isController && chosen == nil:
      chosen = pipe
      send("use", pipe)
    case "use" where !isController:
      send("ok", pipe)
      confirmed(pipe)
    case "ok": confirmed(pipe)
    default: break
    }
    return true
  }

  func pipeEnded(_ pipe: Pipe, reason: EndReason) {
    streams.removeAll { $0.pipe === pipe }
    if chosen === pipe { chosen = nil }
  }

  private func ended(_ report: PunchReport) {
    if chosen == nil { finish("FAILED \(time) \(report.reason ?? "nothing answered")", report) }
  }

  private var time: String { "\(Double((loop.now - started).nanoseconds / 10_000) / 100)" }

  private func confirmed(_ pipe: Pipe) {
    guard let one = streams.first(where: { $0.pipe === pipe }) else { return }
    let how = one.attempt.isAccepted ? "accepted" : "connected, \(one.attempt.tries) tries"
    let report = punch?.report
    punch?.cancel()
    for other in streams where other.pipe !== pipe { other.pipe.close(flush: .zero) }
    streams.removeAll { $0.pipe !== pipe }
    finish("OK \(time) \(how)", report)
    pipe.close(flush: .seconds(1))
  }

  private func finish(_ line: String, _ report: PunchReport?) {
    guard !isOver else { return }
    isOver = true
    for attempt in report?.attempts ?? [] { say("MORE \(attempt.after.nanoseconds / 1_000_000) ms \(attempt.error)") }
    say(line)
    finished()
  }
}

/// All that belongs to the loop.
final class PunchNode: @unchecked Sendable {
  let loop: KernelLoop
  let knowledge: NetworkKnowledge
  let ports: PunchPorts
  private var hand: PunchHand?
  private var run: Run?

  init(_ servers: [String]) throws {
    loop = try KernelLoop.start(name: "punch")
    knowledge = NetworkKnowledge(servers: servers.compactMap { STUNServer($0) }, on: loop)
    ports = PunchPorts(on: loop)
  }

  func start() throws -> EventLoopFuture<Void> {
    knowledge.changed = { self.ports.update(self.knowledge.reports) }
    knowledge.update(try loop.network.interfaces())
    return knowledge.settled()
  }

  func handle(_ line: String) {
    let words = line.split(separator: " ").map(String.init)
    switch words.first {
    case "take":
      ports.take { hand in
        self.hand = hand
        say("SIDE \(hand.side.text)")
      }
    case "punch":
      guard words.count >= 4, let hand else { return say("FAILED 0 nothing was taken") }
      self.hand = nil
      run = Run(words, hand, on: loop) { self.run = nil }
      run?.start()
    default: say("FAILED 0 what is \(line)?")
    }
  }
}

let node = try PunchNode(Array(CommandLine.arguments.dropFirst()))
try await node.loop.flatSubmit {
  do { return try node.start() } catch { return node.loop.makeFailedFuture(error) }
}.get()
say("READY")
while let line = readLine() { try await node.loop.submit { node.handle(line) }.get() }
