import NIOCore
import P2PDNet
import Testing

@testable import P2PDNames

/// The client against scripted servers, in a network of memory: the times are exact.
@Suite("Asking and telling name servers") struct NameClientTests {
  private let name: PeerName
  private let owner = NameOwner.ephemeral()
  private let thief = NameOwner.ephemeral()

  init() throws { name = try PeerName("example.peer") }

  private func record(_ sequence: UInt64, _ value: String = "here", by owner: NameOwner? = nil) throws -> NameRecord {
    try .sign(
      name: name, value: value, sequence: sequence, expires: NameWorld.wallClock + 86_400, as: owner ?? self.owner)
  }

  /// The error that comes of it.
  private func failure<T>(_ body: () async throws -> T) async -> NetError? {
    do {
      _ = try await body()
      return nil
    } catch {
      return error as? NetError
    }
  }

  @Test("push, look up, change, delete; connections are kept")
  func roundTrip() async throws {
    let world = try NameWorld()
    let (name, owner) = (name, owner)
    try await world.run {
      let client = try world.client()
      let first = try await client.push(name, value: "one", as: owner).get()
      #expect(first.sequence == 1 && first.isValid && first.expires == world.clock + NameRecord.longestLife)
      let answer = try await client.lookup(name).get()
      #expect(try answer.result.get() == first)
      let second = try await client.push(name, value: "two", as: owner, after: first.sequence).get()
      #expect(second.sequence == 2)
      // Who has forgotten its number finds it out.
      let third = try await client.push(name, value: "three", as: owner).get()
      #expect(third.sequence == 3)
      #expect(try await client.lookup(name).get().result.get().value == "three")
      let gone = try await client.delete(name, as: owner).get()
      #expect(gone.isDeleted && gone.sequence == 4)
      let after = try await client.lookup(name, waitForAll: true).get()
      guard case .failure(let error) = after.result else {
        Issue.record("it is still there")
        return
      }
      #expect(error.code == .notFound)
      let connections = world.servers.map(\.connections)
      #expect(connections.allSatisfy { $0 <= 4 })
      for _ in 0..<10 { _ = try await client.lookup(name, waitForAll: true).get() }
      #expect(world.servers.map(\.connections) == connections, "all on those there are")
      client.close()
    }
  }

  @Test("a lookup takes one round trip after the connection, and the third server is not waited for")
  func times() async throws {
    let world = try NameWorld(latency: .milliseconds(50))
    let (name, record) = (name, try record(1))
    try await world.run {
      for server in world.servers { server.records["example.peer"] = record }
      world.servers[1].way = .silent
      let client = try world.client()
      let began = world.time.now
      let answer = try await client.lookup(name).get()
      #expect(try answer.result.get() == record)
      #expect(world.time.now - began < .milliseconds(250))
      #expect(answer.replies.map(\.server.host) == ["server0", "server1", "server2"])
      guard case .pending = answer.replies[1].word else {
        Issue.record("it spoke")
        return
      }
      let again = world.time.now
      _ = try await client.lookup(name).get()
      #expect(world.time.now - again == .milliseconds(100), "a kept connection costs one round trip")
      // Asked for all, the silent one's time runs out.
      let all = try await client.lookup(name, waitForAll: true).get()
      guard case .failed(let error) = all.replies[1].word else {
        Issue.record("it spoke")
        return
      }
      #expect(error.code == .timeout)
      #expect(all.replies[1].took == .seconds(4))
      #expect(try all.result.get() == record)
      client.close()
    }
  }

