import LuaVM
import NIOCore

/// A protocol written in Lua: what a handler file returns, whichever generation of it serves now.
///
/// Name and path may be read anywhere; the rest is confined to the host's loop.
public final class HostedProtocol: @unchecked Sendable {
  /// What peers choose it by.
  public let name: String
  public let path: String
  /// `M.version` of the generation it was made with: the version of what the script keeps in `p2pd.state`.
  public let version: Int

  unowned let host: ScriptHost
  /// Whose callbacks serve the protocol's pipes.
  let slot: HandlerSlot
  /// The generation in service.
  var current: Generation
  /// The generation before, while ``current`` is on probation: it can serve again at once.
  var standby: Generation?
  var probation: Probation?
  var probationTick: Scheduled<Void>?
  /// The last change of generations, until the old one has given everything back.
  var succession: Succession?
  /// What the last generations were made of, that of ``current`` at the end.
  var history: [SourceSnapshot]
  /// Contents that failed in service.
  var barred: [Barred] = []
  /// What the last reload that was rejected had read.
  var rejected: SourceReader?
  /// The reload that is under way, and who waits for the next.
  var job: ReloadJob?
  var queue: [ReloadRequest] = []
  /// It is not hosted any more.
  var isEnded = false
  /// What it has to do with the node that hosts it.
  let book = NodeBook()

  struct Barred {
    let sources: SourceSnapshot
    let reason: String
    /// A rollback by hand: only what reloads by itself leaves the content alone.
    let automaticOnly: Bool
  }

  init(name: String, _ generation: Generation) {
    self.name = name
    path = generation.path
    version = generation.version
    host = generation.host
    current = generation
    slot = HandlerSlot(generation.handlers)
    history = [generation.sources.snapshot]
    generation.hosted = self
  }

  /// Its generations that are still there, newest first.
  var generations: [Generation] {
    host.generations.values.filter { $0.hosted === self }.sorted { $0.id > $1.id }
  }

  /// The files whose change can make a reload end differently, and what was read.
  var tracked: SourceSnapshot {
    var all = current.sources.snapshot
    if let rejected {
      for (path, hash) in rejected.snapshot.files where all.files[path] == nil { all.add(data: path, hash) }
    }
    return all
  }

  var dataPaths: Set<String> { current.sources.dataPaths.union(rejected?.dataPaths ?? []) }
}
