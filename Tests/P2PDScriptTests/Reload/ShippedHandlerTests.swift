import Foundation
import LuaVM
import NIOCore
import Testing

@testable import P2PDScript

/// The handlers of the project through a reload: who is there stays there, without having to speak first.
@Suite(.timeLimit(.minutes(1))) struct ShippedHandlerTests {
  private static let scripts = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("scripts")

  private func with(_ name: String, _ body: (ReloadBench, String) async throws -> Void) async throws {
    let text = try String(contentsOf: Self.scripts.appendingPathComponent("handlers/\(name).lua"), encoding: .utf8)
    try await withHandlers(
      [("\(name).lua", text)], { $0.moduleDirectories = [Self.scripts.appendingPathComponent("lib").path] }
    ) { try await body($0, text) }
  }

  @Test func chatMembersStayInTheirRooms() async throws {
    try await with("chat") { bench, text async throws in
      let ann = try await bench.connect("chat")
      _ = try await ann.hear()
      #expect(try await ann.ask("/nick ann") == "* guest1 is now ann")
      let bob = try await bench.connect("chat")
      _ = try await [bob.hear(), ann.hear()]
      #expect(try await bench.reload(text + "-- saved", "chat").result == .active)
      // Bob has not said a word since.
      #expect(try await ann.ask("hello") == "<ann> hello")
      #expect(try await bob.hear() == "<ann> hello")
      #expect(try await bob.ask("/who") == "* in #lobby: ann, guest2")
    }
  }

  @Test func kvWatchersAreStillTold() async throws {
    try await with("kv") { bench, text async throws in
      let watcher = try await bench.connect("kv")
      #expect(try await watcher.ask("WATCH col") == "OK")
      let writer = try await bench.connect("kv")
      #expect(try await writer.ask("SET colour blue") == "OK")
      #expect(try await watcher.hear() == "CHANGED colour")
      #expect(try await bench.reload(text + "-- saved", "kv").result == .active)
      #expect(try await writer.ask("SET colour green") == "OK")
      #expect(try await watcher.hear() == "CHANGED colour")
      #expect(try await watcher.ask("GET colour") == "VALUE green")
    }
  }
}
