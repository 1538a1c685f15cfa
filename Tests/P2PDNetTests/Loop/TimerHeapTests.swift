import NIOCore
import Testing

@testable import P2PDNet

@Suite struct TimerHeapTests {
  private func timer(_ milliseconds: Int64) -> LoopTimer {
    LoopTimer(.uptimeNanoseconds(0) + .milliseconds(milliseconds)) { _ in }
  }

  private func drain(_ heap: inout TimerHeap) -> [LoopTimer] {
    var all: [LoopTimer] = []
    while let next = heap.popFirst() { all.append(next) }
    return all
  }

  @Test("the earliest comes first, those of one time in the order they were set")
  func order() {
    var heap = TimerHeap()
    let timers = [5, 1, 3, 1, 5, 1, 2].map { timer($0) }
    for timer in timers { heap.insert(timer) }
    let expected = [1, 3, 5, 6, 2, 0, 4]
    #expect(drain(&heap).map { popped in timers.firstIndex { $0 === popped } } == expected)
  }

  @Test("only what is due is taken")
  func due() {
    var heap = TimerHeap()
    let (early, late) = (timer(10), timer(20))
    heap.insert(late)
    heap.insert(early)
    #expect(heap.popDue(.uptimeNanoseconds(9_999_999)) == nil)
    #expect(heap.popDue(.uptimeNanoseconds(10_000_000)) === early)
    #expect(heap.popDue(.uptimeNanoseconds(10_000_000)) == nil)
    #expect(heap.first == late.deadline)
  }

  @Test("a removed timer leaves nothing behind, and may be removed twice or set twice")
  func removal() {
    var heap = TimerHeap()
    let one = timer(1)
    heap.remove(one)
    heap.insert(one)
    heap.insert(one)
    #expect(heap.count == 1)
    heap.remove(one)
    heap.remove(one)
    #expect(heap.isEmpty)
    one.fire = nil
    heap.insert(one)
    #expect(heap.isEmpty, "one that is over is not set again")
  }

  @Test("many timers set and removed in any order come out sorted", arguments: 1...4)
  func many(seed: UInt64) {
    var random = SplitMix64(seed)
    var heap = TimerHeap()
    var known: [LoopTimer] = []
    for _ in 0..<5000 {
      if known.isEmpty || UInt64.random(in: 0..<3, using: &random) > 0 {
        let new = timer(Int64.random(in: 0..<500, using: &random))
        known.append(new)
        heap.insert(new)
      } else {
        heap.remove(known.swapRemove(at: Int.random(in: 0..<known.count, using: &random)))
      }
    }
    #expect(heap.count == known.count)
    let popped = drain(&heap)
    #expect(popped.map(\.deadline) == known.map(\.deadline).sorted())
    #expect(Set(popped.map { ObjectIdentifier($0) }) == Set(known.map { ObjectIdentifier($0) }))
  }
}

extension Array {
  fileprivate mutating func swapRemove(at index: Int) -> Element {
    swapAt(index, count - 1)
    return removeLast()
  }
}
