import Foundation
import Glibc
import Logging
import NIOCore
import Testing

@testable import P2PDScript

/// A temporary folder, with the steps that editors save in.
struct Folder: Sendable {
  let path: String

  init() throws {
    path = FileManager.default.temporaryDirectory.appendingPathComponent("p2pd-watch-\(UUID().uuidString)").path
    try make("")
  }

  func remove() { try? FileManager.default.removeItem(atPath: path) }
  func at(_ name: String) -> String { path + "/" + name }
  func text(_ name: String) -> String? { try? String(contentsOfFile: at(name), encoding: .utf8) }

  func make(_ name: String) throws { try check(mkdir(at(name), 0o700), name) }
  func rename(_ name: String, _ new: String) throws { try check(Glibc.rename(at(name), at(new)), name) }
  func delete(_ name: String) throws { try check(unlink(at(name)), name) }
  func link(_ target: String, _ name: String) throws { try check(symlink(target, at(name)), name) }

  /// In place: what was there is cut off, then written.
  func write(_ name: String, _ text: String) throws {
    let file = open(at(name), O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    try check(file, name)
    defer { close(file) }
    #expect(Glibc.write(file, text, text.utf8.count) == text.utf8.count)
  }

  private func check(_ result: Int32, _ name: String) throws {
    guard result >= 0 else { throw NSError(domain: "\(name): \(String(cString: strerror(errno)))", code: Int(errno)) }
  }
}

/// A watch on a loop of its own with a folder of files. What it tells comes from ``next()``.
final class WatchBench: @unchecked Sendable {
  let folder: Folder
  let logged = Bench.Lines()
  private let loop: any EventLoop = sharedLoop
  private var watch: SourceWatch?
  private var told: AsyncStream<SourceChanges>.Iterator
  private let tell: AsyncStream<SourceChanges>.Continuation
  private var sentinels = 0

  init() throws {
    folder = try Folder()
    let (stream, tell) = AsyncStream.makeStream(of: SourceChanges.self)
    (told, self.tell) = (stream.makeAsyncIterator(), tell)
  }

  /// Watches files of the folder as they are now, and comes back when they have been looked at.
  func start(
    _ names: [String], hosting folders: [String: Set<String>] = [:], plan: WatchPlan = WatchPlan(),
    calls: InotifyCalls = .kernel
  ) async throws {
    let logger = Logger(label: "test") { _ in Recorder(lines: self.logged) }
    let tell = tell
    try await loop.submit {
      self.watch = try SourceWatch(on: self.loop, logger: logger, plan: plan, calls: calls) { tell.yield($0) }
    }.get()
    try await track(names, hosting: folders)
  }

  func track(_ names: [String], hosting folders: [String: Set<String>] = [:]) async throws {
    var files = Dictionary(
      uniqueKeysWithValues: names.map { ($0, folder.text($0).map { ContentHash(of: Array($0.utf8)) }) })
    // One that is known as something else, so that the next look has something to tell.
    sentinels += 1
    try folder.write("sentinel", "\(sentinels)")
    files["sentinel"] = .some(nil)
    let tracked = Dictionary(uniqueKeysWithValues: files.map { (folder.at($0.key), $0.value) })
    let hosted = Dictionary(
      uniqueKeysWithValues: folders.map { entry in (folder.at(entry.key), Set(entry.value.map { "\(entry.key)/\($0)" }))
      })
    try await loop.submit { self.watch?.track(tracked, folders: hosted) }.get()
    #expect(try await next() == SourceChanges(files: ["sentinel"]))
  }

  /// What is told next, with the folder taken off the paths.
  func next() async throws -> SourceChanges {
    // nil: the test's time is over.
    guard let changes = await told.next(isolation: nil) else { throw CancellationError() }
    let short = { (paths: Set<String>) in Set(paths.map { String($0.dropFirst(self.folder.path.count + 1)) }) }
    return SourceChanges(files: short(changes.files), added: short(changes.added), removed: short(changes.removed))
  }

  /// Everything that is told of what was done up to now.
  func all() async throws -> [SourceChanges] {
    sentinels += 1
    try folder.write("sentinel", "\(sentinels)")
    var list: [SourceChanges] = []
    while true {
      var changes = try await next()
      let isLast = changes.files.remove("sentinel") != nil
      if !changes.isEmpty { list.append(changes) }
      if isLast { return list }
    }
  }

  func end() async throws {
    try await loop.flatSubmit { self.watch?.close() ?? self.loop.makeSucceededVoidFuture() }.get()
    folder.remove()
  }
}

func withWatch(_ body: (WatchBench) async throws -> Void) async throws {
  let bench = try WatchBench()
  do {
    try await body(bench)
  } catch {
    try await bench.end()
    throw error
  }
  try await bench.end()
}