  @Test(
    "one of three that is dead, silent, lying, playing back, or no name server: names are true, pushes work",
    arguments: 0..<11, 0..<3)
  func oneBad(kind: Int, place: Int) async throws {
    let world = try NameWorld()
    let (name, owner, thief) = (name, owner, thief)
    let forged = try record(99, "elsewhere", by: thief)
    let (old, alone) = (try record(1, "old"), try PeerName("another.peer"))
    let foreign = try NameRecord.sign(
      name: alone, value: "x", sequence: 9, expires: NameWorld.wallClock + 9999, as: owner)
    let broken = try NameRecord(
      name: name, key: owner.key, sequence: 77, expires: NameWorld.wallClock + 9999, value: "evil",
      signature: old.signature)
    try await world.run {
      let client = try world.client()
      let bad = world.servers[place]
      _ = try await client.push(name, value: "old", as: owner).get()
      _ = try await client.push(name, value: "new", as: owner, after: 1).get()
      switch kind {
      case 0: bad.stop()
      case 1: bad.host.hasVanished = true
      case 2: bad.way = .silent
      case 3: bad.way = .liar(forged)
      case 4: bad.way = .replayer
      case 5: bad.way = .bytes(Array("SSH-2.0-OpenSSH_9.2p1\r\n".utf8), hangsUp: false)
      case 6: bad.way = .endless
      case 7: bad.records = [:]
      case 8: bad.way = .liar(foreign)
      case 9: bad.way = .liar(broken)
      default:
        bad.way = .bytes(
          Array("HTTP/1.1 302 Found\r\nLocation: http://home/\r\nContent-Length: 0\r\n\r\n".utf8), hangsUp: true)
      }
      for all in [false, true] {
        #expect(try await client.lookup(name, waitForAll: all).get().result.get().value == "new")
      }
      let changed = try await client.push(name, value: "newest", as: owner, after: 2).get()
      #expect(changed.sequence >= 3)
      #expect(try await client.lookup(name).get().result.get() == changed)
      // Another's name stays another's.
      #expect(await failure { try await client.push(name, value: "mine", as: thief).get() }?.code == .taken)
      #expect(try await client.lookup(name).get().result.get() == changed)
      if kind == 7 {
        try await world.home.loop.scheduleTask(in: .seconds(1)) {}.futureResult.get()
        #expect(bad.records["example.peer"] == changed, "it was repaired")
      }
      client.close()
    }
  }

  @Test("two of three away: no quorum, with what each met; all away: unreachable")
  func away() async throws {
    let world = try NameWorld()
    let (name, owner, record) = (name, owner, try record(1))
    try await world.run {
      let client = try world.client()
      for server in world.servers { server.records["example.peer"] = record }
      world.servers[0].stop()
      world.servers[1].way = .silent
      guard case .failure(let error) = try await client.lookup(name).get().result else {
        Issue.record("found")
        return
      }
      #expect(error.code == .noQuorum)
      #expect(Set(error.attempts.map(\.code)) == [.refused, .timeout])
      world.servers[2].host.hasVanished = true
      guard case .failure(let all) = try await client.lookup(name).get().result else {
        Issue.record("found")
        return
      }
      #expect(all.code == .unreachable && all.attempts.count == 3)
      #expect(await failure { try await client.push(name, value: "x", as: owner).get() }?.code == .unreachable)
      client.close()
    }
  }

  @Test("who loses a fight takes back what it got, and the name is the winner's everywhere after the next lookup")
  func fight() async throws {
    let world = try NameWorld()
    let (name, owner, thief) = (name, owner, thief)
    let theirs = try record(1, "theirs", by: thief)
    try await world.run {
      let client = try world.client()
      for server in world.servers[..<2] { server.records["example.peer"] = theirs }
      #expect(await failure { try await client.push(name, value: "mine", as: owner).get() }?.code == .taken)
      try await world.home.loop.scheduleTask(in: .seconds(1)) {}.futureResult.get()
      #expect(world.servers[2].records["example.peer"]?.isDeleted == true)
      _ = try await client.lookup(name, waitForAll: true).get()
      try await world.home.loop.scheduleTask(in: .seconds(1)) {}.futureResult.get()
      #expect(world.servers[2].records["example.peer"] == theirs)
      client.close()
    }
  }

