import LuaVM
import NIOCore

/// What keeps the code of generations alive that have ended and that Lua has not collected: a look at the whole heap, so
/// only where somebody asks, a few at a time, and not for long. Others run meanwhile; the memory limit holds.
extension ScriptHost {
  /// Puts what was found in place of "Lua has not collected it yet".
  func findHolders() async {
    let done = loop.makePromise(of: Void.self)
    loop.execute { self.findHolders { done.succeed() } }
    try? await done.futureResult.get()
  }

  private func findHolders(then: @escaping () -> Void) {
    guard !isClosed, !isShuttingDown else { return then() }
    let newest = uncollected.keys.sorted(by: >).prefix(Self.mostSearches)
    HolderSearch.run(newest[...], self, until: loop.now + Self.searchTime, then)
  }

  /// A leak shows in the newest ones as it does in all.
  private static let mostSearches = 3
  private static let searchTime = TimeAmount.seconds(3)
}

/// The search for the holder of one generation.
private final class HolderSearch: TaskOwner {
  private let id: Int64
  private unowned let host: ScriptHost
  private let then: () -> Void
  private var tag: UInt64 = 0
  private var task: LuaTask = 0
  private var deadline: Scheduled<Void>?
  private var isOver = false

  private init(_ id: Int64, _ host: ScriptHost, _ then: @escaping () -> Void) {
    self.id = id
    self.host = host
    self.then = then
  }

  static func run(_ ids: ArraySlice<Int64>, _ host: ScriptHost, until end: NIODeadline, _ then: @escaping () -> Void) {
    guard let id = ids.first, !host.isClosed, host.loop.now < end else { return then() }
    let search = HolderSearch(id, host) { run(ids.dropFirst(), host, until: end, then) }
    search.deadline = host.loop.assumeIsolated().scheduleTask(deadline: end) { search.giveUp() }
    host.whenIdle { search.start() }
  }

  private func start() {
    guard !isOver, !host.isClosed, let notice = host.notices[id]?.notice else { return end(nil) }
    tag = host.register(self)
    do {
      task = try host.vm.findHolder(of: notice, tag: tag)
    } catch {
      end("what holds it cannot be found out: \(error.message)")
    }
  }

  override func taskEnded(_ task: LuaTask, result: Result<[LuaValue], LuaFailure>, late: Bool) {
    // Not from within the VM's round of ready tasks.
    host.loop.assumeIsolated().execute { self.end(Self.words(result)) }
  }

  private func giveUp() {
    if task != 0, !host.isClosed { host.vm.kill(task, reason: "the search took too long") }
    end("what holds it was not found in time")
  }

  private func end(_ words: String?) {
    guard !isOver else { return }
    isOver = true
    deadline?.cancel()
    if tag != 0 { host.unregister(tag) }
    if let words { host.uncollected[id]?.keptAliveBy = [words] }
    then()
  }

  private static func words(_ result: Result<[LuaValue], LuaFailure>) -> String {
    switch result {
    case .failure(let failure): return "what holds it cannot be found out: \(failure.message)"
    case .success(let values):
      guard case .string(let bytes)? = values.first else { return "nothing: Lua's next collection takes it" }
      return "held by \(HolderPath.readable(String(decoding: bytes, as: UTF8.self)))"
    }
  }
}

/// A path from Lua's registry as a script's author would write it.
enum HolderPath {
  static func readable(_ path: String) -> String {
    var path = path[...]
    // What leads to the environment in the end: a function's globals.
    if path.hasSuffix("^_ENV") { path = path.dropLast(5) }
    if path.hasPrefix("registry._LOADED") { return "package.loaded" + path.dropFirst(16) }
    // What the engine holds has a number there that says nothing; its name stands behind it, in parentheses.
    guard path.hasPrefix("registry["), let close = path.firstIndex(of: "]") else { return String(path) }
    let rest = path[path.index(after: close)...]
    return rest.hasPrefix(" ") ? String(rest.dropFirst()) : "the engine" + rest
  }
}

/// Told by the collector when nothing of a generation's Lua side is left.
final class CollectionNotice {
  private weak var host: ScriptHost?
  private let id: Int64

  init(_ host: ScriptHost, _ id: Int64) {
    self.host = host
    self.id = id
    host.notices[id] = WeakNotice(notice: self)
  }

  deinit {
    host?.uncollected[id] = nil
    host?.notices[id] = nil
  }
}

/// The collector decides how long it lives.
struct WeakNotice {
  weak var notice: CollectionNotice?
}
