/// Where pipes find the callbacks that serve them now: one for each protocol, server, and pipe a script opened. A reload
/// puts the new callbacks here, which is all that happens at a swap; a pipe compares one pointer at its next message.
final class HandlerSlot {
  private(set) var current: HandlerSet { didSet { serving = isHeld ? nil : current } }
  /// What a pipe compares its own callbacks with at each message: ``current``, or nil while messages are held.
  private(set) var serving: HandlerSet?
  /// Open pipes that were given out under this slot.
  private(set) var pipes: [ObjectIdentifier: PipeFace] = [:]
  /// While set, messages wait: the protocol's state is being migrated.
  private(set) var isHeld = false { didSet { serving = isHeld ? nil : current } }
  private var heldBack: [PipeFace] = []
  private var swaps: UInt64 = 0
  /// Callbacks that keep the pipes that were open when their successor came with `M.drain`, oldest first.
  private var drains: [Drain] = []

  private struct Drain {
    let set: HandlerSet
    /// Pipes whose callbacks came at this place or before finish on `set`.
    let upTo: UInt64
    var pipes: Int
  }

  init(_ set: HandlerSet) {
    current = set
    serving = set
  }

  /// Pipes that go wherever ``current`` goes.
  var following: Int { pipes.count - drains.reduce(0) { $0 + $1.pipes } }

  /// The new callbacks serve from now on. No allocation but where pipes drain, no way to fail.
  /// - Parameter draining: the pipes that are open finish on the callbacks they have.
  func swap(to set: HandlerSet, draining: Bool = false) {
    if !drains.isEmpty { undrain(set) }
    let (before, pipes) = (current, following)
    swaps += 1
    set.place = swaps
    current = set
    guard draining, pipes > 0 else { return }
    drains.append(Drain(set: before, upTo: swaps - 1, pipes: pipes))
    before.generation.drainingSlots.append(self)
  }

  /// Callbacks that come back: pipes that drained on them follow again.
  private func undrain(_ set: HandlerSet) {
    drains.removeAll { $0.set === set }
    set.generation.drainingSlots.removeAll { $0 === self }
  }

  /// Whose callbacks a pipe that last used `set` is to use now.
  func target(for set: HandlerSet) -> HandlerSet {
    guard !drains.isEmpty else { return current }
    return drains.first { set.place <= $0.upTo }?.set ?? current
  }

  /// How many pipes finish on a generation's callbacks after their successor came.
  func draining(on generation: Generation) -> Int {
    drains.reduce(0) { $0 + ($1.set.generation === generation ? $1.pipes : 0) }
  }

  func add(_ face: PipeFace) { pipes[ObjectIdentifier(face)] = face }

  /// - Returns: the generation that has drained with it, if its last pipe this was.
  func remove(_ face: PipeFace) -> Generation? {
    guard pipes.removeValue(forKey: ObjectIdentifier(face)) != nil else { return nil }
    guard let index = drains.firstIndex(where: { face.handlers.place <= $0.upTo }) else { return nil }
    drains[index].pipes -= 1
    guard drains[index].pipes == 0 else { return nil }
    let generation = drains.remove(at: index).set.generation
    generation.drainingSlots.removeAll { $0 === self }
    return generation.drainingSlots.isEmpty ? generation : nil
  }

  // MARK: Holding

  func hold() { isHeld = true }

  /// A pipe with a message that has to wait.
  func holdBack(_ face: PipeFace) { heldBack.append(face) }

  func release() {
    isHeld = false
    let waiting = heldBack
    heldBack = []
    for face in waiting { face.heldOver() }
  }
}
