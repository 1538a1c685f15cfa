import NIOCore
import P2PDNet
import Testing

@testable import P2PDNode

@Suite struct FreshRaceTests {
  private let identity = Identity.ephemeral()
  private func address(_ ip: String, issued: UInt32 = 1) throws -> NodeAddress {
    try NodeAddress.make(
      by: identity, issued: issued,
      routes: [NodeRoute(interface: 0, nic: try #require(IPAddress(ip)), port: 7)],
      signalling: [SignalServer(host: "broker", port: 1, tls: false)])
  }
  private let timeout = NetError(.timeout, "connect", cause: "no answer")
  private let silent = NetError(.timeout, "ask", cause: "no answer in 5 s")

  @Test("an old address is dialled and asked about at once, and a newer one dialled too; the first pipe wins")
  func old() throws {
    let (stored, fresh) = (try address("10.0.0.1"), try address("10.0.0.2", issued: 9))
    var race = FreshRace(stored, age: FreshRace.old, canAsk: true)
    #expect(race.handle(.start) == [.connect(.stored, stored), .ask])
    #expect(race.handle(.tick) == [])
    #expect(race.handle(.told(.success(fresh))) == [.connect(.fresh, fresh)])
    #expect(race.handle(.connected(.fresh)) == [.cancel(.stored), .succeed(.fresh)])
    #expect(race.handle(.failed(.stored, timeout)) == [])
    #expect(race.isOver)
  }

  @Test("an address of now is asked about when it led nowhere in a second, or at all")
  func young() throws {
    let (stored, fresh) = (try address("10.0.0.1"), try address("10.0.0.2", issued: 9))
    var race = FreshRace(stored, age: 3, canAsk: true)
    #expect(race.handle(.start) == [.connect(.stored, stored), .wake(after: .seconds(1))])
    #expect(race.handle(.tick) == [.ask])
    #expect(race.handle(.connected(.stored)) == [.succeed(.stored)])
    race = FreshRace(stored, age: nil, canAsk: true)
    _ = race.handle(.start)
    #expect(race.handle(.failed(.stored, timeout)) == [.ask])
    #expect(race.handle(.told(.success(fresh))) == [.connect(.fresh, fresh)])
    #expect(race.handle(.failed(.fresh, silent)) == [.fail(silent)])
  }

  @Test("what both met is told")
  func failures() throws {
    let stored = try address("10.0.0.1")
    var race = FreshRace(stored, age: 999, canAsk: true)
    _ = race.handle(.start)
    #expect(race.handle(.failed(.stored, timeout)) == [])
    guard case .fail(let error)? = race.handle(.told(.failure(silent))).first else { throw silent }
    #expect(error.code == .timeout && error.attempts == [silent])
    // The same address again, under another date.
    race = FreshRace(stored, age: 999, canAsk: true)
    _ = race.handle(.start)
    #expect(race.handle(.told(.success(try address("10.0.0.1", issued: 7)))) == [])
    #expect(race.handle(.failed(.stored, timeout)) == [.fail(timeout)])
    race = FreshRace(stored, age: 999, canAsk: false)
    #expect(race.handle(.start) == [.connect(.stored, stored)])
    #expect(race.handle(.failed(.stored, timeout)) == [.fail(timeout)])
  }

  @Test("the right node's no ends it")
  func final() throws {
    let (stored, fresh) = (try address("10.0.0.1"), try address("10.0.0.2", issued: 9))
    var race = FreshRace(stored, age: 999, canAsk: true)
    _ = race.handle(.start)
    _ = race.handle(.told(.success(fresh)))
    let no = NetError(.noProtocol, "connect")
    #expect(race.handle(.failed(.fresh, no)) == [.cancel(.stored), .fail(no)])
  }
}