  @Test("a connection that the server closed meanwhile costs nothing but another")
  func keptAndClosed() async throws {
    let world = try NameWorld(servers: 1)
    let (name, record) = (name, try record(1))
    try await world.run {
      let client = try world.client()
      world.servers[0].records["example.peer"] = record
      world.servers[0].way = .hangsUp
      for _ in 0..<5 {
        #expect(try await client.lookup(name).get().result.get() == record)
      }
      // An idle one is given up in the end.
      world.servers[0].way = .honest
      _ = try await client.lookup(name).get()
      try await world.home.loop.scheduleTask(in: .seconds(40)) {}.futureResult.get()
      #expect(world.home.open.streams == 0)
      client.close()
    }
  }

  @Test("garbage in every shape is one server's failure")
  func garbage() async throws {
    let shapes = [
      "", "\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
      "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n{",
      "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{",
      "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nnginx", "HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n",
      "HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{\"name\":\"a.peer\"",
      "HTTP/1.1 404 X\r\nContent-Length: 36\r\n\r\n{\"error\":{\"code\":7,\"message\":[1,2,3]}}",
    ]
    for (index, shape) in shapes.enumerated() {
      let world = try NameWorld(servers: 1)
      let name = name
      try await world.run {
        let client = try world.client()
        world.servers[0].way = .bytes(Array(shape.utf8), hangsUp: true)
        let answer = try await client.lookup(name).get()
        guard case .failed = answer.replies[0].word, case .failure(let error) = answer.result else {
          Issue.record("\(index) was taken for an answer")
          return
        }
        #expect(error.code == .unreachable)
        client.close()
      }
    }
  }

  @Test("what cannot be asked at all")
  func misuse() async throws {
    let world = try NameWorld(servers: 1)
    let (name, owner) = (name, owner)
    try await world.run {
      let client = try world.client()
      let other = try PeerName("example.elsewhere")
      #expect(await failure { try await client.lookup(other).get() }?.code == .badName)
      #expect(await failure { try await client.lookup(PeerName("a.b.peer")).get() }?.code == .badName)
      #expect(await failure { try await client.push(name, value: "", as: owner).get() }?.code == .badRecord)
      let long = String(repeating: "x", count: 1025)
      #expect(await failure { try await client.push(name, value: long, as: owner).get() }?.code == .tooLarge)
      #expect(await failure { try await client.delete(name, as: owner).get() }?.code == .notFound)
      world.servers[0].way = .full
      #expect(await failure { try await client.push(name, value: "x", as: owner).get() }?.code == .limit)
      world.servers[0].way = .silent
      // 64 at once, the next is refused; closing fails them all.
      let many = (0..<70).map { _ in client.lookup(name) }
      for late in many.suffix(6) { #expect(await failure { try await late.get() }?.code == .limit) }
      client.close()
      client.close()
      for early in many.prefix(64) { #expect(await failure { try await early.get() }?.code == .closed) }
      #expect(await failure { try await client.lookup(name).get() }?.code == .closed)
    }
  }

  @Test("many names at once share a few connections")
  func many() async throws {
    let world = try NameWorld(servers: 1)
    let owner = owner
    try await world.run {
      let client = try world.client()
      let names = try (0..<50).map { try PeerName("n\($0).peer") }
      let pushes = names.map { client.push($0, value: "v", as: owner) }
      for push in pushes { _ = try await push.get() }
      let lookups = names.map { client.lookup($0) }
      for (name, lookup) in zip(names, lookups) { #expect(try await lookup.get().result.get().name == name) }
      #expect(world.servers[0].connections <= 4)
      client.close()
    }
  }

  @Test("a name of other letters travels percent-encoded")
  func letters() async throws {
    let world = try NameWorld(servers: 1)
    let (name, owner) = (try PeerName("Привет", tld: "peer"), owner)
    try await world.run {
      let client = try world.client()
      _ = try await client.push(name, value: "v", as: owner).get()
      #expect(world.servers[0].requests == ["PUT /v1/names/%D0%BF%D1%80%D0%B8%D0%B2%D0%B5%D1%82.peer"])
      client.close()
    }
  }
}
