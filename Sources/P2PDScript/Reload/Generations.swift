import LuaVM
import NIOCore

/// What generations there are, and what keeps each alive.
extension ScriptHost {
  /// Newest first within a protocol; an exec script has one.
  /// - Parameter holders: finds out what keeps those alive that have ended; see ``findHolders()`` for what it costs.
  public func generationList(holders: Bool = false) async -> [GenerationInfo] {
    if holders { await findHolders() }
    return await onLoop { host in
      let names = host.hosted.map(\.name)
      let order = { (name: String) in names.firstIndex(of: name) ?? names.count }
      return (host.generations.values.map(\.info) + host.uncollected.values).sorted {
        let (a, b) = (order($0.protocolName), order($1.protocolName))
        return a == b ? $0.id > $1.id : a < b
      }
    }
  }
}

extension HostedProtocol {
  /// Those of this protocol, newest first.
  var generationInfos: [GenerationInfo] {
    let gone = host.uncollected.values.filter { $0.protocolName == name }
    return (generations.map(\.info) + gone).sorted { $0.id > $1.id }
  }
}

extension Generation {
  var info: GenerationInfo {
    let state = shownPhase
    var info = GenerationInfo(
      id: id, protocolName: hosted?.name ?? name, version: version, phase: state,
      hash: sources.snapshot.hash.description,
      since: (host.loop.now - madeAt).inSeconds)
    info.messages = counters.messages
    info.errors = counters.errors
    info.kills = counters.kills
    info.tasks = tasks.count
    info.timers = timers.count
    info.listeners = listeners.count
    info.inFlight = inFlight + runs.count + sessions.count
    let followers = state == .live ? hosted?.slot.following ?? 0 : 0
    info.pipes = followers + drainingPipes + pipes.count
    info.keptAliveBy = reasons(state, info)
    return info
  }

  private var shownPhase: GenerationInfo.Phase {
    switch phase {
    case .loading: .loading
    case .live: .live
    case .retired: .retired
    case .leaving: hosted?.standby === self ? .standby : drainingPipes > 0 ? .draining : .leaving
    }
  }

  private func reasons(_ state: GenerationInfo.Phase, _ info: GenerationInfo) -> [String] {
    var reasons: [String] = []
    switch state {
    case .loading: reasons.append("it is being loaded")
    case .live: reasons.append(hosted == nil ? "the script runs" : "it serves the protocol")
    case .standby: reasons.append("it stands by while its successor is on probation")
    default: break
    }
    guard state != .live, state != .loading else { return reasons }
    func add(_ count: Int, _ what: String) { if count > 0 { reasons.append("\(count) \(what)") } }
    add(drainingPipes, "pipes that finish on it")
    add(info.inFlight, "handlers or sessions in flight")
    add(info.tasks, "tasks")
    add(pipes.count, "pipes it opened")
    add(info.listeners, "servers it opened")
    return reasons
  }

  /// Pipes that finish on it although its successor serves.
  var drainingPipes: Int { drainingSlots.reduce(0) { $0 + $1.draining(on: self) } }
}
