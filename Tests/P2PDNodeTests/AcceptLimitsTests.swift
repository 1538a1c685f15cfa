import NIOCore
import P2PDNet
import Testing

@testable import P2PDNode

@Suite struct AcceptLimitsTests {
  private let a = IPAddress(family: .v4, high: 0xc000_0201 << 32, low: 0)
  private let b = IPAddress(family: .v4, high: 0xc000_0202 << 32, low: 0)
  private let key = Identity.ephemeral().key
  private let otherKey = Identity.ephemeral().key

  private func counter(_ change: (inout AcceptLimits) -> Void) -> AcceptCounter {
    var limits = AcceptLimits()
    change(&limits)
    return AcceptCounter(limits)
  }

  @Test func unfinishedHandshakes() {
    var counter = counter {
      $0.handshakes = 3; $0.handshakesPerSource = 2
    }
    #expect(counter.admit(a) == nil)
    #expect(counter.admit(a) == nil)
    #expect(counter.admit(a) == .handshakesPerSource)
    #expect(counter.admit(b) == nil)
    #expect(counter.admit(b) == .handshakes)
    counter.failed(a)
    #expect(counter.admit(b) == nil)
    #expect(counter.proven(b, key) == nil)
    #expect(counter.admit(b) == nil, "a finished handshake is none")
  }

  @Test func pipesInAll() {
    var counter = counter { $0.pipes = 2 }
    #expect(counter.admit(a) == nil)
    #expect(counter.proven(a, key) == nil)
    #expect(counter.admit(b) == nil)
    #expect(counter.admit(b) == .pipes, "a handshake will be a pipe")
    counter.ended(a, key)
    #expect(counter.admit(b) == nil)
  }

  @Test func pipesPerKey() {
    var counter = counter { $0.perKey = 1 }
    #expect(counter.admit(a) == nil)
    #expect(counter.admit(a) == nil)
    #expect(counter.admit(a) == nil)
    #expect(counter.proven(a, key) == nil)
    #expect(counter.proven(a, key) == .perKey)
    #expect(counter.proven(a, otherKey) == nil)
    counter.ended(a, key)
    #expect(counter.admit(a) == nil)
    #expect(counter.proven(a, key) == nil)
  }

  @Test func pipesPerSource() throws {
    var counter = counter { $0.perSource = 1 }
    #expect(counter.admit(a) == nil)
    #expect(counter.admit(a) == .perSource)
    #expect(counter.admit(b) == nil)
    // One subscriber has a whole /64; another /64 is another's.
    #expect(counter.admit(try #require(IPAddress("2001:db8:0:1::1"))) == nil)
    #expect(counter.admit(try #require(IPAddress("2001:db8:0:1:ffff::2"))) == .perSource)
    #expect(counter.admit(try #require(IPAddress("2001:db8:0:2::1"))) == nil)
    #expect(counter.admit(try #require(IPAddress("::ffff:192.0.2.1"))) == .perSource, "the same host as in IPv4")
  }

  @Test func theTablesForgetEverybody() {
    var counter = counter { _ in }
    var random = SplitMix64(5)
    var open: [(IPAddress, NodeKey)] = []
    let keys = (0..<8).map { _ in Identity.ephemeral().key }
    for round in 0..<4000 {
      let address = IPAddress(family: .v6, high: UInt64.random(in: 0...40, using: &random) << 20, low: UInt64(round))
      guard counter.admit(address) == nil else { continue }
      let key = keys[Int.random(in: 0..<8, using: &random)]
      if Bool.random(using: &random) {
        counter.failed(address)
      } else if counter.proven(address, key) == nil {
        open.append((address, key))
      }
      if open.count > 50 {
        let (address, key) = open.remove(at: Int.random(in: open.indices, using: &random))
        counter.ended(address, key)
      }
    }
    #expect(counter.pipes == open.count)
    for (address, key) in open { counter.ended(address, key) }
    #expect(counter.pipes == 0)
    #expect(counter.handshakes == 0)
    #expect(counter.tableSizes == (0, 0))
  }

  @Test func refusalsAreNotAFloodOfLines() {
    var log = RefusalLog()
    let start = NIODeadline.uptimeNanoseconds(1_000_000_000)
    #expect(log.refused(.pipes, now: start) == 0)
    #expect(log.refused(.pipes, now: start + .seconds(1)) == nil)
    #expect(log.refused(.perKey, now: start + .seconds(1)) == 0, "each limit has its own line")
    #expect(log.refused(.pipes, now: start + .seconds(9)) == nil)
    #expect(log.refused(.pipes, now: start + .seconds(10)) == 2)
    #expect(log.refused(.pipes, now: start + .seconds(20)) == 0)
  }
}
