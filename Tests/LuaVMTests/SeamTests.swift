import Foundation
import Testing

/// No Swift module may reach Lua itself: a longjmp would then be able to cross a Swift frame.
@Suite struct SeamTests {
  static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  @Test func thePublicHeaderNamesNoLuaType() throws {
    let folder = Self.root.appendingPathComponent("CLua/include")
    let headers = try FileManager.default.contentsOfDirectory(atPath: folder.path).filter { $0.hasSuffix(".h") }
    #expect(headers == ["clua.h"])
    let text = try String(contentsOf: folder.appendingPathComponent("clua.h"), encoding: .utf8)
    #expect(!text.contains("lua_State"))
    for line in text.split(separator: "\n") where line.hasPrefix("#include") {
      #expect(["<stdbool.h>", "<stddef.h>", "<stdint.h>"].contains { line.hasSuffix($0) }, "\(line)")
    }
  }

  @Test func swiftSourcesNameNoLuaFunction() throws {
    var files = 0
    let sources = Self.root.appendingPathComponent("Sources")
    let all = FileManager.default.enumerator(atPath: sources.path)
    while let name = all?.nextObject() as? String {
      guard name.hasSuffix(".swift") || name.hasSuffix(".h") else { continue }
      files += 1
      let text = try String(contentsOf: sources.appendingPathComponent(name), encoding: .utf8)
      #expect(text.firstMatch(of: /\blua\.h|lauxlib|lualib\.h/) == nil, "\(name)")
      #expect(text.firstMatch(of: /\blua(L)?_[a-z]+\(/) == nil, "\(name)")
      let room = name.split(separator: "/").first
      if room != "LuaVM" { #expect(text.firstMatch(of: /import\s+CLua\b/) == nil, "\(name)") }
    }
    #expect(files > 5)
  }

  /// What the compiled Swift modules import, where the build folder is at hand.
  @Test func swiftObjectsImportNoLuaSymbol() throws {
    let build = Self.root.appendingPathComponent(".build/debug")
    var looked = 0
    for module in ["LuaVM", "P2PDScript"] {
      let folder = build.appendingPathComponent("\(module).build")
      let objects = ((try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []).filter {
        $0.hasSuffix(".o")
      }
      for object in objects {
        guard let symbols = undefinedSymbols(folder.appendingPathComponent(object)) else { continue }
        looked += 1
        let bad = symbols.filter { $0.hasPrefix("lua_") || $0.hasPrefix("luaL_") }
        #expect(bad.isEmpty, "\(module)/\(object): \(bad)")
      }
    }
    if !FileManager.default.isExecutableFile(atPath: "/usr/bin/nm") { return }
    #expect(looked > 0, "no object files found below \(build.path)")
  }

  private func undefinedSymbols(_ object: URL) -> [String]? {
    let process = Process(), pipe = Pipe()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/nm")
    process.arguments = ["-u", object.path]
    process.standardOutput = pipe
    guard (try? process.run()) != nil else { return nil }
    let data = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return String(decoding: data, as: UTF8.self).split(separator: "\n").compactMap {
      $0.split(separator: " ").last.map(String.init)
    }
  }
}
