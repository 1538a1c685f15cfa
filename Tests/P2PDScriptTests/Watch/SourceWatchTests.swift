import Foundation
import Glibc
import NIOCore
import Testing

@testable import P2PDScript

/// Real files, the kernel's own events.
@Suite("A source watch", .timeLimit(.minutes(1)))
struct SourceWatchTests {
  /// Each takes the folder from `x.lua` with "old" to `x.lua` with "new" in an editor's way.
  private static let ways: [(name: String, save: @Sendable (Folder) throws -> Void)] = [
    ("in place", { try $0.write("x.lua", "new") }),
    (
      "in place, in small pieces",
      { folder in
        let file = open(folder.at("x.lua"), O_WRONLY | O_TRUNC)
        defer { close(file) }
        for letter in ["n", "e", "w"] { write(file, letter, 1) }
      }
    ),
    (
      "written beside and renamed over",
      { folder in
        try folder.write(".x.lua.tmp", "new")
        try folder.rename(".x.lua.tmp", "x.lua")
      }
    ),
    (
      "vim with a backup",
      { folder in
        try folder.write("4913", "")
        try folder.delete("4913")
        try folder.rename("x.lua", "x.lua~")
        try folder.write("x.lua", "new")
        try folder.delete("x.lua~")
      }
    ),
    (
      "emacs with a lock link",
      { folder in
        try folder.link("me@here.1", ".#x.lua")
        try folder.rename("x.lua", "x.lua~")
        try folder.write("x.lua", "new")
        try folder.delete(".#x.lua")
      }
    ),
    (
      "git",
      { folder in
        try folder.delete("x.lua")
        try folder.write("x.lua", "new")
      }
    ),
    (
      "a link in its place",
      { folder in
        try folder.write("new.lua", "new")
        try folder.link("new.lua", "tmp")
        try folder.rename("tmp", "x.lua")
      }
    ),
  ]

  @Test("each editor's way of saving is one change, and the next save is seen too", arguments: ways.map(\.name))
  func editors(_ name: String) async throws {
    let way = try #require(Self.ways.first { $0.name == name })
    try await withWatch { bench in
      try bench.folder.write("x.lua", "old")
      try await bench.start(["x.lua"])
      try way.save(bench.folder)
      #expect(try await bench.next() == SourceChanges(files: ["x.lua"]))
      #expect(bench.folder.text("x.lua") == "new")
      try bench.folder.write("x.lua", "newer")
      #expect(try await bench.next() == SourceChanges(files: ["x.lua"]))
    }
  }

  @Test("touched, saved with the same content, its neighbours changed: nothing is told")
  func noChange() async throws {
    try await withWatch { bench in
      try bench.folder.write("x.lua", "old")
      try await bench.start(["x.lua"])
      utimes(bench.folder.at("x.lua"), nil)
      try bench.folder.write("x.lua", "old")
      try bench.folder.write("tmp", "old")
      try bench.folder.rename("tmp", "x.lua")
      try bench.folder.write("y.lua", "other")
      #expect(try await bench.all() == [])
    }
  }

