/// How many datagrams of a socket are read before the first of them is handed out.
///
/// Many, where many come: reading and answering are each code enough to drive the other out of the processor's nearest
/// cache. But looking for a second one costs a call, which is for nothing where question and answer alternate.
struct DatagramPace {
  /// Reads in a row that brought one datagram.
  private var lone = 0

  /// How many the next read is to take.
  var asks: Int { lone < Self.loneEnough || lone == Self.longestLone ? DatagramBatch.room : 1 }

  /// A read for ``asks`` brought so many.
  mutating func took(_ count: Int) {
    if count > 1 {
      lone = 0
    } else {
      lone = lone == Self.longestLone ? Self.loneEnough : lone &+ 1
    }
  }

  /// After so many single datagrams one alone is asked for,
  private static let loneEnough = 4
  /// and after so many a read for many shows whether they still come alone.
  private static let longestLone = 64
}
