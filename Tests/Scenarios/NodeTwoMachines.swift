import Foundation
import Glibc
import Logging
import NIOCore
import P2PDNet
import P2PDNode

/// Two machines and a cable, for one test: two network namespaces, each with an event loop in it, and a veth pair
/// between them.
final class TwoMachines: @unchecked Sendable {
  struct Machine: Sendable {
    let loop: KernelLoop
    /// Runs a program on the machine, waits for its end, and answers what it said.
    let tool: @Sendable (_ path: String, _ words: [String]) throws -> String

    /// Runs ip(8) on the machine.
    func ip(_ words: String) throws {
      _ = try tool(InterfaceNamespace.find("ip") ?? "ip", words.split(separator: " ").map(String.init))
    }

    func node(_ change: (inout NodeConfiguration) -> Void = { _ in }) async throws -> Node {
      var configuration = NodeConfiguration()
      configuration.ephemeral = true
      change(&configuration)
      return try await Node.start(
        configuration, on: loop, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }
  }

  /// `left` and `right` are the addresses of the two ends of the cable, as `ip addr add` takes them. IPv6 addresses
  /// are usable at once.
  static func run(
    left: [String], right: [String], _ body: @escaping @Sendable (Machine, Machine) async throws -> Void
  ) async throws {
    let near = Hands()
    let far = Hands()
    async let nearEnd: Void = InterfaceNamespace.run { near.work() }
    async let farEnd: Void = InterfaceNamespace.run { far.work() }
    let farThread = try await far.ask { try threadID() }
    let result: Result<Void, any Error>
    do {
      // Names differ, since a link is looked for by name while both ends are in one place.
      try await near.ask {
        try InterfaceNamespace.ip("link add cable0 type veth peer name cable1")
        try InterfaceNamespace.ip("link set cable1 netns \(farThread)")
      }
      try await near.ask { try furnish("cable0", left) }
      try await far.ask { try furnish("cable1", right) }
      try await near.ask { try waitForCarrier("cable0") }
      try await far.ask { try waitForCarrier("cable1") }
      let machines = (try await near.machine(), try await far.machine())
      do {
        try await body(machines.0, machines.1)
        result = .success(())
      } catch {
        result = .failure(error)
      }
      try await machines.0.loop.shutdownGracefully()
      try await machines.1.loop.shutdownGracefully()
    } catch {
      near.rest()
      far.rest()
      throw error
    }
    near.rest()
    far.rest()
    _ = try await (nearEnd, farEnd)
    try result.get()
  }

  /// The kernel's number of the calling thread.
  private static func threadID() throws -> String {
    let link = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/thread-self")
    return link.split(separator: "/").last.map(String.init) ?? ""
  }

  private static func furnish(_ link: String, _ addresses: [String]) throws {
    // Link-local addresses come with the link; nothing here has to be proven unique first.
    try? "0".write(toFile: "/proc/sys/net/ipv6/conf/\(link)/accept_dad", atomically: false, encoding: .utf8)
    for address in addresses {
      try InterfaceNamespace.ip("addr add \(address) dev \(link)\(address.contains(":") ? " nodad" : "")")
    }
    try InterfaceNamespace.ip("link set \(link) up")
  }

  /// The kernel tells of a carrier a moment after both ends are up, and a node offers no address of a link without one.
  private static func waitForCarrier(_ link: String) throws {
    let patience = ContinuousClock.now + .seconds(10)
    while try !NetworkInterface.named(link).isUp, ContinuousClock.now < patience { usleep(1000) }
  }

  /// A thread that stays in its namespace and does there what it is asked to.
  private final class Hands: @unchecked Sendable {  // guarded by its condition
    private let condition = NSCondition()
    private var jobs: [() -> Void] = []
    private var isOver = false

    func work() {
      while true {
        condition.lock()
        while jobs.isEmpty, !isOver { condition.wait() }
        let job = jobs.isEmpty ? nil : jobs.removeFirst()
        condition.unlock()
        guard let job else { return }
        job()
      }
    }

    func rest() {
      condition.withLock {
        isOver = true
        condition.broadcast()
      }
    }

    @discardableResult
    func ask<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
      try await withCheckedThrowingContinuation { continuation in
        condition.withLock {
          jobs.append { continuation.resume(with: Result(catching: body)) }
          condition.broadcast()
        }
      }
    }

    /// The loop's thread is made by this one, so it lives in the same namespace.
    func machine() async throws -> Machine {
      Machine(loop: try await ask { try KernelLoop.start(name: "machine") }) { path, words in
        let done = DispatchSemaphore(value: 0)
        // Written before the signal, read after it.
        nonisolated(unsafe) var result: Result<String, any Error> = .success("")
        self.condition.withLock {
          self.jobs.append {
            result = Result { try InterfaceNamespace.tool(path, words) }
            done.signal()
          }
          self.condition.broadcast()
        }
        done.wait()
        return try result.get()
      }
    }
  }
}
