import NIOCore
import Testing

@testable import P2PDTraversal

@Suite("When a question is sent again (RFC 8489 §6.2)")
struct STUNTransactionTests {
  /// Steps a question that nobody answers: the times of the requests, and of giving up, in ms.
  private func unanswered(_ schedule: STUNTransaction.Schedule) -> (sent: [Int64], failed: Int64?) {
    var transaction = STUNTransaction(schedule)
    var sent: [Int64] = []
    var now = at(0)
    var actions = transaction.handle(.start, now: now)
    while true {
      var next: NIODeadline?
      for action in actions {
        let time = (now - at(0)).nanoseconds / 1_000_000
        switch action {
        case .send: sent.append(time)
        case .wait(let until): next = until
        case .fail: return (sent, time)
        case .succeed: return (sent, nil)
        }
      }
      guard let next else { return (sent, nil) }
      now = next
      actions = transaction.handle(.timer, now: now)
    }
  }

  @Test("the RFC's example: 0, 500, 1500, 3500, 7500, 15500, 31500, given up at 39500 ms")
  func standard() {
    let (sent, failed) = unanswered(.standard)
    #expect(sent == [0, 500, 1500, 3500, 7500, 15_500, 31_500] && failed == 39_500)
    #expect(STUNTransaction.Schedule.standard.total == .milliseconds(39_500))
  }

  @Test("the quick profile, and a stream's single request")
  func others() {
    let quick = unanswered(.quick)
    #expect(quick.sent == [0, 200, 600, 1400] && quick.failed == 2200)
    #expect(STUNTransaction.Schedule.quick.total == .milliseconds(2200))
    let stream = unanswered(.stream)
    #expect(stream.sent == [0] && stream.failed == 39_500)
  }

  @Test("an answer ends it, and is a round trip only where nothing was sent twice")
  func answered() {
    var once = STUNTransaction(.standard)
    _ = once.handle(.start, now: at(0))
    #expect(once.handle(.answered, now: at(40)) == [.succeed(after: .milliseconds(40), retransmitted: false)])
    #expect(once.handle(.answered, now: at(41)).isEmpty && once.handle(.timer, now: at(500)).isEmpty)
    var twice = STUNTransaction(.standard)
    _ = twice.handle(.start, now: at(0))
    _ = twice.handle(.timer, now: at(500))
    #expect(twice.handle(.answered, now: at(510)) == [.succeed(after: .milliseconds(510), retransmitted: true)])
  }

  @Test("an early timer waits on, a late one does not shift the next")
  func timers() {
    var transaction = STUNTransaction(.standard)
    #expect(transaction.handle(.timer, now: at(0)).isEmpty, "not started")
    #expect(transaction.handle(.answered, now: at(0)).isEmpty, "not started")
    #expect(transaction.handle(.start, now: at(0)) == [.send, .wait(until: at(500))])
    #expect(transaction.handle(.start, now: at(1)).isEmpty, "started already")
    #expect(transaction.handle(.timer, now: at(499)) == [.wait(until: at(500))])
    #expect(transaction.handle(.timer, now: at(700)) == [.send, .wait(until: at(1500))])
  }
}
