import Logging
import NIOCore

/// What loads the scripts of a running node anew without anybody asking: a saved file that one of them is made of, and
/// handler files that come into or go from a hosted folder. One burst of saves is one reload of each protocol concerned.
public final class ReloadTriggers: @unchecked Sendable {  // confined to the host's loop
  private let host: ScriptHost
  private let folders: [String]
  private var watch: SourceWatch?
  private var changes = SourceChanges()
  /// The protocols are made of other files than are tracked, maybe.
  private var isTrackDue = true
  private var isWorking = false
  private var isClosed = false

  /// Begins to watch what the host's protocols are made of.
  /// - Parameter folders: hosted folders, as they were given to be loaded.
  /// - Throws: NetError where the system gives no thread or descriptor for it.
  public static func start(_ host: ScriptHost, folders: [String], logger: Logger) async throws -> ReloadTriggers {
    let triggers = try await host.loop.submit {
      let triggers = ReloadTriggers(host, folders)
      triggers.watch = try SourceWatch(on: host.loop, logger: logger) { [weak triggers] in triggers?.changed($0) }
      triggers.work()
      return triggers
    }.get()
    host.onReload { [weak triggers] _ in triggers?.trackLater() }
    host.onTrackedFiles { [weak triggers] in triggers?.trackLater() }
    return triggers
  }

  private init(_ host: ScriptHost, _ folders: [String]) {
    self.host = host
    self.folders = folders
  }

  /// Nothing is reloaded by itself after this. It does not wait for a look at files on a server that does not answer.
  public func close() async {
    _ = try? await host.loop.submit {
      self.isClosed = true
      self.watch?.close()
    }.get()
  }

  private func changed(_ new: SourceChanges) {
    changes.add(new)
    work()
  }

  private func trackLater() {
    isTrackDue = true
    work()
  }

  /// One thing after the other; what comes meanwhile is one batch afterwards.
  private func work() {
    guard !isWorking, !isClosed, isTrackDue || !changes.isEmpty else { return }
    isWorking = true
    let batch = changes
    changes = SourceChanges()
    Task {
      await perform(batch)
      // What is tracked is read in the same turn of the loop in which it is taken over.
      _ = try? await host.loop.submit {
        self.track()
        self.isWorking = false
        self.work()
      }.get()
    }
  }

  private func perform(_ batch: SourceChanges) async {
    // First what goes: a file that was renamed may have the same protocol name under its new one.
    for path in batch.removed.sorted() { _ = await host.removeProtocol(name: path) }
    let files = batch.files.subtracting(batch.removed).subtracting(batch.added)
    if !files.isEmpty { _ = await host.reload(using: files, trigger: "watch") }
    for path in batch.added.sorted() { _ = await host.addProtocol(path: path) }
  }

  private func track() {
    guard !isClosed, !host.isClosed else { return }
    isTrackDue = false
    var files: [String: ContentHash?] = [:]
    for contents in host.tracked.values { files.merge(contents) { $1 } }
    let paths = host.hosted.map(\.path)
    let hosted = folders.map { folder in
      let prefix = folder.hasSuffix("/") ? folder : folder + "/"
      return (folder, Set(paths.filter { $0 == prefix + ScriptFiles.fileName($0) }))
    }
    watch?.track(files, folders: Dictionary(hosted) { $1 })
  }
}
