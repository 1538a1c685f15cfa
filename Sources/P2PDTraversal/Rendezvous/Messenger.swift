import NIOCore

/// A way to say a word to one other node before there is a path to it. Confined to the loop.
public protocol Messenger: AnyObject {
  /// Asks, and gets the answer with the time the way there and back took, without what the other side needed to answer.
  /// Fails with ``NetError``: `timeout`, or why no broker took it.
  func request(_ bytes: [UInt8], timeout: TimeAmount) -> EventLoopFuture<(bytes: [UInt8], roundTrip: TimeAmount)>
  /// Says something that wants no answer, and may be lost.
  func tell(_ bytes: [UInt8])
  /// Half the smoothed round trip to the other node and back; nil while none was measured.
  var oneWay: TimeAmount? { get }
  /// The smoothed round trip between this node and the nearest broker that leads to the other one; nil while none is
  /// known. Half the sum of both sides' legs is the way between the two, before any message has gone it.
  var leg: TimeAmount? { get }
}
