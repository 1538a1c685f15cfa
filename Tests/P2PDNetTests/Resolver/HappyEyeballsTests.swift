import NIOCore
import Testing

@testable import P2PDNet

@Suite("Which attempt starts when (RFC 8305)")
struct HappyEyeballsTests {
  /// Steps the decision and writes what it answers as short words, so that a test reads as a play.
  private struct Race {
    var decision: HappyEyeballs<String>
    init(_ delay: TimeAmount = .milliseconds(250)) { decision = HappyEyeballs(attemptDelay: delay) }

    mutating func at(_ milliseconds: Int64, _ event: HappyEyeballs<String>.Event) -> [String] {
      decision.handle(event, now: Self.time(milliseconds)).map { action in
        switch action {
        case .attempt(let index, let candidate): "try \(index) \(candidate)"
        case .cancel(let index): "cancel \(index)"
        case .succeed(let index): "won \(index)"
        case .fail(let errors): "failed " + errors.map(\.code.rawValue).joined(separator: ",")
        case .wake(let time): "wake \((time - Self.time(0)).nanoseconds / 1_000_000)"
        }
      }
    }
    static func time(_ milliseconds: Int64) -> NIODeadline {
      .uptimeNanoseconds(1_000_000_000) + .milliseconds(milliseconds)
    }
  }
  private let refused = NetError(.refused, "connect")
  private let timeout = NetError(.timeout, "connect")

  @Test("each candidate has a head start of 250 ms; the first that succeeds wins and the others are cancelled")
  func staggered() {
    var race = Race()
    #expect(race.at(0, .start(["a", "b", "c"])) == ["try 0 a", "wake 250"])
    #expect(race.at(249, .tick) == ["wake 250"])
    #expect(race.at(250, .tick) == ["try 1 b", "wake 500"])
    #expect(race.at(510, .tick) == ["try 2 c"])
    #expect(race.at(600, .tick) == [])
    #expect(race.at(601, .attemptSucceeded(1)) == ["cancel 0", "cancel 2", "won 1"])
    #expect(race.decision.isOver)
  }

  @Test("a failure starts the next at once, with a new head start")
  func failureStartsNext() {
    var race = Race()
    _ = race.at(0, .start(["a", "b", "c"]))
    #expect(race.at(10, .attemptFailed(0, refused)) == ["try 1 b", "wake 260"])
    #expect(race.at(250, .tick) == ["wake 260"])
    #expect(race.at(260, .tick) == ["try 2 c"])
    #expect(race.at(300, .attemptSucceeded(2)) == ["cancel 1", "won 2"])
  }

  @Test("all failures, in the order the attempts were started")
  func allFail() {
    var race = Race()
    _ = race.at(0, .start(["a", "b"]))
    #expect(race.at(250, .tick) == ["try 1 b"])
    #expect(race.at(260, .attemptFailed(1, timeout)) == [])
    #expect(race.at(270, .attemptFailed(0, refused)) == ["failed refused,timeout"])
    #expect(race.at(280, .tick) == [])
    #expect(race.at(280, .stop(timeout)) == [])
  }

  @Test("no candidates at all is a failure without attempts")
  func empty() {
    var race = Race()
    #expect(race.at(0, .start([])) == ["failed "])
  }

  @Test("a success that crosses its cancellation is closed")
  func lateSuccess() {
    var race = Race()
    _ = race.at(0, .start(["a", "b"]))
    _ = race.at(250, .tick)
    #expect(race.at(300, .attemptSucceeded(0)) == ["cancel 1", "won 0"])
    #expect(race.at(301, .attemptSucceeded(1)) == ["cancel 1"])
    #expect(race.at(302, .attemptFailed(1, refused)) == [])
    #expect(race.at(303, .attemptSucceeded(0)) == [], "the winner is nobody's to close")
  }

  @Test("giving up cancels what runs, and its error is theirs")
  func stop() {
    var race = Race()
    _ = race.at(0, .start(["a", "b", "c", "d"]))
    _ = race.at(10, .attemptFailed(0, refused))
    _ = race.at(260, .tick)
    #expect(race.at(300, .stop(timeout)) == ["cancel 1", "cancel 2", "failed refused,timeout,timeout"])
    #expect(race.at(301, .attemptSucceeded(1)) == ["cancel 1"])
    var idle = Race()
    #expect(idle.at(0, .start([], complete: false)) == [])
    #expect(idle.at(5, .stop(timeout)) == ["failed timeout"])
  }

