import Foundation
import Testing

@testable import P2PDScript

/// The table, the engine and the files made from it say the same.
@Suite struct APITableTests {
  @Test func everyNameOccursOnce() {
    var seen: Set<String> = []
    for entry in API.entries {
      #expect(seen.insert("\(entry.owner) \(entry.name)").inserted, "\(entry.fullName) is there twice")
    }
  }

  @Test func everyEntryHasAText() {
    for entry in API.entries {
      #expect(!entry.text.isEmpty, "\(entry.fullName)")
      #expect(entry.text.hasSuffix(".") || entry.kind == .constant, "\(entry.fullName): a text ends with a full stop")
      #expect(
        entry.errors.isEmpty || entry.returns.contains { $0.name == "err" }
          || entry.returns.contains { $0.text.contains("err") }
          || entry.fullName == "task:join" || entry.fullName == "p2pd.list_interfaces",
        "\(entry.fullName) has errors but gives no err")
    }
  }

  @Test func everyTypeThatIsNamedIsDescribed() {
    func names(_ type: APIType) -> [String] {
      switch type {
      case .object(let name), .options(let name): [name]
      case .either(let types): types.flatMap(names)
      default: []
      }
    }
    let known = API.classNames.union(API.options.map(\.name))
    for value in API.entries.flatMap({ $0.arguments + $0.returns }) + API.options.flatMap(\.fields) {
      for name in names(value.type) { #expect(known.contains(name), "\(name) is not described") }
    }
  }

  /// Registered but undocumented, documented but unregistered.
  @Test(.timeLimit(.minutes(1))) func theEngineHasWhatTheTableSaysAndNothingElse() async throws {
    try await withBench { bench in
      let module = try await bench.output(
        """
        local names = {}
        for name, value in pairs(p2pd) do
          if name == "log" or name == "json" or name == "names" then
            for inner in pairs(value) do names[#names + 1] = name .. "." .. inner end
          else
            names[#names + 1] = name
          end
        end
        print(table.concat(names, " "))
        """)
      let described = API.entries.filter {
        $0.owner.hasPrefix("p2pd") && !API.classNames.contains($0.owner) && $0.name != "state"
      }
      .map { String(($0.owner + "." + $0.name).dropFirst(5)) }
      let found = Set(module.split(separator: " ").map(String.init))
      #expect(found.subtracting(described) == [], "registered but not in the table")
      #expect(Set(described).subtracting(found) == [], "in the table but not registered")
    }
  }

  @Test(.timeLimit(.minutes(1))) func testFilesHaveWhatTheTableSaysAndNothingElse() async throws {
    for entry in API.testEntries {
      #expect(entry.text.hasSuffix("."), "\(entry.fullName): a text ends with a full stop")
    }
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("p2pd-api-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let path = folder.appendingPathComponent("names_test.lua").path
    let names = API.testEntries.filter { $0.owner != "lab" }.map {
      "assert(\($0.fullName) ~= nil, '\($0.fullName)')"
    }
    let source = """
      for name in pairs(require "p2pd.test") do print(name) end
      it("has the words", function()
      \(names.joined(separator: "\n"))
      end)
      """
    try source.write(toFile: path, atomically: true, encoding: .utf8)
    let printed = Bench.Lines()
    try await TestFile.run(path, options: TestOptions()) { event in
      switch event {
      case .printed(let name): printed.add(name)
      case .ended(_, let result): #expect(result.outcome == .passed, "\(result.problems)")
      case .began: break
      }
    }
    #expect(Set(printed.all) == Set(API.labEntries.map(\.name)))
  }

  @Test(.timeLimit(.minutes(1))) func theClassesHaveTheMethodsTheTableSays() async throws {
    let removers = ["del_msg_cb", "del_up_cb", "del_path_cb", "del_end_cb"]
    let registered: [String: [String]] = [
      "p2pd.pipe": (PipeMethods.methods + PipeReceive.methods).map(\.0) + ["messages"] + removers,
      "p2pd.node": NodeMethods.methods.map(\.0) + removers,
      "p2pd.daemon": DaemonMethods.methods.map(\.0) + ["del_msg_cb"],
      "p2pd.interface": InterfaceObject.methods.map(\.0), "p2pd.route": RouteObject.methods.map(\.0),
      "p2pd.stun_client": StunObject.methods.map(\.0), "p2pd.turn_client": TurnObject.methods.map(\.0),
      "p2pd.timer": TimerObject.methods.map(\.0), "p2pd.client_tup": [], "p2pd.error": [], "p2pd.subscription": [],
      "p2pd.task": ["join", "cancel", "done"], "p2pd.queue": ["put", "get", "close"],
    ]
    for known in API.classes {
      let described = API.members(of: known.name).filter { $0.kind == .method }.map(\.name)
      #expect(Set(described) == Set(registered[known.name] ?? ["?"]), "\(known.name)")
    }
  }

  @Test func theGeneratedFilesAreUpToDate() throws {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    for (path, text) in APIDocument.files {
      let url = root.appendingPathComponent(path)
      if ProcessInfo.processInfo.environment["P2PD_WRITE_API"] != nil {
        try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
        try text.write(to: url, atomically: true, encoding: .utf8)
      }
      let found = try? String(contentsOf: url, encoding: .utf8)
      let isCurrent = found == text
      #expect(isCurrent, "\(path) is out of date: run the tests with P2PD_WRITE_API=1")
    }
  }
}
