import NIOCore
import P2PDNet

/// Performs a ``HairpinTest`` between two fresh ports, whose mappings a server tells. Confined to its loop.
final class HairpinRun {
  private let server: Endpoint
  private let roundTrip: TimeAmount
  private let schedule: STUNTransaction.Schedule
  private let loop: any EventLoop
  private let open: FilteringRun.Open
  private var finished: ((NATReport.Hairpin?) -> Void)?
  private var pair: [STUNSocket] = []
  private var mapped: [Endpoint] = []
  private var test: HairpinTest?
  private var timer: Scheduled<Void>?
  /// What each port sends, so that it is known again.
  private let tokens = (0..<2).map { _ in (0..<16).map { _ in UInt8.random(in: 0...255) } }

  /// - Parameters:
  ///   - open: makes a fresh port; nil: it cannot be made.
  ///   - finished: called once, unless it was cancelled; nil: not found out.
  init(
    _ server: Endpoint, roundTrip: TimeAmount, schedule: STUNTransaction.Schedule, on loop: any EventLoop,
    open: @escaping FilteringRun.Open, finished: @escaping (NATReport.Hairpin?) -> Void
  ) {
    self.server = server
    self.roundTrip = roundTrip
    self.schedule = schedule
    self.loop = loop
    self.open = open
    self.finished = finished
  }

  func start() {
    for _ in 0..<2 {
      open { [weak self] socket in
        guard let self, finished != nil else {
          socket?.close()
          return
        }
        guard let socket else { return finish(nil) }
        pair.append(socket)
        if pair.count == 2 { map() }
      }
    }
  }

  func cancel() {
    finished = nil
    timer?.cancel()
    for socket in pair { socket.close() }
    pair = []
  }

  private func finish(_ verdict: NATReport.Hairpin?) {
    let finished = finished
    cancel()
    finished?(verdict)
  }

  private func map() {
    var found: [Endpoint?] = [nil, nil]
    var left = 2
    for (index, socket) in pair.enumerated() {
      socket.bind(server, schedule: schedule) { [weak self] result in
        found[index] = (try? result.get())?.message.mapped
        left -= 1
        guard left == 0, let self, finished != nil else { return }
        mapped = found.compactMap { $0 }
        guard mapped.count == 2 else { return finish(nil) }
        exchange()
      }
    }
  }

  private func exchange() {
    for (index, socket) in pair.enumerated() {
      socket.onDatagram = { [weak self] bytes, source in
        guard let self, bytes.elementsEqual(tokens[1 - index]) else { return }
        step(.heard(from: source))
      }
    }
    test = HairpinTest(outside: mapped.map(\.ip), roundTrip: roundTrip)
    step(.start)
  }

  private func step(_ event: HairpinTest.Event) {
    guard finished != nil, let actions = test?.handle(event, now: loop.now) else { return }
    for action in actions {
      switch action {
      case .send: for (index, socket) in pair.enumerated() { socket.send(tokens[index], to: mapped[1 - index]) }
      case .wait(let time):
        timer = loop.assumeIsolated().scheduleTask(deadline: time) { [weak self] in self?.step(.timer) }
      case .finish(let verdict): finish(verdict)
      }
    }
  }
}
