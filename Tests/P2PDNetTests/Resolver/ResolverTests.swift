import Foundation
import NIOCore
import NIOEmbedded
import Synchronization
import Testing

@testable import P2PDNet

/// Answers from a table; names that begin with "stuck" answer when the test opens the gate.
private final class FakeNames: NameSource {
  private let table: [String: [IPAddress]]
  private let asked = Mutex<[String]>([])
  private let gate = NSCondition()
  nonisolated(unsafe) private var isOpen = false  // guarded by gate

  init(_ table: [String: [IPAddress]] = [:]) { self.table = table }
  deinit { open() }

  var questions: [String] { asked.withLock { $0 } }

  func open() {
    gate.withLock {
      isOpen = true
      gate.broadcast()
    }
  }

  func addresses(of name: String, _ families: [AddressFamily]) throws(NetError) -> [IPAddress] {
    asked.withLock { $0.append(name) }
    if name.hasPrefix("stuck") {
      gate.withLock { while !isOpen { gate.wait() } }
    }
    guard let found = table[name] else { throw NetError(.dns, "look up \(name)", cause: "Name or service not known") }
    return found
  }
}

@Suite("Names to addresses", .timeLimit(.minutes(1)))
struct ResolverTests {
  private let loop: any EventLoop = sharedLoop
  private let a4 = ip("192.0.2.1")
  private let a6 = ip("2001:db8::1")

  private func code(_ work: () async throws -> [IPAddress]) async -> NetError.Code? {
    do {
      _ = try await work()
      return nil
    } catch { return (error as? NetError)?.code }
  }

  @Test("addresses and localhost are answered at once, without a question")
  func literals() throws {
    let names = FakeNames()
    let resolver = Resolver(names)
    let loop = EmbeddedEventLoop()
    #expect(try resolver.resolve("192.0.2.1", on: loop).wait() == [a4])
    #expect(try resolver.resolve("[2001:db8::1]", on: loop).wait() == [a6])
    #expect(try resolver.resolve("localhost", on: loop).wait() == [.loopback(.v6), .loopback(.v4)])
    #expect(try resolver.resolve("localhost", families: [.v4], on: loop).wait() == [.loopback(.v4)])
    let wrong = #expect(throws: NetError.self) { try resolver.resolve("192.0.2.1", families: [.v6], on: loop).wait() }
    #expect(wrong?.code == .badAddress)
    #expect(#expect(throws: NetError.self) { try resolver.resolve("a b", on: loop).wait() }?.code == .badAddress)
    #expect(
      #expect(throws: NetError.self) { try resolver.resolve("a.example", families: [], on: loop).wait() }?.code
        == .badAddress)
    #expect(names.questions == [])
  }

  @Test("a name's addresses, each once, of the families asked for, and not too many")
  func answers() async throws {
    let many = (0..<100).map { IPAddress(family: .v6, high: 0x2001_0db8 << 32, low: $0) }
    let resolver = Resolver(FakeNames(["a.example": [a6, a4, a6], "many.example": many, "six.example": [a6]]))
    #expect(try await resolver.resolve("A.example", on: loop).get() == [a6, a4])
    #expect(try await resolver.resolve("a.example", families: [.v4], on: loop).get() == [a4])
    #expect(try await resolver.resolve("many.example", on: loop).get().count == Resolver.mostAddresses)
    #expect(await code { try await resolver.resolve("six.example", families: [.v4], on: loop).get() } == .dns)
    #expect(await code { try await resolver.resolve("none.example", on: loop).get() } == .dns)
  }

  @Test("a lookup that does not answer ends by its time limit, and the next question for the name joins it")
  func timeout() async throws {
    let names = FakeNames(["stuck.example": [a4]])
    let resolver = Resolver(names)
    #expect(
      await code { try await resolver.resolve("stuck.example", timeout: .milliseconds(20), on: loop).get() } == .timeout
    )
    let second = resolver.resolve("stuck.example", timeout: .seconds(30), on: loop)
    names.open()
    #expect(try await second.get() == [a4])
    #expect(names.questions == ["stuck.example"])
    #expect(try await resolver.resolve("stuck.example", on: loop).get() == [a4])
    #expect(names.questions.count == 2, "answers are not kept")
  }

  @Test("one caller's time limit does not end another's wait for the same name")
  func sharedLookup() async throws {
    let names = FakeNames(["stuck.example": [a4]])
    let resolver = Resolver(names)
    let patient = resolver.resolve("stuck.example", timeout: .seconds(30), on: loop)
    #expect(
      await code { try await resolver.resolve("stuck.example", timeout: .milliseconds(20), on: loop).get() } == .timeout
    )
    names.open()
    #expect(try await patient.get() == [a4])
    #expect(names.questions.count == 1)
  }

  @Test("too many lookups are refused, and the refusal names the host")
  func refused() async throws {
    let names = FakeNames(["stuck1": [a4], "stuck2": [a4], "good.example": [a4]])
    let resolver = Resolver(names, bounds: Bounds(running: 2, line: 1, stuck: 2))
    let places = ["stuck1", "stuck2", "good.example"].map { resolver.resolve($0, timeout: .seconds(30), on: loop) }
    let error = await #expect(throws: NetError.self) {
      try await resolver.resolve("other.example", timeout: .seconds(30), on: loop).get()
    }
    #expect(error?.code == .limit)
    #expect(error?.what.contains("other.example") == true)
    names.open()
    for place in places { #expect(try await place.get() == [a4]) }
  }

  @Test("names that are stuck do not hold up others once they are given up, as far as the threads go")
  func stuck() async throws {
    let names = FakeNames(["good.example": [a4], "stuck1": [a4], "stuck2": [a4], "stuck3": [a4]])
    let resolver = Resolver(names, bounds: Bounds(running: 1, line: 9, stuck: 2))
    for name in ["stuck1", "stuck2"] {
      #expect(await code { try await resolver.resolve(name, timeout: .milliseconds(50), on: loop).get() } == .timeout)
      #expect(try await resolver.resolve("good.example", timeout: .seconds(30), on: loop).get() == [a4])
    }
    // The third takes the last thread: what waits in line waits no longer than its own time limit.
    #expect(await code { try await resolver.resolve("stuck3", timeout: .seconds(1), on: loop).get() } == .timeout)
    #expect(
      await code { try await resolver.resolve("good.example", timeout: .milliseconds(20), on: loop).get() } == .timeout)
    let last = resolver.resolve("good.example", timeout: .seconds(30), on: loop)
    names.open()
    #expect(try await last.get() == [a4])
  }

  @Test("the system's resolver: its addresses, and its own words where it fails")
  func system() throws {
    // Numbers need no network, which makes them the one question every host answers alike.
    #expect(try SystemNames().addresses(of: "192.0.2.1", [.v4, .v6]) == [a4])
    #expect(try SystemNames().addresses(of: "2001:db8::1", [.v6]) == [a6])
    let error = #expect(throws: NetError.self) { try SystemNames().addresses(of: "192.0.2.1", [.v6]) }
    #expect(error?.code == .dns)
    #expect(error?.cause.isEmpty == false)
  }
}
