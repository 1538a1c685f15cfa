import NIOCore
import P2PDNet

/// The ports that an idle node keeps for punching, so that a punch need not measure first: two with a fresh mapping for
/// each way out, held by a connection to a STUN server and asked for again every 25 s. A taken port is replaced, and so is
/// one whose connection or mapping was lost.
///
/// Where nothing is translated, or the port can be computed, none are held: they are made when they are taken. Behind a
/// router that gives its ports one after the other, the next ones are predicted when they are needed.
///
/// Confined to its loop; its owner closes it.
public final class PunchPorts: @unchecked Sendable {
  private let loop: any EventLoop
  private var shelves: [NetworkKnowledge.Path: PunchShelf] = [:]
  private var isClosed = false

  public init(on loop: any EventLoop) { self.loop = loop }

  /// Takes in what is known of the ways out (``NetworkKnowledge/reports``), as often as it changes: opens ports for new
  /// ways, closes those of ways that are gone.
  public func update(_ reports: [NetworkKnowledge.Path: NATReport]) {
    guard !isClosed else { return }
    for path in shelves.keys where reports[path] == nil { shelves.removeValue(forKey: path)?.close() }
    for (path, report) in reports {
      if let shelf = shelves[path] {
        shelf.update(report)
      } else {
        shelves[path] = PunchShelf(path, report, on: loop)
      }
    }
  }

  /// Ports ready now, by way.
  public var ready: [NetworkKnowledge.Path: Int] { shelves.mapValues(\.count) }

  /// Takes ports for one punch: those that are ready, and where a way has none, or is still being measured, what a server
  /// tells within the patience.
  /// A way about which nothing is known by then is left out; with no ways at all the side has no paths.
  /// - Parameters:
  ///   - patience: nil for what the servers' distance asks for.
  ///   - done: called once; at once where nothing has to be asked.
  public func take(within patience: TimeAmount? = nil, _ done: @escaping (PunchHand) -> Void) {
    let order = shelves.values.filter { $0.source != nil || $0.isPending }.sorted { $0.path.precedes($1.path) }
    let farthest = order.map(\.roundTrip).max() ?? .zero
    let queue = order.map(\.queueTime).max() ?? .zero
    let taking = Taking(Array(order.prefix(PunchSide.mostPaths)), done)
    let soon = max(Self.patience, farthest * 6) + queue
    taking.start(
      within: patience ?? min(soon, Self.longestPatience), atMost: patience ?? Self.longestPatience, on: loop)
  }

  /// Takes back what was not used: no port of it was dialled from.
  public func giveBack(_ hand: PunchHand) {
    guard !hand.isUsed, !isClosed else { return hand.close() }
    for (path, ports) in zip(hand.side.paths, hand.ports) {
      for (told, port) in zip(path.ports, ports) {
        if !told.isPredicted, let shelf = shelves.values.first(where: { $0.path.local == port.local.ip }) {
          shelf.giveBack(port, told)
        } else {
          port.close()
        }
      }
    }
  }

  /// Closes all that is held here. What was taken stays with its taker; who still waits gets what there is.
  public func close() {
    isClosed = true
    let shelves = shelves.values
    self.shelves = [:]
    for shelf in shelves { shelf.close() }
  }

  /// A punch dials two pairs of ports at first (``PunchPlan``).
  static let warm = 2
  /// A connect does not wait longer for one strategy of several, unless the servers are far.
  private static let patience: TimeAmount = .milliseconds(400)
  /// With nothing in hand there is no punch at all, so servers that have not failed yet get more: this host may be busy.
  private static let longestPatience: TimeAmount = .milliseconds(1_500)
}

/// One taking that goes over several ways.
private final class Taking {
  private let shelves: [PunchShelf]
  private var items: [[PunchShelf.Item]]
  /// Places of shelves, and the numbers they gave us.
  private var waiting: [Int: Int] = [:]
  private var timer: Scheduled<Void>?
  private var done: ((PunchHand) -> Void)?

  init(_ shelves: [PunchShelf], _ done: @escaping (PunchHand) -> Void) {
    self.shelves = shelves
    self.done = done
    items = Array(repeating: [], count: shelves.count)
  }

  /// - Parameters:
  ///   - patience: for what may still come beside what is there.
  ///   - longest: where nothing is there, and something is on its way.
  func start(within patience: TimeAmount, atMost longest: TimeAmount, on loop: any EventLoop) {
    for (index, shelf) in shelves.enumerated() {
      items[index] = shelf.takeReady(PunchPorts.warm)
      guard items[index].isEmpty else { continue }
      let id = shelf.wait { item in
        self.waiting[index] = nil
        if let item {
          if self.done == nil { item.port.close() } else { self.items[index].append(item) }
        }
        if self.isLate { self.finish() } else { self.finishIfAll() }
      }
      if let id { waiting[index] = id }
    }
    hasAsked = true
    guard !finishIfAll() else { return }
    timer = loop.assumeIsolated().scheduleTask(in: patience) {
      let isPromising = self.items.allSatisfy(\.isEmpty) && self.waiting.keys.contains { self.shelves[$0].isPromising }
      guard isPromising, patience < longest else { return self.finish() }
      self.isLate = true
      self.timer = loop.assumeIsolated().scheduleTask(in: longest - patience) { self.finish() }
    }
  }

  private var hasAsked = false
  /// The first port that comes ends it.
  private var isLate = false

  @discardableResult
  private func finishIfAll() -> Bool {
    guard hasAsked, waiting.isEmpty else { return false }
    finish()
    return true
  }

  private func finish() {
    guard let done else { return }
    self.done = nil
    timer?.cancel()
    for (index, id) in waiting { shelves[index].stopWaiting(id) }
    waiting = [:]
    var side = PunchSide()
    var ports: [[TCPPort]] = []
    for (shelf, items) in zip(shelves, items) where !items.isEmpty {
      var path = shelf.told
      path.ports = items.map(\.told)
      side.paths.append(path)
      ports.append(items.map(\.port))
    }
    done(PunchHand(side, ports, counter: items.joined().lazy.compactMap(\.counter).first))
  }
}

extension NetworkKnowledge.Path {
  /// Ways with a router first, then IPv4, then by interface: any order does that stays.
  fileprivate func precedes(_ other: NetworkKnowledge.Path) -> Bool {
    let mine = (gateway == nil ? 1 : 0, family.rawValue, index, local.description)
    return mine < (other.gateway == nil ? 1 : 0, other.family.rawValue, other.index, other.local.description)
  }
}
