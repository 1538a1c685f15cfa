import P2PDNet

/// How a router chooses the outside port of a new mapping (RFC 4787 §4.2).
public enum PortAllocation: Hashable, Sendable {
  /// The inside port.
  case preserving
  /// The inside port plus a number that stays the same, modulo 65536.
  case offset(Int)
  /// One after the other, whatever the inside port.
  case sequential(step: Int, range: ClosedRange<UInt16>)
  /// No pattern; the ports seen lie in this range.
  case random(range: ClosedRange<UInt16>)

  /// One fresh mapping: inside and outside port.
  public struct Sample: Hashable, Sendable {
    public let inside: UInt16
    public let outside: UInt16

    public init(inside: UInt16, outside: UInt16) {
      self.inside = inside
      self.outside = outside
    }
  }

  /// The lowest and the highest outside port seen, where there is a range to speak of.
  public var range: ClosedRange<UInt16>? {
    switch self {
    case .preserving, .offset: nil
    case .sequential(_, let range), .random(let range): range
    }
  }

  /// The pattern of mappings made one after the other, in that order; nil where they are too few to tell.
  public init?(_ samples: [Sample]) {
    let outside = samples.map(\.outside)
    guard samples.count >= Self.fewest, let low = outside.min(), let high = outside.max() else { return nil }
    let distances = samples.map { Int($0.outside) - Int($0.inside) }
    // Most, not all: another host may have a port already, and then the router must choose one.
    if Self.mostCommon(distances) == (0, true) {
      self = .preserving
      return
    }
    // Over the top of the ports an offset goes on from 0, or from 1024 where the lower ones are not used.
    for top in [65536, 65536 - 1024] {
      let (distance, isCommon) = Self.mostCommon(distances.map { (($0 % top) + top) % top })
      if isCommon {
        self = .offset(distances.contains(distance) ? distance : distance - top)
        return
      }
    }
    let steps = zip(outside, outside.dropFirst()).map { Int($1) - Int($0) }
    let (step, isCommon) = Self.mostCommon(steps)
    if isCommon, step != 0, abs(step) <= Self.longestStep {
      self = .sequential(step: step, range: low...high)
    } else {
      self = .random(range: low...high)
    }
  }

  /// The commonest value, and whether three fifths have it.
  private static func mostCommon(_ values: [Int]) -> (Int, Bool) {
    var counts: [Int: Int] = [:]
    for value in values { counts[value, default: 0] += 1 }
    // The smaller of equals, so that the answer does not depend on hashing.
    guard let best = counts.min(by: { ($1.value, $0.key) < ($0.value, $1.key) }) else { return (0, false) }
    return (best.key, best.value * 5 >= values.count * 3)
  }

  /// Below this, chance makes patterns.
  static let fewest = 4
  /// Mappings to make for a sample: enough to tell every kind apart at three fifths agreement.
  static let samples = 8
  /// A farther step is chance.
  static let longestStep = 64
}

extension PortAllocation: CustomStringConvertible {
  public var description: String {
    switch self {
    case .preserving: "preserve"
    case .offset(let distance): "offset\(distance < 0 ? "" : "+")\(distance)"
    case .sequential(let step, _): "seq\(step < 0 ? "" : "+")\(step)"
    case .random: "random"
    }
  }
}
