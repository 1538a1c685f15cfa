import Testing

@testable import P2PDNet

/// How many datagrams are read before they are handed out, step by step.
struct DatagramPaceTests {
  @Test("many come: many are read together, however few the last read brought")
  func many() {
    var pace = DatagramPace()
    for count in [2, DatagramBatch.room, 1, 1, 3, 1, DatagramBatch.room] {
      #expect(pace.asks == DatagramBatch.room)
      pace.took(count)
    }
  }

  @Test("one at a time: one is read, with a look for company now and then")
  func lone() {
    var pace = DatagramPace()
    var asked: [Int] = []
    for _ in 0..<200 {
      asked.append(pace.asks)
      pace.took(1)
    }
    #expect(asked[..<4].allSatisfy { $0 == DatagramBatch.room })
    let looks = asked.indices.dropFirst(4).filter { asked[$0] == DatagramBatch.room }
    #expect(looks.count >= 2 && looks.count <= 4)
    #expect(asked.allSatisfy { $0 == 1 || $0 == DatagramBatch.room })
    #expect(looks.first.map { $0 <= 64 } == true)
    #expect(zip(looks, looks.dropFirst()).allSatisfy { $1 - $0 <= 64 })
  }

  @Test("company ends it")
  func company() {
    var pace = DatagramPace()
    while pace.asks > 1 { pace.took(1) }
    while pace.asks == 1 { pace.took(1) }
    pace.took(2)
    for _ in 0..<4 {
      #expect(pace.asks == DatagramBatch.room)
      pace.took(1)
    }
    #expect(pace.asks == 1)
  }
}