  @Test("candidates that come late are tried after those known, and the end waits for them")
  func more() {
    var race = Race()
    #expect(race.at(0, .start(["a"], complete: false)) == ["try 0 a"])
    #expect(race.at(100, .more(["b"], complete: false)) == ["wake 250"], "a's head start goes on")
    #expect(race.at(250, .tick) == ["try 1 b"])
    #expect(race.at(260, .attemptFailed(0, refused)) == [])
    #expect(race.at(270, .attemptFailed(1, refused)) == [], "more may come")
    #expect(race.at(400, .more(["c"])) == ["try 2 c"])
    #expect(race.at(410, .attemptFailed(2, timeout)) == ["failed refused,refused,timeout"])
    var ended = Race()
    _ = ended.at(0, .start(["a"], complete: false))
    _ = ended.at(1, .attemptFailed(0, refused))
    #expect(ended.at(2, .more([])) == ["failed refused"])
    #expect(ended.at(3, .more(["z"])) == [])
  }

  @Test("the delay is kept within 10 ms and 2 s")
  func delays() {
    var quick = Race(.zero)
    #expect(quick.at(0, .start(["a", "b"])) == ["try 0 a", "wake 10"])
    var slow = Race(.hours(1))
    #expect(slow.at(0, .start(["a", "b"])) == ["try 0 a", "wake 2000"])
  }

  @Test("events about attempts that do not run change nothing")
  func nonsense() {
    var race = Race()
    #expect(race.at(0, .tick) == [])
    _ = race.at(0, .start(["a", "b"]))
    for index in [-1, 1, 2, 99] {
      #expect(race.at(1, .attemptFailed(index, refused)) == [])
      #expect(race.at(1, .attemptSucceeded(index)) == [])
    }
    _ = race.at(2, .attemptFailed(0, refused))
    #expect(race.at(3, .attemptFailed(0, refused)) == [], "a failure counts once")
    #expect(race.at(4, .attemptSucceeded(0)) == [])
  }

  @Test("whatever the order of events: one end, nothing left running, and the winner never cancelled")
  func sequences() {
    var numbers = SplitMix64(8305)
    for _ in 0..<3_000 {
      var decision = HappyEyeballs<Int>()
      var running: Set<Int> = []
      var tried: [Int] = []
      var ends = 0
      var winner: Int?
      var now = Race.time(0)
      func perform(_ actions: [HappyEyeballs<Int>.Action]) {
        for action in actions {
          switch action {
          case .attempt(let index, _):
            #expect(ends == 0)
            running.insert(index)
            tried.append(index)
          case .cancel(let index):
            #expect(index != winner)
            running.remove(index)
          case .succeed(let index):
            ends += 1
            winner = index
            running.remove(index)
            #expect(running.isEmpty)
          case .fail(let errors):
            ends += 1
            #expect(running.isEmpty)
            #expect(errors.count == max(tried.count, 1) || tried.isEmpty)
          case .wake(let time): #expect(time > now)
          }
        }
      }
      let count = Int.random(in: 0...5, using: &numbers)
      perform(decision.handle(.start(Array(0..<count)), now: now))
      for _ in 0..<20 {
        now = now + .milliseconds(Int64.random(in: 0...300, using: &numbers))
        let index = Int.random(in: 0...5, using: &numbers)
        let event: HappyEyeballs<Int>.Event
        switch Int.random(in: 0..<12, using: &numbers) {
        case 0..<6: event = .tick
        case 6..<9:
          event = .attemptFailed(index, refused)
          if ends == 0 { running.remove(index) }
        case 9..<11: event = .attemptSucceeded(index)
        default: event = .stop(timeout)
        }
        perform(decision.handle(event, now: now))
      }
      perform(decision.handle(.stop(timeout), now: now))
      #expect(ends == 1)
      #expect(running.isEmpty)
      #expect(tried == Array(0..<tried.count))
    }
  }
}
