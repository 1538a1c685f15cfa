import LuaVM
import NIOCore
import P2PDNet
import Testing

@testable import P2PDScript

/// `M.drain`: pipes that are open finish on the code they have.
@Suite(.timeLimit(.minutes(1))) struct DrainTests {
  private func handler(_ name: String, drain: Bool = true) -> String {
    """
    M.drain = \(drain)
    function M.start() print("start \(name)") end
    function M.stop() print("stop \(name)") end
    function M.msg_cb(msg, tup, pipe) pipe:send("\(name) " .. msg) end
    """
  }

  @Test func threeGenerationsServeAtOnceAndEachEndsWithItsLastPipe() async throws {
    try await withHandler(handler("a"), { $0.autoRollback = false }) { bench, first in
      #expect(try await first.ask("1") == "a 1")
      // Open, but it has not said a word on this code.
      let idle = try await bench.connect()
      try await bench.reload(handler("b"))
      let second = try await bench.connect()
      #expect(try await second.ask("1") == "b 1")
      try await bench.reload(handler("c"))
      let third = try await bench.connect()
      #expect(
        try await [first.ask("2"), idle.ask("2"), second.ask("2"), third.ask("2")] == ["a 2", "a 2", "b 2", "c 2"])
      let infos = await bench.alive
      #expect(infos.map(\.phase) == [.live, .draining, .draining])
      #expect(infos.map(\.pipes) == [1, 1, 2])
      #expect(infos[2].keptAliveBy == ["2 pipes that finish on it"])
      #expect(!bench.bench.logged.text.contains("stop"))

      _ = try await first.loop.flatSubmit { first.close() }.get()
      #expect(try await idle.ask("3") == "a 3")
      _ = try await idle.loop.flatSubmit { idle.close() }.get()
      await bench.until { $0.generations[1] == nil }
      #expect(bench.bench.logged.text.contains("stop a"))
      #expect(try await second.ask("3") == "b 3")
      _ = try await second.loop.flatSubmit { second.close() }.get()
      await bench.until { $0.generations[2] == nil }
      #expect(try await third.ask("3") == "c 3")
    }
  }

  /// Without `drain` the pipes of today follow, those that drain do not.
  @Test func aLaterGenerationWithoutDrainTakesTheRest() async throws {
    try await withHandler(handler("a"), { $0.autoRollback = false }) { bench, first in
      #expect(try await first.ask("1") == "a 1")
      try await bench.reload(handler("b"))
      let second = try await bench.connect()
      #expect(try await second.ask("1") == "b 1")
      try await bench.reload(handler("c", drain: false))
      #expect(try await first.ask("2") == "a 2")
      #expect(try await second.ask("2") == "c 2")
    }
  }

  @Test func aRollbackTakesDrainingPipesBack() async throws {
    try await withHandler(handler("a")) { bench, first in
      #expect(try await first.ask("1") == "a 1")
      try await bench.reload(handler("b"))
      let second = try await bench.connect()
      #expect(try await second.ask("1") == "b 1")
      _ = try await bench.host.rollback("h")
      #expect(try await first.ask("2") == "a 2")
      #expect(try await second.ask("2") == "a 2")
      try await bench.reload(handler("c", drain: false))
      #expect(try await first.ask("3") == "c 3")
      #expect(try await second.ask("3") == "c 3")
    }
  }
}
