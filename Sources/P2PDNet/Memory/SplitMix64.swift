/// Numbers that look random and are the same in every run: Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", 2014. For simulated luck and for tests, never for secrets.
package struct SplitMix64: RandomNumberGenerator {
  private var state: UInt64

  package init(_ seed: UInt64) { state = seed }

  package mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }

  /// From 0 up to but without 1.
  mutating func fraction() -> Double { Double(next() >> 11) / Double(1 << 53) }
}
