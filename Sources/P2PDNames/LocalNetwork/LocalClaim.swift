import NIOCore
import P2PDNet

/// One name on all links: performs what each link's ``LinkResponder`` decides.
///
/// Confined to its loop.
final class LocalClaim: @unchecked Sendable {
  private final class Holder {
    let link: LocalLink
    var responder: LinkResponder
    var timer: Scheduled<Void>?
    var state = LocalNames.Announcement.State.asking

    init(_ link: LocalLink, _ responder: LinkResponder) {
      self.link = link
      self.responder = responder
    }
  }

  /// Done when the name is ours on every link there is, failed when it is another's on one.
  var settled: EventLoopFuture<Void> { promise.futureResult }
  private let promise: EventLoopPromise<Void>
  private let loop: any EventLoop
  private let changed: () -> Void
  private var service: LocalService
  private var holders: [UInt32: Holder] = [:]
  private var patience: Scheduled<Void>?
  private var isSettled = false

  init(_ service: LocalService, on loop: any EventLoop, changed: @escaping () -> Void) {
    self.service = service
    self.loop = loop
    self.changed = changed
    promise = loop.makePromise()
  }

  var announcements: [LocalNames.Announcement] {
    holders.values.map {
      LocalNames.Announcement(label: service.label, interface: $0.link.interface.name, state: $0.state)
    }
  }

  // MARK: What the owner says

  /// The links of now have been added.
  func begin() {
    guard !holders.isEmpty else {
      return settle(.failure(NetError(.unreachable, what, cause: "no interface leads to a LAN")))
    }
    patience = loop.assumeIsolated().scheduleTask(in: Self.longestAsking) { [weak self] in
      guard let self else { return }
      settle(.failure(NetError(.timeout, what, cause: "others on the LAN keep contesting the name")))
    }
  }

  /// False where the key is another: that is a new claim.
  func renew(_ service: LocalService) -> Bool {
    guard service.key == self.service.key else { return false }
    self.service = service
    for holder in holders.values { handle(.changed(service), holder) }
    return true
  }

  func add(_ link: LocalLink) {
    guard link.isOpen, holders[link.interface.index] == nil else { return }
    let responder = LinkResponder(service, addresses: link.addresses, now: loop.now) { .random(in: 0...1) }
    let holder = Holder(link, responder)
    holders[link.interface.index] = holder
    handle(.start, holder)
  }

  func update(_ link: LocalLink) {
    guard let holder = holders[link.interface.index] else { return add(link) }
    guard link.isOpen else { return remove(link) }
    handle(.addresses(link.addresses), holder)
  }

  func remove(_ link: LocalLink) {
    guard let holder = holders.removeValue(forKey: link.interface.index) else { return }
    handle(.stop, holder)
    changed()
    settleIfOurs()
  }

  func heard(_ message: DNSMessage, from source: Endpoint, on link: LocalLink) {
    if let holder = holders[link.interface.index] { handle(.received(message, from: source), holder) }
  }

  func stop() {
    let all = holders.values
    holders = [:]
    for holder in all { handle(.stop, holder) }
    settle(.failure(NetError(.cancelled, what, cause: "it was withdrawn")))
  }

  // MARK: What the links decide

  private func handle(_ event: LinkResponder.Event, _ holder: Holder) {
    var states: [LocalNames.Announcement.State] = []
    for action in holder.responder.handle(event, now: loop.now) {
      switch action {
      case .multicast(let message): holder.link.send(message)
      case .unicast(let message, let target): holder.link.send(message, to: target)
      case .wait(let time):
        holder.timer?.cancel()
        holder.timer = time.map { time in
          loop.assumeIsolated().scheduleTask(deadline: time) { [weak self, weak holder] in
            if let self, let holder { self.handle(.timer, holder) }
          }
        }
      case .claimed: states.append(.ours)
      case .taken(let key): states.append(.taken(by: key))
      }
    }
    // Last, as who hears of it may withdraw the name.
    for state in states { set(state, holder) }
  }

  private func set(_ state: LocalNames.Announcement.State, _ holder: Holder) {
    guard holder.state != state else { return }
    holder.state = state
    if case .taken(let key) = state {
      let other = key.map { " with the key \(Base32.encode($0))" } ?? ""
      settle(
        .failure(
          NetError(
            .taken, what, cause: "another node\(other) on \(holder.link.interface) has the name",
            remedy: "Take another name, or stop the other node.")))
    }
    settleIfOurs()
    changed()
  }

  private func settleIfOurs() {
    if !holders.isEmpty, holders.values.allSatisfy({ $0.state == .ours }) { settle(.success(())) }
  }

  private func settle(_ result: Result<Void, NetError>) {
    guard !isSettled else { return }
    isSettled = true
    patience?.cancel()
    patience = nil
    promise.completeWith(result.mapError { $0 as any Error })
  }

  private var what: String { "announce \(service.label) on the local network" }

  /// Asking takes 0.75 to 1 s, and 1 s more each time that two ask at once.
  private static let longestAsking: TimeAmount = .seconds(10)
}