  @Test("a hundred saves in a second are told a few times, and the last one is")
  func manySaves() async throws {
    try await withWatch { bench in
      try bench.folder.write("x.lua", "old")
      try await bench.start(["x.lua"])
      let clock = ContinuousClock()
      let began = clock.now
      var (last, pauses) = (began, 0)
      for number in 1...100 {
        try bench.folder.write("tmp", "save \(number)")
        try bench.folder.rename("tmp", "x.lua")
        try await clock.sleep(until: began + .milliseconds(10 * number))  // the pace of the saves
        // A machine that stalls makes pauses long enough to be told.
        if clock.now - last > .milliseconds(80) { pauses += 1 }
        last = clock.now
      }
      let seconds = Int((clock.now - began) / .seconds(1))
      let told = try await bench.all()
      #expect(told.allSatisfy { $0 == SourceChanges(files: ["x.lua"]) })
      #expect(
        told.count >= 1 && told.count <= 2 + seconds + pauses, "\(told.count) times, \(pauses) pauses, \(seconds) s")
      try bench.folder.write("x.lua", "save 100")
      #expect(try await bench.all() == [], "the last content is the one known")
    }
  }

  @Test("a link two steps away is pointed elsewhere")
  func linkSwap() async throws {
    try await withWatch { bench in
      let folder = bench.folder
      for version in ["v1", "v2"] {
        try folder.make(version)
        try folder.write("\(version)/x.lua", version)
      }
      try folder.make("releases")
      try folder.link("../v1", "releases/live")
      try folder.link("releases/live", "current")
      try await bench.start(["current/x.lua"])
      try folder.link("../v2", "releases/tmp")
      try folder.rename("releases/tmp", "releases/live")
      #expect(try await bench.next() == SourceChanges(files: ["current/x.lua"]))
      try folder.write("v1/x.lua", "nobody looks here any more")
      #expect(try await bench.all() == [])
      try folder.write("v2/x.lua", "v2, edited")
      #expect(try await bench.next() == SourceChanges(files: ["current/x.lua"]))
    }
  }

  @Test("a Kubernetes volume: ..data is swapped")
  func kubernetes() async throws {
    try await withWatch { bench in
      let folder = bench.folder
      try folder.make("..2026_1")
      try folder.write("..2026_1/x.lua", "old")
      try folder.link("..2026_1", "..data")
      try folder.link("..data/x.lua", "x.lua")
      try await bench.start(["x.lua"], hosting: ["": ["x.lua"]])
      for version in 2...3 {
        try folder.make("..2026_\(version)")
        try folder.write("..2026_\(version)/x.lua", "\(version)")
        try folder.link("..2026_\(version)", "..data_tmp")
        try folder.rename("..data_tmp", "..data")
        try folder.delete("..2026_\(version - 1)/x.lua")
        #expect(try await bench.next() == SourceChanges(files: ["x.lua"]))
      }
    }
  }

  @Test("a folder is moved away and back, removed and made anew, and replaced two levels up")
  func foldersGo() async throws {
    try await withWatch { bench in
      let folder = bench.folder
      try folder.make("app")
      try folder.make("app/sub")
      try folder.write("app/sub/x.lua", "1")
      try await bench.start(["app/sub/x.lua"], hosting: ["app/sub": ["x.lua"]])
      let change = SourceChanges(files: ["app/sub/x.lua"])

      try folder.rename("app", "away")
      #expect(try await bench.next() == change, "gone for more than a second")
      try folder.rename("away", "app")
      #expect(try await bench.next() == change, "there again")
      try folder.write("app/sub/x.lua", "2")
      #expect(try await bench.next() == change)

      try FileManager.default.removeItem(atPath: folder.at("app"))
      #expect(try await bench.next() == change)
      try folder.make("app")
      try folder.make("app/sub")
      try folder.write("app/sub/x.lua", "3")
      #expect(try await bench.next() == change)

      try folder.make("new")
      try folder.make("new/sub")
      try folder.write("new/sub/x.lua", "4")
      try folder.rename("app", "old")
      try folder.rename("new", "app")
      #expect(try await bench.next() == change)
      try folder.write("app/sub/x.lua", "5")
      #expect(try await bench.next() == change)
    }
  }

  @Test("a file that was not there appears, in folders that were not there")
  func appears() async throws {
    try await withWatch { bench in
      try await bench.start(["lib/deep/x.lua", "y.lua"])
      try bench.folder.make("lib")
      try bench.folder.make("lib/deep")
      try bench.folder.write("lib/deep/x.lua", "here")
      #expect(try await bench.next() == SourceChanges(files: ["lib/deep/x.lua"]))
      try bench.folder.write("y.lua", "here")
      #expect(try await bench.next() == SourceChanges(files: ["y.lua"]))
      try bench.folder.delete("y.lua")
      #expect(try await bench.next() == SourceChanges(files: ["y.lua"]))
    }
  }

  @Test("a file that became a folder is gone, and is there again")
  func folderInItsPlace() async throws {
    try await withWatch { bench in
      try bench.folder.write("x.lua", "old")
      try await bench.start(["x.lua"])
      try bench.folder.delete("x.lua")
      try bench.folder.make("x.lua")
      #expect(try await bench.next() == SourceChanges(files: ["x.lua"]))
      rmdir(bench.folder.at("x.lua"))
      try bench.folder.write("x.lua", "old")
      #expect(try await bench.next() == SourceChanges(files: ["x.lua"]))
    }
  }

  @Test("handler files come and go in a hosted folder; other files do not matter")
  func hosted() async throws {
    try await withWatch { bench in
      try bench.folder.make("h")
      try bench.folder.write("h/a.lua", "a")
      try await bench.start([], hosting: ["h": ["a.lua"]])
      try bench.folder.write("h/b_test.lua", "")
      try bench.folder.write("h/readme.txt", "")
      #expect(try await bench.all() == [])
      try bench.folder.write("h/b.lua", "b")
      #expect(try await bench.next() == SourceChanges(added: ["h/b.lua"]))
      try bench.folder.rename("h/b.lua", "h/c.lua")
      #expect(try await bench.next() == SourceChanges(added: ["h/c.lua"], removed: ["h/b.lua"]))
      try bench.folder.delete("h/a.lua")
      #expect(try await bench.next() == SourceChanges(removed: ["h/a.lua"]))
    }
  }

  @Test("what is no longer tracked is not told, what is tracked on keeps what was told of it")
  func retrack() async throws {
    try await withWatch { bench in
      try bench.folder.write("x.lua", "1")
      try bench.folder.write("y.lua", "1")
      try await bench.start(["x.lua"])
      try bench.folder.write("x.lua", "2")
      #expect(try await bench.next() == SourceChanges(files: ["x.lua"]))
      // Known are still the first contents, as after a save that was no good.
      try bench.folder.write("x.lua", "1")
      #expect(try await bench.next() == SourceChanges(files: ["x.lua"]))
      try await bench.track(["y.lua"])
      try bench.folder.write("x.lua", "3")
      #expect(try await bench.all() == [])
      try bench.folder.write("y.lua", "2")
      #expect(try await bench.next() == SourceChanges(files: ["y.lua"]))
    }
  }

  @Test("without inotify the files are polled, and that is said once with the reason")
  func polling() async throws {
    try await withWatch { bench in
      let folder = bench.folder
      try folder.write("x.lua", "1")
      let none = InotifyCalls(open: { 0 - ENOSYS }, add: { _, _, _ in 0 - EBADF })
      try await bench.start(["x.lua"], plan: WatchPlan(pollInterval: .milliseconds(20)), calls: none)
      for text in ["2", "3"] {
        try folder.write("x.lua", text)
        #expect(try await bench.next() == SourceChanges(files: ["x.lua"]))
      }
      try folder.delete("x.lua")
      #expect(try await bench.next() == SourceChanges(files: ["x.lua"]))
      try folder.write("x.lua", "3")
      #expect(try await bench.next() == SourceChanges(files: ["x.lua"]))
      let lines = bench.logged.all.filter { $0.contains("inotify") }
      #expect(lines.count == 1 && lines[0].contains("not available"), "\(lines)")
    }
  }

  @Test("where the watches are used up, the setting to raise is named and the rest is polled")
  func watchLimit() async throws {
    try await withWatch { bench in
      try bench.folder.make("full")
      try bench.folder.write("full/x.lua", "1")
      let kernel = InotifyCalls.kernel
      let full = InotifyCalls(
        open: kernel.open, add: { $1.hasSuffix("/full") ? 0 - ENOSPC : kernel.add($0, $1, $2) })
      try await bench.start(["full/x.lua"], plan: WatchPlan(pollInterval: .milliseconds(20)), calls: full)
      try bench.folder.write("full/x.lua", "2")
      #expect(try await bench.next() == SourceChanges(files: ["full/x.lua"]))
      let lines = bench.logged.all.filter { $0.contains("sysctl fs.inotify.max_user_watches=") }
      #expect(lines.count == 1, "\(bench.logged.all)")
    }
  }
}
