/// The X25519 form of an Ed25519 public key: u = (1 + y) / (1 - y) in the field of 2^255 - 19 (RFC 7748 §4.1). Works on
/// public values only, so it need not take the same time for each.
enum Montgomery {
  /// nil for 32 bytes that are no y coordinate below the field's prime, and for y = 1, which has no counterpart.
  static func publicKey(of key: SignalKey) -> [UInt8]? {
    var limbs = [UInt64](repeating: 0, count: 4)
    for (index, byte) in key.bytes.enumerated() where index < 32 {
      limbs[index / 8] |= UInt64(byte) << (8 * UInt64(index % 8))
    }
    limbs[3] &= 0x7fff_ffff_ffff_ffff  // the top bit is the sign of x
    let y = FieldElement(limbs[0], limbs[1], limbs[2], limbs[3])
    guard y.isReduced else { return nil }
    let bottom = FieldElement.one - y
    guard bottom != .zero else { return nil }
    return ((FieldElement.one + y) * bottom.inverse).bytes
  }

  /// Points of which X25519 makes zeros whatever the secret key is: 32 bytes that everybody can compute. RFC 9180 §7.1.4
  /// wants them refused, and the library lets them through. The top bit of a coordinate does not count.
  static func isSmallOrder(_ point: some Collection<UInt8>) -> Bool {
    var canonical = Array(point)
    guard canonical.count == 32 else { return true }
    canonical[31] &= 0x7f
    return smallOrder.contains(canonical)
  }

  /// 0, 1, the two coordinates of order 8, and -1, 0 and 1 as p - 1, p and p + 1.
  static let smallOrder: [[UInt8]] = [
    [UInt8](repeating: 0, count: 32),
    [1] + [UInt8](repeating: 0, count: 31),
    [
      0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09, 0x8d,
      0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ],
    [
      0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04, 0x44, 0x5c,
      0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ],
    [0xec] + [UInt8](repeating: 0xff, count: 30) + [0x7f],
    [0xed] + [UInt8](repeating: 0xff, count: 30) + [0x7f],
    [0xee] + [UInt8](repeating: 0xff, count: 30) + [0x7f],
  ]
}

/// An integer modulo 2^255 - 19, always reduced, small end first.
struct FieldElement: Equatable {
  private var a: UInt64, b: UInt64, c: UInt64, d: UInt64

  init(_ a: UInt64, _ b: UInt64, _ c: UInt64, _ d: UInt64) {
    self.a = a
    self.b = b
    self.c = c
    self.d = d
  }

  static let zero = FieldElement(0, 0, 0, 0)
  static let one = FieldElement(1, 0, 0, 0)
  private static let prime = FieldElement(
    0xffff_ffff_ffff_ffed, 0xffff_ffff_ffff_ffff, 0xffff_ffff_ffff_ffff, 0x7fff_ffff_ffff_ffff)

  var isReduced: Bool { Self.subtract(self, Self.prime).borrow }

  static func + (x: FieldElement, y: FieldElement) -> FieldElement {
    // Below 2^256: both are below 2^255.
    let (a, c0) = x.a.addingReportingOverflow(y.a)
    let (b, c1) = add(x.b, y.b, c0)
    let (c, c2) = add(x.c, y.c, c1)
    let (d, _) = add(x.d, y.d, c2)
    return FieldElement(a, b, c, d).reduced
  }

  static func - (x: FieldElement, y: FieldElement) -> FieldElement {
    let (difference, borrow) = subtract(x, y)
    guard borrow else { return difference }
    // Adding the prime wraps around 2^256 just as the difference did.
    let (a, c0) = difference.a.addingReportingOverflow(prime.a)
    let (b, c1) = add(difference.b, prime.b, c0)
    let (c, c2) = add(difference.c, prime.c, c1)
    let (d, _) = add(difference.d, prime.d, c2)
    return FieldElement(a, b, c, d)
  }

  static func * (x: FieldElement, y: FieldElement) -> FieldElement {
    let left = [x.a, x.b, x.c, x.d]
    let right = [y.a, y.b, y.c, y.d]
    var product = [UInt64](repeating: 0, count: 8)
    for i in 0..<4 {
      var carry: UInt64 = 0
      for j in 0..<4 { (product[i + j], carry) = multiplyAdd(left[i], right[j], product[i + j], carry) }
      product[i + 4] = carry
    }
    // 2^256 is 38 in this field: fold the upper half onto the lower, and what that carries once more.
    var low = Array(product[0..<4])
    var carry: UInt64 = 0
    for i in 0..<4 { (low[i], carry) = multiplyAdd(product[i + 4], 38, low[i], carry) }
    while carry > 0 {
      var rest: UInt64 = 0
      (low[0], rest) = multiplyAdd(carry, 38, low[0], 0)
      carry = rest
      for i in 1..<4 {
        let (sum, overflow) = low[i].addingReportingOverflow(carry)
        low[i] = sum
        carry = overflow ? 1 : 0
      }
    }
    return FieldElement(low[0], low[1], low[2], low[3]).reduced
  }

  /// By Fermat: x^(p - 2). p - 2 is 2^255 - 21: all its bits are ones but the second and the fourth.
  var inverse: FieldElement {
    var result = FieldElement.one
    for bit in stride(from: 254, through: 0, by: -1) {
      result = result * result
      if bit != 2, bit != 4 { result = result * self }
    }
    return result
  }

  var bytes: [UInt8] {
    [a, b, c, d].flatMap { limb in (0..<8).map { UInt8(truncatingIfNeeded: limb >> (8 * UInt64($0))) } }
  }

  /// Any 256-bit value is below three times the prime.
  private var reduced: FieldElement {
    var value = self
    while !value.isReduced { value = Self.subtract(value, Self.prime).difference }
    return value
  }

  private static func subtract(_ x: FieldElement, _ y: FieldElement) -> (difference: FieldElement, borrow: Bool) {
    let (a, b0) = x.a.subtractingReportingOverflow(y.a)
    let (b, b1) = subtract(x.b, y.b, b0)
    let (c, b2) = subtract(x.c, y.c, b1)
    let (d, b3) = subtract(x.d, y.d, b2)
    return (FieldElement(a, b, c, d), b3)
  }

  private static func add(_ x: UInt64, _ y: UInt64, _ carry: Bool) -> (UInt64, Bool) {
    let (sum, first) = x.addingReportingOverflow(y)
    let (all, second) = sum.addingReportingOverflow(carry ? 1 : 0)
    return (all, first || second)
  }

  private static func subtract(_ x: UInt64, _ y: UInt64, _ borrow: Bool) -> (UInt64, Bool) {
    let (difference, first) = x.subtractingReportingOverflow(y)
    let (all, second) = difference.subtractingReportingOverflow(borrow ? 1 : 0)
    return (all, first || second)
  }

  /// x * y + z + carry, which always fits into two words.
  private static func multiplyAdd(_ x: UInt64, _ y: UInt64, _ z: UInt64, _ carry: UInt64) -> (UInt64, UInt64) {
    let (high, low) = x.multipliedFullWidth(by: y)
    let (first, c0) = low.addingReportingOverflow(z)
    let (second, c1) = first.addingReportingOverflow(carry)
    return (second, high &+ (c0 ? 1 : 0) &+ (c1 ? 1 : 0))
  }
}
