import P2PDNet

/// Performs a ``FilteringTest`` from a fresh port of its own. Confined to its loop.
final class FilteringRun {
  typealias Open = (@escaping (STUNSocket?) -> Void) -> Void

  let mapping: NATBehaviour.Mapping
  let server: Endpoint
  private var test: FilteringTest
  private let control: STUNSocket
  private let schedule: STUNTransaction.Schedule
  private let open: Open
  private var fresh: STUNSocket?
  private var finished: ((NATBehaviour.Filtering?) -> Void)?

  /// - Parameters:
  ///   - control: the port that has spoken to all of the server's addresses.
  ///   - open: makes a fresh one; nil: it cannot be made.
  ///   - finished: called once, unless it was cancelled; nil: not found out.
  init(
    _ test: FilteringTest, control: STUNSocket, schedule: STUNTransaction.Schedule, open: @escaping Open,
    finished: @escaping (NATBehaviour.Filtering?) -> Void
  ) {
    self.test = test
    (mapping, server) = (test.mapping, test.server)
    self.control = control
    self.schedule = schedule
    self.open = open
    self.finished = finished
  }

  func start() { step(.start) }

  func cancel() {
    finished = nil
    fresh?.close()
    fresh = nil
  }

  private func step(_ event: FilteringTest.Event) {
    guard finished != nil else { return }
    for action in test.handle(event) {
      switch action {
      case .bind(let server): bind(server)
      case .ask(let question):
        let socket = question.isControl ? control : fresh
        let isPlain = question.change.isEmpty
        socket?.bind(
          server, change: isPlain ? nil : question.change, from: isPlain ? nil : question.from, schedule: schedule
        ) { [weak self] result in
          // A refusal to do so is as good as silence, and the control meets it as well.
          let isHeard = (try? result.get())?.message.kind == .success
          self?.step(isHeard ? .answered(question) : .silent(question))
        }
      case .finish(let filtering):
        let finished = finished
        cancel()
        finished?(filtering)
      }
    }
  }

  private func bind(_ server: Endpoint) {
    open { [weak self] socket in
      guard let self, finished != nil else {
        socket?.close()
        return
      }
      guard let socket else { return step(.failed) }
      fresh = socket
      socket.bind(server, schedule: schedule) { [weak self] result in
        let isBound = (try? result.get())?.message.mapped != nil
        self?.step(isBound ? .bound : .failed)
      }
    }
  }
}
