import Glibc
import Logging
import NIOCore
import P2PDNames
import P2PDNet
import P2PDTraversal
import Testing

@testable import P2PDNode

/// Nodes with names, on simulated hosts.
@Suite struct NameTests {
  @Test("a node takes a name, others connect by it, and the first key keeps it")
  func nickname() async throws {
    try await SignalWorld.run { world in
      let table = NameTable()
      let one = try await world.node("one") { $0.names.table = table }
      let two = try await world.node("two") { $0.names.table = table }
      #expect(try await one.nickname("Example").get() == "example.peer")
      #expect(try await one.nickname("example.peer").get() == "example.peer", "twice is once")
      #expect(one.nicknames.map { "\($0.name)" } == ["example.peer"])
      let pipe = try await two.connect(name: "example.peer")
      #expect(pipe.peerKey == one.identity.key.bytes)
      await #expect { try await two.nickname("example").get() } throws: { ($0 as? NetError)?.code == .taken }
      #expect(two.nicknames.isEmpty, "what was refused leaves nothing behind")
      await #expect { try await two.deleteName("example").get() } throws: { ($0 as? NetError)?.code == .taken }
      await #expect { try await two.connect(name: "nobody.peer") } throws: { ($0 as? NetError)?.code == .notFound }
      await #expect { try await two.connect(name: "ex ample.peer") } throws: { ($0 as? NetError)?.code == .badName }
      let report = try await two.lookup("example.peer", all: true).get()
      #expect(try report.result.get().source == .servers)
      #expect(report.findings.map(\.source) == [.file, .lan, .servers])

      // Another node gets the name: who has used it is told, and not connected.
      try await one.deleteName("example").get()
      await #expect { try await two.lookup("example.peer").get().result.get() } throws: {
        ($0 as? NetError)?.code == .notFound
      }
      let three = try await world.node("three") { $0.names.table = table }
      #expect(try await three.nickname("example").get() == "example.peer")
      await #expect { try await two.connect(name: "example.peer") } throws: { error in
        let error = error as? NetError
        return error?.code == .keyChanged && error?.cause.contains(one.id) == true
          && error?.cause.contains(three.id) == true
      }
      // A key of one run gives its names up at its end.
      await three.close(flush: .zero)
      #expect(try await one.nickname("example").get() == "example.peer")
      for node in [one, two] { await node.close(flush: .zero) }
      await #expect { try await two.nickname("late").get() } throws: { ($0 as? NetError)?.code == .closed }
    }
  }

  @Test("without servers: why not, and how")
  func unconfigured() async throws {
    try await SignalWorld.run { world in
      let one = try await world.node("one")
      for name in ["example", "example.peer", "example.home"] {
        await #expect("\(name)") { try await one.nickname(name).get() } throws: { error in
          let error = error as? NetError
          return error?.code == .unsupported && error?.remedy.contains("P2PD_NAMES") == true
        }
      }
      await #expect { try await one.connect(name: "example.peer") } throws: { error in
        let error = error as? NetError
        return error?.code == .notFound && error?.remedy.contains("docs/names.md") == true
      }
      await #expect { try await one.nickname("a.b.peer").get() } throws: { ($0 as? NetError)?.code == .badName }
      await one.close(flush: .zero)
    }
  }

  @Test("a node that has moved is found by the address it had: it is asked for its present one")
  func moved() async throws {
    try await withTemporaryFolder { folder in
      try await SignalWorld.run { world in
        let host = world.net.addHost("one")
        func start() async throws -> Node {
          let node = try await world.node(on: host) { ($0.ephemeral, $0.stateDirectory) = (false, folder + "/state") }
          try await node.settled().get()
          return node
        }
        let before = try await start()
        try write("friend \(before.address)\n", to: folder + "/names")
        await before.close(flush: .zero)
        try await world.wait(.seconds(200))
        let now = try await start()
        #expect(now.id == before.id && now.port != before.port)
        let two = try await world.node("two") { $0.names.file = folder + "/names" }
        try await two.settled().get()
        let began = world.net.time.now
        // Directly: the race over brokers would get there by itself.
        let pipe = try await two.connect(name: "friend", strategies: [.direct])
        #expect(pipe.peerKey == now.identity.key.bytes && pipe.peer?.endpoint?.port == now.port)
        #expect(world.net.time.now - began < .seconds(2))
        await two.close(flush: .zero)
        await now.close(flush: .zero)
      }
    }
  }

  @Test("the names file decides, a key in it is a pin, and what is wrong with it is told")
  func file() async throws {
    try await withTemporaryFolder { folder in
      try await SignalWorld.run { world in
        let table = NameTable()
        let one = try await world.node("one") { $0.names.table = table }
        let two = try await world.node("two") { ($0.names.table, $0.names.file) = (table, folder + "/names") }
        _ = try await one.nickname("example").get()
        try write("example.peer \(one.id)\n", to: folder + "/names")
        #expect(try await two.connect(name: "example.peer").isOpen)
        // Read anew when it changed.
        try write("example.peer \(two.id)\n", to: folder + "/names")
        await #expect { try await two.connect(name: "example.peer") } throws: { error in
          let error = error as? NetError
          return error?.code == .keyChanged && error?.cause.contains("\(folder)/names:1") == true
        }
        try write("# mine\nexample.peer\n", to: folder + "/names")
        await #expect { try await two.connect(name: "example.peer") } throws: { error in
          (error as? NetError)?.what.contains("\(folder)/names:2") == true
        }
        for node in [one, two] { await node.close(flush: .zero) }
      }
    }
  }

  @Test("keys are remembered on the disk, by several at once, closed to others; a damaged file is no empty one")
  func book() async throws {
    try await withTemporaryFolder { folder in
      let book = NameBook(file: nil, pinFolder: folder + "/deep/er")
      let name = try PeerName("example.peer")
      let (a, b) = (Identity.ephemeral().key.bytes, Identity.ephemeral().key.bytes)
      #expect(try book.pins() == KnownNames())
      #expect(try !book.forget(name))
      #expect(try book.pin(name, a) == a)
      #expect(try book.pin(name, b) == a)
      // Each of many hands writes its own, and none is lost.
      try await withThrowingTaskGroup(of: Void.self) { group in
        for part in 0..<4 {
          group.addTask {
            for index in 0..<10 {
              let other = NameBook(file: nil, pinFolder: folder + "/deep/er")
              _ = try other.pin(PeerName("n\(part)-\(index).peer"), b)
            }
          }
        }
        try await group.waitForAll()
      }
      #expect(try book.pins().keys.count == 41)
      var status = stat()
      let path = folder + "/deep/er/" + NameBook.pinFile
      #expect(stat(path, &status) == 0 && status.st_mode & 0o777 == 0o600)
      #expect(try book.forget(name))
      #expect(try !book.forget(name))
      #expect(try book.pins()[name] == nil)
      try write("example.peer nonsense\n", to: folder + "/deep/er/" + NameBook.pinFile)
      #expect { try book.pins() } throws: { ($0 as? NetError)?.what.contains("\(NameBook.pinFile):1") == true }
    }
  }

  @Test("a disk that takes nothing is a warning; the name is used all the same")
  func full() async throws {
    try await SignalWorld.run { world in
      let table = NameTable()
      let one = try await world.node("one") { $0.names.table = table }
      let two = try await world.node("two") { ($0.names.table, $0.names.pinFolder) = (table, "/proc/p2pd-none") }
      _ = try await one.nickname("example").get()
      #expect(try await two.connect(name: "example.peer").isOpen)
      for node in [one, two] { await node.close(flush: .zero) }
    }
  }
}

private func write(_ text: String, to path: String) throws {
  guard let file = fopen(path, "w") else { throw NetError(errno: errno, "write \(path)") }
  fputs(text, file)
  fclose(file)
}
