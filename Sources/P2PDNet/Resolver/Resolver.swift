import NIOCore
import Synchronization

/// Finds the addresses of host names without blocking an event loop. Addresses written out and `localhost` are answered
/// at once. Questions for the same name share one lookup. Usable from any thread.
public final class Resolver: Sendable {
  /// The one that asks the system.
  public static let system = Resolver(SystemNames())

  private struct Key: Hashable {
    var name: String
    var families: [AddressFamily]
  }

  private struct Lookup {
    var key: Key
    var waiters: [UInt64: EventLoopPromise<[IPAddress]>]
  }

  private struct State {
    var queue: LookupQueue<UInt64>
    /// By number: those in line and those with a thread. One that runs on with nobody waiting stays, so that the next
    /// question for the same name joins it and a name whose servers do not answer holds one thread at most.
    var lookups: [UInt64: Lookup] = [:]
    var byKey: [Key: UInt64] = [:]
    var lastNumber: UInt64 = 0

    /// Takes a lookup off the books and gives those who wait for it.
    @discardableResult
    mutating func forget(_ number: UInt64) -> [EventLoopPromise<[IPAddress]>] {
      guard let lookup = lookups.removeValue(forKey: number) else { return [] }
      if byKey[lookup.key] == number { byKey[lookup.key] = nil }
      return lookup.waiters.sorted { $0.key < $1.key }.map(\.value)
    }
  }

  private let source: any NameSource
  private let state: Mutex<State>

  public convenience init(_ source: any NameSource) { self.init(source, bounds: Bounds()) }

  init(_ source: any NameSource, bounds: Bounds) {
    self.source = source
    state = Mutex(State(queue: LookupQueue(bounds)))
  }

  /// The addresses of `host` by the system's resolver; see the method of the same name.
  public static func resolve(
    _ host: String, families: [AddressFamily] = AddressFamily.allCases, timeout: TimeAmount = defaultTimeout,
    on loop: any EventLoop
  ) -> EventLoopFuture<[IPAddress]> {
    system.resolve(host, families: families, timeout: timeout, on: loop)
  }

  /// The addresses of `host`, at least one, in the order they should be tried (RFC 6724, as the system sorts them).
  ///
  /// Fails with `.badAddress` where the host is neither a name nor an address or has another family than asked for,
  /// `.timeout`, `.dns` with the resolver's reason, `.limit` where too many lookups wait.
  /// - Parameters:
  ///   - host: a name, an IPv4 or IPv6 address, also in brackets, a link-local one with its zone (`fe80::1%eth0`).
  ///   - families: which addresses are of use.
  ///   - timeout: how long the caller waits; the lookup itself may go on for a while.
  public func resolve(
    _ host: String, families: [AddressFamily] = AddressFamily.allCases, timeout: TimeAmount = defaultTimeout,
    on loop: any EventLoop
  ) -> EventLoopFuture<[IPAddress]> {
    let what = "look up \(host)"
    let wanted = AddressFamily.allCases.filter(families.contains)
    switch HostText(host) {
    case .invalid(let reason):
      return loop.makeFailedFuture(NetError(.badAddress, what, cause: reason))
    case .addresses(let all):
      let usable = all.filter { wanted.contains($0.family) }
      guard usable.isEmpty else { return loop.makeSucceededFuture(usable) }
      let names = wanted.map(\.description).joined(separator: " or ")
      return loop.makeFailedFuture(NetError(.badAddress, what, cause: "it is no \(names) address"))
    case .name(let name):
      guard !wanted.isEmpty else {
        return loop.makeFailedFuture(NetError(.badAddress, what, cause: "no address family is wanted"))
      }
      return ask(Key(name: name, families: wanted), what, timeout, on: loop)
    }
  }

  private func ask(
    _ key: Key, _ what: String, _ timeout: TimeAmount, on loop: any EventLoop
  ) -> EventLoopFuture<[IPAddress]> {
    let promise = loop.makePromise(of: [IPAddress].self)
    let (lookup, waiter, actions) = state.withLock { state in
      state.lastNumber += 1
      let waiter = state.lastNumber
      if let number = state.byKey[key] {
        state.lookups[number]?.waiters[waiter] = promise
        return (number, waiter, [LookupQueue<UInt64>.Action]())
      }
      state.lookups[waiter] = Lookup(key: key, waiters: [waiter: promise])
      state.byKey[key] = waiter
      return (waiter, waiter, state.queue.handle(.asked(waiter)))
    }
    let timer = loop.scheduleTask(in: timeout) { self.giveUp(waiter, of: lookup, what, timeout) }
    promise.futureResult.whenComplete { _ in timer.cancel() }
    perform(actions)
    return promise.futureResult
  }

  /// One caller's time is up.
  private func giveUp(_ waiter: UInt64, of number: UInt64, _ what: String, _ timeout: TimeAmount) {
    let (promise, actions) = state.withLock { state in
      let promise = state.lookups[number]?.waiters.removeValue(forKey: waiter)
      var actions: [LookupQueue<UInt64>.Action] = []
      if let lookup = state.lookups[number], lookup.waiters.isEmpty {
        if state.queue.isInLine(number) { state.forget(number) }
        actions = state.queue.handle(.abandoned(number))
      }
      return (promise, actions)
    }
    let seconds = Double(timeout.nanoseconds) / 1e9
    promise?.fail(NetError(.timeout, what, cause: "no answer in \(seconds) s"))
    perform(actions)
  }

  private func perform(_ actions: [LookupQueue<UInt64>.Action]) {
    for action in actions {
      switch action {
      case .refuse(let number):
        let name = state.withLock { $0.lookups[number]?.key.name } ?? "a name"
        settle(number, .failure(NetError(.limit, "look up \(name)", cause: "too many lookups are waiting")))
      case .start(let number): start(number)
      }
    }
  }

  private func start(_ number: UInt64) {
    guard let key = state.withLock({ $0.lookups[number]?.key }) else {
      return perform(state.withLock { $0.queue.handle(.finished(number)) })
    }
    do {
      try BlockingThread.run(name: "p2pd-dns") {
        let result = Result { () throws(NetError) in try self.source.addresses(of: key.name, key.families) }
        self.finish(number, result.flatMap { Self.tidy($0, key) })
      }
    } catch {
      finish(number, .failure(error))
    }
  }

  private func finish(_ number: UInt64, _ result: Result<[IPAddress], NetError>) {
    settle(number, result)
    perform(state.withLock { $0.queue.handle(.finished(number)) })
  }

  private func settle(_ number: UInt64, _ result: Result<[IPAddress], NetError>) {
    let waiters = state.withLock { $0.forget(number) }
    for promise in waiters { promise.completeWith(result.mapError { $0 }) }
  }

  /// Each address once, of the families asked for, and not more of them than anybody would try.
  private static func tidy(_ found: [IPAddress], _ key: Key) -> Result<[IPAddress], NetError> {
    var seen: Set<IPAddress> = []
    let usable = found.filter { key.families.contains($0.family) && seen.insert($0).inserted }
    guard !usable.isEmpty else {
      let names = key.families.map(\.description).joined(separator: " or ")
      return .failure(NetError(.dns, "look up \(key.name)", cause: "the name has no \(names) address"))
    }
    return .success(Array(usable.prefix(mostAddresses)))
  }

  /// P2PD's `dns_timeout`.
  public static let defaultTimeout: TimeAmount = .seconds(2)
  /// A name server may send hundreds; dialling them all serves nobody but an attacker.
  static let mostAddresses = 32
}
