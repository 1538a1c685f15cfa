import NIOCore

/// Something to do at a time. Confined to its loop.
final class LoopTimer: @unchecked Sendable {
  fileprivate(set) var deadline: NIODeadline
  fileprivate var order: UInt64 = 0
  /// Its place in the heap; -1 outside.
  fileprivate var place = -1
  /// Called once: with nil when the time has come, with an error when the loop is shut down. Dropped when the timer is
  /// cancelled.
  var fire: (((any Error)?) -> Void)?

  init(_ deadline: NIODeadline, _ fire: @escaping ((any Error)?) -> Void) {
    self.deadline = deadline
    self.fire = fire
  }
}

/// The timers of a loop, earliest first, those of one time in the order they were set: a binary heap in which every timer
/// knows its place, so that setting and cancelling cost O(log n) and a cancelled timer leaves nothing behind.
struct TimerHeap {
  private struct Item {
    var deadline: NIODeadline
    var order: UInt64
    var timer: LoopTimer

    @inline(__always) func isBefore(_ other: Item) -> Bool {
      deadline != other.deadline ? deadline < other.deadline : order < other.order
    }
  }

  private var items: ContiguousArray<Item> = []
  private var lastOrder: UInt64 = 0

  var count: Int { items.count }
  var isEmpty: Bool { items.isEmpty }
  /// When the next timer is due.
  var first: NIODeadline? { items.first?.deadline }

  /// One that is set already, over or cancelled stays as it is.
  mutating func insert(_ timer: LoopTimer) {
    guard timer.place < 0, timer.fire != nil else { return }
    lastOrder &+= 1
    timer.order = lastOrder
    items.append(Item(deadline: timer.deadline, order: lastOrder, timer: timer))
    rise(items.count - 1)
  }

  mutating func remove(_ timer: LoopTimer) {
    let place = timer.place
    guard items.indices.contains(place), items[place].timer === timer else { return }
    timer.place = -1
    let last = items.removeLast()
    guard place < items.count else { return }
    items[place] = last
    last.timer.place = place
    rise(place)
    sink(last.timer.place)
  }

  /// Takes out the earliest timer if it is due.
  mutating func popDue(_ now: NIODeadline) -> LoopTimer? {
    guard let first = items.first, first.deadline <= now else { return nil }
    remove(first.timer)
    return first.timer
  }

  /// Takes out the earliest timer, due or not.
  mutating func popFirst() -> LoopTimer? {
    guard let first = items.first else { return nil }
    remove(first.timer)
    return first.timer
  }

  private mutating func rise(_ start: Int) {
    var place = start
    let item = items[place]
    while place > 0 {
      let parent = (place - 1) / 2
      guard item.isBefore(items[parent]) else { break }
      items[place] = items[parent]
      items[place].timer.place = place
      place = parent
    }
    items[place] = item
    item.timer.place = place
  }

  private mutating func sink(_ start: Int) {
    var place = start
    let item = items[place]
    while true {
      var child = 2 * place + 1
      guard child < items.count else { break }
      if child + 1 < items.count, items[child + 1].isBefore(items[child]) { child += 1 }
      guard items[child].isBefore(item) else { break }
      items[place] = items[child]
      items[place].timer.place = place
      place = child
    }
    items[place] = item
    item.timer.place = place
  }
}
