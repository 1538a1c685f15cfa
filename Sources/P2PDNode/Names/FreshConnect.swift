import NIOCore
import P2PDNet

/// Performs a ``FreshRace``: two connects and a question at most, within one deadline. Confined to the node's loop; kept
/// by what it waits for.
final class FreshConnect: @unchecked Sendable {
  struct Wish {
    var protocolName = ""
    var sink: (any PipeSink)?
    var strategies = ConnectStrategy.allCases
    var conf: PipeConf?
    var watch: ((String) -> Void)?
  }

  private let node: Node
  private let wish: Wish
  private let stored: NodeAddress
  private let deadline: NIODeadline
  private let promise: EventLoopPromise<Pipe>
  private var race: FreshRace
  private var cancels: [FreshRace.Which: () -> Void] = [:]
  private var pipes: [FreshRace.Which: Pipe] = [:]
  private var timer: Scheduled<Void>?

  /// - Parameter isFresh: the node itself told the address just now.
  init(_ stored: NodeAddress, isFresh: Bool, deadline: NIODeadline, _ wish: Wish, of node: Node) {
    self.node = node
    self.wish = wish
    self.stored = stored
    self.deadline = deadline
    promise = node.loop.makePromise()
    let now = Node.wallClock()
    let age = now > stored.issued ? now - stored.issued : 0
    race = FreshRace(stored, age: isFresh ? nil : age, canAsk: node.messenger(to: stored) != nil)
  }

  func start() -> EventLoopFuture<Pipe> {
    handle(.start)
    return promise.futureResult
  }

  /// Gives it up: the future fails with `cancelled`.
  func cancel() {
    let error = NetError(.cancelled, "connect to node \(stored.key.short)", cause: "it was called off")
    for cancel in Array(cancels.values) { cancel() }
    handle(.failed(.stored, error))
  }

  private func handle(_ event: FreshRace.Event) {
    for action in race.handle(event) { perform(action) }
  }

  private func perform(_ action: FreshRace.Action) {
    switch action {
    case .connect(let which, let address): connect(which, address)
    case .ask: ask()
    case .wake(let time): timer = node.loop.assumeIsolated().scheduleTask(in: time) { self.handle(.tick) }
    case .cancel(let which): cancels.removeValue(forKey: which)?()
    case .succeed(let which): finish(pipes[which].map { .success($0) } ?? .failure(NetError(.closed, "connect")))
    case .fail(let error): finish(.failure(error))
    }
  }

  private func finish(_ result: Result<Pipe, NetError>) {
    timer?.cancel()
    (cancels, pipes) = ([:], [:])
    promise.completeWith(result.mapError { $0 as any Error })
  }

  private var left: TimeAmount { max(.milliseconds(1), deadline - node.loop.now) }

  private func ask() {
    wish.watch?("asks the node for its present address")
    let asked = node.freshAddress(of: stored, timeout: min(Node.whereaboutsTimeout, left))
    asked.assumeIsolated().whenComplete { result in
      if let watch = self.wish.watch, !self.race.isOver {
        switch result {
        case .success(let now): watch(now == self.stored ? "its address is still the same" : "it told a newer address")
        case .failure(let error): watch("no present address: \(NetError(error, "ask").cause)")
        }
      }
      self.handle(.told(result.mapError { NetError($0, "ask for the present address") }))
    }
  }

  private func connect(_ which: FreshRace.Which, _ address: NodeAddress) {
    let attempt = node.connecting(
      address, protocol: wish.protocolName, sink: wish.sink, timeout: left, strategies: wish.strategies,
      conf: wish.conf, watch: wish.watch)
    cancels[which] = attempt.cancel
    attempt.pipe.assumeIsolated().whenComplete { result in
      self.cancels[which] = nil
      switch result {
      case .success(let pipe):
        // The other one was first.
        if self.race.isOver { return _ = pipe.close(flush: .zero) }
        self.pipes[which] = pipe
        self.handle(.connected(which))
      case .failure(let error): self.handle(.failed(which, NetError(error, "connect")))
      }
    }
  }
}
