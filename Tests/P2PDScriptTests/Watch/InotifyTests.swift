import Foundation
import Glibc
import Testing

@testable import P2PDScript

@Suite("inotify")
struct InotifyTests {
  private func number<T: FixedWidthInteger>(_ value: T) -> [UInt8] { withUnsafeBytes(of: value) { Array($0) } }

  private func event(_ watch: Int32, _ mask: UInt32, _ name: String, padding: Int = 3) -> [UInt8] {
    let text = Array(name.utf8) + [UInt8](repeating: 0, count: name.isEmpty ? 0 : padding)
    return number(watch) + number(mask) + number(UInt32(0)) + number(UInt32(text.count)) + text
  }

  private func parse(_ bytes: [UInt8]) -> [InotifyEvent] { bytes.withUnsafeBytes { InotifyCodec.events(in: $0) } }

  @Test("events as the kernel writes them")
  func events() {
    let bytes = event(1, UInt32(IN_CREATE), "a.lua") + event(2, UInt32(IN_DELETE_SELF), "") + event(-1, 0x4000, "")
    let found = parse(bytes)
    #expect(
      found == [
        InotifyEvent(watch: 1, mask: UInt32(IN_CREATE), name: "a.lua"),
        InotifyEvent(watch: 2, mask: UInt32(IN_DELETE_SELF), name: ""), InotifyEvent(watch: -1, mask: 0x4000, name: ""),
      ])
    #expect(found.map(\.isOverflow) == [false, false, true])
  }

  @Test("what is cut short, or claims to be longer than it is, ends the list and nothing else")
  func damaged() {
    let whole = event(7, UInt32(IN_MODIFY), "x.lua")
    for count in 0..<whole.count { #expect(parse(Array(whole.prefix(count))) == [], "\(count)") }
    for length in [UInt32.max, 1 << 31, 9] {
      let long =
        number(Int32(1)) + number(UInt32(2)) + number(UInt32(0)) + number(length) + [0x61, 0, 0, 0, 0, 0, 0, 0]
      #expect(parse(whole + long).count == 1)
    }
  }

  @Test("a queue that ran over is told")
  func overflow() throws {
    let folder = try Folder()
    defer { folder.remove() }
    let limit = try #require(
      Int(String(contentsOfFile: "/proc/sys/fs/inotify/max_queued_events", encoding: .utf8).filter(\.isNumber)))
    let watches = FolderWatches(.kernel)
    try folder.write("a", "x")
    #expect(watches.watch([folder.path: FolderInterest(names: ["tracked.lua"])]).isNew)
    for _ in 0...limit / 4 {  // two events each, and two that are next to each other and equal are one
      try folder.rename("a", "b")
      try folder.rename("b", "a")
    }
    var last: WatchSigns?
    while let signs = watches.read() { last = signs }
    #expect(last?.isOverflow == true)
    #expect(watches.read() == nil)
  }

  @Test("names that are not tracked are not told, the tracked ones are, and a folder's handlers")
  func names() throws {
    let folder = try Folder()
    defer { folder.remove() }
    let watches = FolderWatches(.kernel)
    _ = watches.watch([folder.path: FolderInterest(names: ["data.txt"], handlers: true)])
    for name in ["4913", "a.lua~", ".a.lua.swp", ".#a.lua", "a_test.lua", "other.txt", ".hidden.lua"] {
      try folder.write(name, "x")
      #expect(watches.read() == nil, "\(name)")
    }
    for name in ["data.txt", "a.lua"] {
      try folder.write(name, "x")
      #expect(watches.read() == WatchSigns(), "\(name)")
      try folder.delete(name)
      #expect(watches.read() == WatchSigns(), "\(name)")
    }
  }

  @Test("a file that is written to is open until it is closed")
  func writing() throws {
    let folder = try Folder()
    defer { folder.remove() }
    let watches = FolderWatches(.kernel)
    _ = watches.watch([folder.path: FolderInterest(names: ["x"])])
    let file = open(folder.path + "/x", O_WRONLY | O_CREAT, 0o600)
    #expect(watches.read()?.isWriting == false, "only made so far")
    write(file, "x", 1)
    #expect(watches.read()?.isWriting == true)
    write(file, "y", 1)
    close(file)
    #expect(watches.read()?.isWriting == false)
  }

  @Test("the kernel's limits are told with the setting to raise; a folder only passed on the way is not missed")
  func refusals() {
    func watch(_ number: Int32, _ interest: FolderInterest) -> FolderWatches.Outcome {
      let kernel = InotifyCalls.kernel
      return FolderWatches(InotifyCalls(open: kernel.open, add: { _, _, _ in 0 - number })).watch(["/x": interest])
    }
    let named = FolderInterest(names: ["a"])
    #expect(watch(ENOSPC, named).blindSpots == [.watchLimit])
    #expect(BlindSpot.watchLimit.description.contains("sysctl fs.inotify.max_user_watches="))
    #expect(watch(EACCES, named).blindSpots == [.refused("/x", EACCES)])
    #expect(watch(EACCES, FolderInterest()).blindSpots.isEmpty)
    #expect(watch(ENOENT, named).isNew, "gone meanwhile: the way is looked at again")
    let none = FolderWatches(InotifyCalls(open: { 0 - EMFILE }, add: { _, _, _ in 0 - EBADF }))
    #expect(none.watch(["/x": named]).blindSpots == [.noInotify(EMFILE)])
    #expect(BlindSpot.noInotify(EMFILE).description.contains("sysctl fs.inotify.max_user_instances="))
    #expect(none.read() == nil)
  }
}
