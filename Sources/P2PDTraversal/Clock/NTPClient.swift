import Glibc
import NIOCore
import P2PDNet

/// Asks time servers how far this host's clock is off. Nothing is asked before ``ask(patience:)``, and nothing is set: the
/// clock stays as it is.
///
/// Confined to its loop.
public final class NTPClient: @unchecked Sendable {
  public let servers: [ServerURL]
  private let loop: any EventLoop
  private let clock: @Sendable () -> Int64

  /// - Parameters:
  ///   - servers: three make one that is wrong harmless; of more than eight the first are asked.
  ///   - clock: this host's, nanoseconds since 1970.
  public init(
    servers: [ServerURL], on loop: any EventLoop, clock: @escaping @Sendable () -> Int64 = NTPClient.systemClock
  ) {
    self.servers = Array(servers.filter { $0.scheme == .ntp }.prefix(Self.mostServers))
    self.loop = loop
    self.clock = clock
  }

  /// Mostly done after one round trip; silent and contradicting servers cost the whole time. Never fails: what each server
  /// said, or why it said nothing, is in the report.
  public func ask(patience: TimeAmount = .seconds(5)) -> EventLoopFuture<ClockReport> {
    let run = NTPRun(servers, clock: clock(), patience: patience, on: loop)
    run.start()
    return run.promise.futureResult
  }

  /// What the operating system says, in nanoseconds since 1970.
  public static func systemClock() -> Int64 {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)  // clock: how far it is off is the question
    return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
  }

  private static let mostServers = 8
}

/// One query: performs what ``ClockQuery`` decides, a socket a server. Lives until it is finished.
private final class NTPRun: PipeSink, @unchecked Sendable {
  let promise: EventLoopPromise<ClockReport>
  private let servers: [ServerURL]
  private let loop: any EventLoop
  private var query: ClockQuery
  private var pipes: [Int: Pipe] = [:]
  private var timer: Scheduled<Void>?
  private var isOver = false

  init(_ servers: [ServerURL], clock: Int64, patience: TimeAmount, on loop: any EventLoop) {
    self.servers = servers
    self.loop = loop
    promise = loop.makePromise()
    query = ClockQuery(
      servers.map(\.description), clock: NTPTimestamp(unixNanoseconds: clock), now: loop.now, patience: patience
    ) { .random(in: 1...UInt64.max) }
  }

  func start() {
    handle(.start)
    for index in servers.indices where !isOver { look(up: index) }
  }

  private func handle(_ event: ClockQuery.Event) {
    for action in query.handle(event, now: loop.now) {
      switch action {
      case .send(let packet, let index): send(packet, to: index)
      case .wait(let time):
        timer?.cancel()
        timer = loop.assumeIsolated().scheduleTask(deadline: time) { self.handle(.timer) }
      case .finish(let report): finish(report)
      }
    }
  }

  private func look(up index: Int) {
    let server = servers[index]
    guard let network = try? loop.requireNetwork("ask \(server)") else {
      return handle(.failed(index, "this loop has no network"))
    }
    network.resolve(server.host, families: [.v4, .v6], timeout: Self.lookupPatience)
      .assumeIsolated().whenComplete { result in
        switch result {
        case .failure(let error): self.handle(.failed(index, NetError(error, "resolve").reason))
        case .success(let found):
          let places = [AddressFamily.v4, .v6].compactMap { family in found.first { $0.family == family } }
          self.open(index, places.map { Endpoint(ip: $0, port: server.port) }[...], "its name has no address")
        }
      }
  }

  /// The first family that there is a way for. Each server has a socket and a port of its own (RFC 9109), which hears that
  /// server alone.
  private func open(_ index: Int, _ places: ArraySlice<Endpoint>, _ problem: String) {
    guard !isOver else { return }
    guard let place = places.first else { return handle(.failed(index, problem)) }
    PipeOpener.open(.udp, to: .endpoint(place), sink: self, on: loop).assumeIsolated().whenComplete { result in
      switch result {
      case .failure(let error): self.open(index, places.dropFirst(), NetError(error, "ask \(place)").reason)
      case .success(let pipe):
        guard !self.isOver else {
          pipe.close(flush: .zero)
          return
        }
        self.pipes[index] = pipe
        self.handle(.opened(index))
      }
    }
  }

  private func send(_ packet: NTPPacket, to index: Int) {
    guard let pipe = pipes[index] else { return }
    // What the kernel refuses now may work when it is asked again; silence is told either way.
    _ = packet.encoded.withUnsafeBytes { pipe.send($0) }
  }

  private func finish(_ report: ClockReport) {
    isOver = true
    timer?.cancel()
    timer = nil
    let pipes = pipes.values
    self.pipes = [:]
    for pipe in pipes { pipe.close(flush: .zero) }
    promise.succeed(report)
  }

  func pipe(_ pipe: Pipe, message bytes: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    if let packet = NTPPacket(decoding: [UInt8](bytes)), let index = index(of: pipe) {
      handle(.received(packet, from: index))
    }
    return true
  }

  func pipeEnded(_ pipe: Pipe, reason: EndReason) {
    guard let index = index(of: pipe) else { return }
    pipes[index] = nil
    handle(.failed(index, "the socket ended: \(reason.code)"))
  }

  private func index(of pipe: Pipe) -> Int? { pipes.first { $0.value === pipe }?.key }

  private static let lookupPatience: TimeAmount = .seconds(2)
}

extension NetError {
  /// Why, without what.
  fileprivate var reason: String { cause.isEmpty ? code.rawValue : cause }
}
