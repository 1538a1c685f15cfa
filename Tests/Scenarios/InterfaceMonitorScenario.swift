import Foundation
import NIOCore
import P2PDNet
import Testing

/// The monitor against the kernel: what ip(8) does is what it tells.
@Suite(
  "Changes in a namespace", .enabled(if: InterfaceNamespace.isAvailable, Comment(rawValue: InterfaceNamespace.whyNot)),
  .timeLimit(.minutes(2)))
struct InterfaceMonitorScenario {
  /// What the monitor has told so far; a test waits on it until a condition holds.
  private final class Told: @unchecked Sendable {  // guarded by its condition
    private let condition = NSCondition()
    private var events: [InterfaceEvent] = []
    private var calls = 0
    private var snapshot = NetworkSnapshot()

    func add(_ more: [InterfaceEvent], _ now: NetworkSnapshot) {
      condition.withLock {
        events += more
        calls += 1
        snapshot = now
        condition.broadcast()
      }
    }

    /// The texts of the events up to the moment the condition held; empties the list.
    func wait(_ what: String, _ isMet: ([InterfaceEvent], NetworkSnapshot) -> Bool) throws -> [String] {
      try condition.withLock {
        let deadline = Date(timeIntervalSinceNow: 20)
        while !isMet(events, snapshot) {
          guard condition.wait(until: deadline) else {
            throw InterfaceNamespace.Failure(text: "never told: \(what); told: \(events)")
          }
        }
        defer { events = [] }
        return events.map(\.description)
      }
    }

    func waitFor(_ text: String) throws {
      _ = try wait(text) { events, _ in events.contains { $0.description == text } }
    }

    var count: Int { condition.withLock { calls } }
  }

  private static func watch(
    debounce: TimeAmount = .milliseconds(20), _ body: @escaping @Sendable (Told) throws -> Void
  ) async throws {
    let loop = try KernelLoop.start(name: "monitor")
    try await InterfaceNamespace.run {
      let told = Told()
      let monitor = try InterfaceMonitor.start(on: loop, debounce: debounce) { told.add($0, $1) }.wait()
      let result = Result { try body(told) }
      try loop.flatSubmit { monitor.stop() }.wait()
      let count = told.count
      try InterfaceNamespace.ip("addr add 10.99.0.1/32 dev lo")
      try loop.submit {}.wait()
      #expect(told.count == count, "nothing is told after stop")
      try result.get()
    }
    try await loop.shutdownGracefully()
  }

  @Test("a link's life: made, up, renamed, resized, down, removed")
  func link() async throws {
    try await Self.watch { told in
      try InterfaceNamespace.ip("link add a0 type veth peer name a1")
      _ = try told.wait("a0 and a1 are new") { _, now in now.interfaces.count == 3 }
      try InterfaceNamespace.ip("link set a1 up")
      try InterfaceNamespace.ip("link set a0 up")
      _ = try told.wait("a0 is up") { _, now in now.interfaces.contains { $0.name == "a0" && $0.isUp } }
      try InterfaceNamespace.ip("link set a0 mtu 1300")
      _ = try told.wait("a0 has another MTU") { events, _ in
        events.contains {
          if case .changed(let now, let old) = $0 { now.mtu == 1300 && old.mtu == 1500 } else { false }
        }
      }
      try InterfaceNamespace.ip("link set a0 name lan0")
      try told.waitFor("a0 is now named lan0")
      try InterfaceNamespace.ip("link set a1 down")
      _ = try told.wait("lan0 lost its carrier") { _, now in now.interfaces.contains { $0.name == "lan0" && !$0.isUp } }
      try InterfaceNamespace.ip("link del lan0")
      try told.waitFor("lan0 is gone")
    }
  }

  @Test("addresses and default routes, each family")
  func addresses() async throws {
    try await Self.watch { told in
      try InterfaceNamespace.ip("link add a0 type veth peer name a1")
      try InterfaceNamespace.ip("link set a1 up")
      try InterfaceNamespace.ip("link set a0 up")
      try InterfaceNamespace.ip("addr add 10.1.0.2/24 dev a0")
      try told.waitFor("a0 has the address 10.1.0.2/24")
      try InterfaceNamespace.ip("route add default via 10.1.0.1")
      _ = try told.wait("an IPv4 default route") { events, _ in
        events.contains {
          if case .defaultRouteChanged(.v4, nil, let to?) = $0 { to.gateway == IPAddress("10.1.0.1") } else { false }
        }
      }
      try InterfaceNamespace.ip("addr add 2001:db8::2/64 dev a0 nodad")
      try told.waitFor("a0 has the address 2001:db8::2/64")
      try InterfaceNamespace.ip("-6 route add default via 2001:db8::1")
      _ = try told.wait("an IPv6 default route") { _, now in now.defaultRoutes[.v6] != nil }
      try InterfaceNamespace.ip("addr del 10.1.0.2/24 dev a0")
      let texts = try told.wait("the address is gone, and the route with it") { _, now in now.defaultRoutes[.v4] == nil
      }
      #expect(texts.contains("a0 lost the address 10.1.0.2/24"))
      #expect(texts.contains("there is no IPv4 default route"))
    }
  }

  @Test("an address under duplicate address detection is told once it can be bound")
  func tentative() async throws {
    try await Self.watch { told in
      try InterfaceNamespace.ip("link add a0 type veth peer name a1")
      try InterfaceNamespace.ip("link set a1 up")
      try InterfaceNamespace.ip("link set a0 up")
      try InterfaceNamespace.ip("addr add 2001:db8::2/64 dev a0")
      _ = try told.wait("the address is proven") { events, _ in
        events.contains {
          if case .addressAdded(let address, _) = $0 {
            address.description == "2001:db8::2/64" && address.isUsable
          } else {
            false
          }
        }
      }
    }
  }

  @Test("more changes than the socket holds lose none of their outcome")
  func flood() async throws {
    // The long debounce leaves the socket unread while the changes pour in, so that it overflows.
    try await Self.watch(debounce: .milliseconds(700)) { told in
      try InterfaceNamespace.ip("link add a0 type veth peer name a1")
      let batch = (0..<5000).map { "addr add 10.\($0 / 200).\($0 % 200).1/32 dev a0" }
      try InterfaceNamespace.ip(batch: batch)
      _ = try told.wait("all the addresses") { _, now in
        now.interfaces.contains { $0.name == "a0" && $0.addresses.count == 5000 }
      }
      #expect(told.count < 20, "a flood is a few readings")
      try InterfaceNamespace.ip("link del a0")
      try told.waitFor("a0 is gone")
    }
  }
}
