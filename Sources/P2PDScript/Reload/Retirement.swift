import LuaVM
import NIOCore
import P2PDNet

/// What a generation that does not serve any more leaves behind, and its end.
extension HostedProtocol {
  /// Closes the servers that nobody took over, and takes names away that only it hosted. Their pipes go with them.
  func giveUpServers(of old: Generation) {
    // What a handler in flight opened is its until it ends.
    for listener in old.listeners where listener.isService { listener.face.pipe.close(flush: Generation.flush) }
    old.listeners.removeAll(where: \.isService)
    handOver(old)
    for (name, hosting) in book.hostings where hosting.slot.current.generation === old {
      old.hostingNode?.unhost(name, because: "the protocol is not hosted any more")
    }
  }

  /// Pipes that are somebody else's already are kept in that one's list.
  private func handOver(_ old: Generation) {
    for face in old.openPipes {
      let serving = face.slot.target(for: face.handlers).generation
      guard serving !== old else { continue }
      old.remove(face)
      serving.add(face)
    }
  }

  /// Pipes it opened itself end with it, but for those that `p2pd.state` holds: they are the next generation's.
  func giveUpPipes(of old: Generation, then: @escaping () -> Void) {
    handOver(old)
    let heir = current
    guard !old.openPipes.isEmpty, let doors = host.doors, let cell = heir.cell else { return then() }
    StagedCall.run(doors.pipesIn, [.ref(cell)], heir) { result in
      var kept: Set<ObjectIdentifier> = []
      if case .success(let values) = result, case .table(let pairs)? = values.first {
        for case (_, .object(let object)) in pairs { kept.insert(ObjectIdentifier(object)) }
      }
      for face in old.openPipes {
        if kept.contains(ObjectIdentifier(face)), heir.phase == .live {
          face.claim(by: heir)
        } else {
          face.pipe.close(flush: Generation.flush)
        }
      }
      then()
    }
  }
}

extension ScriptHost {
  /// Nothing of a generation runs any more: it gives everything back.
  func end(_ generation: Generation) {
    var info = generation.info
    info.phase = .retired
    info.keptAliveBy = ["Lua has not collected it yet"]
    uncollected[generation.id] = info
    generation.retire("another generation serves")
    drop(generation)
    collectSoon()
  }

  /// Lets the collector find what was given back, some of it in each turn of the loop.
  private func collectSoon() {
    guard !isCollecting else { return }
    isCollecting = true
    collect(turns: Self.collectingTurns)
  }

  private func collect(turns: Int) {
    loop.assumeIsolated().scheduleTask(in: Self.collectingPause) {
      guard !self.isClosed else { return }
      if !self.vm.isRunning { self.vm.collectSome() }
      if self.uncollected.isEmpty || turns == 0 {
        self.isCollecting = false
      } else {
        self.collect(turns: turns - 1)
      }
    }
  }

  /// A step is a fraction of a millisecond; together they pass several times over a heap of some MiB.
  private static let collectingTurns = 2000
  private static let collectingPause = TimeAmount.milliseconds(2)
}
