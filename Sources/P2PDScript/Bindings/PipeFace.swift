import LuaVM
import NIOCore
import P2PDNet

/// Where a pipe meets the script: gets the pipe's messages and events, and is the object behind the script's `pipe`.
///
/// On the road of a message: one check whether the script is free, one entry into the VM. The Lua objects of the pipe
/// and of its last sender were made before. Handlers of one pipe run one after another; while one waits the pipe keeps
/// what comes.
final class PipeFace: TaskOwner, PipeSink, CallbackHolder {
  /// Strong: a pipe may outlive whoever made the host, and an unowned reference costs more than the rest of a message.
  /// The host forgets the face when the pipe ends.
  let host: ScriptHost
  let pipe: Pipe
  /// The generation whose handlers serve the pipe.
  private(set) var generation: Generation
  /// Callbacks the pipe has in common with others: those of its server or protocol.
  let shared: HandlerSet
  /// The pipe was opened by the script, so that `shared` is its own, and its clients' if it is a server.
  private let ownsShared: Bool
  /// Callbacks of this pipe alone.
  private(set) var own: HandlerSet?
  /// The Lua object, held while the pipe lives.
  private(set) var pipeRef: LuaRef?
  /// On a server without callbacks: clients for `accept`.
  var accepting: AcceptQueue?
  /// Set by `pipe_open`'s `route`, shown as `pipe.route`.
  var route: RouteObject?

  private var tag: UInt64 = 0
  /// Callbacks of the current message that have not ended.
  private var running = 0
  private(set) var lastPeer: Peer?
  private var lastTuple: LuaRef?
  private var isReadyAsked = false
  private(set) var endReason: EndReason?
  /// Called when the pipe has ended, before the script hears of it: a node or daemon drops it from its list.
  var onEnd: ((PipeFace) -> Void)?

  init(_ pipe: Pipe, generation: Generation, shared: HandlerSet, ownsShared: Bool = false) {
    self.pipe = pipe
    self.generation = generation
    self.shared = shared
    self.ownsShared = ownsShared
    host = generation.host
    super.init()
    pipe.face = self
    updateMode()
  }

  /// The Lua object, made at first use.
  func reference() throws -> LuaRef {
    if let pipeRef { return pipeRef }
    let ref = try host.vm.makeObject(host.classes.pipe, self)
    pipeRef = ref
    return ref
  }

  // MARK: Messages

  func pipe(_ pipe: Pipe, message bytes: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    guard running == 0, !host.isClosed, let pipeRef, !host.vm.isRunning else { return busy() }
    let tuple: LuaRef
    if peer === lastPeer, let lastTuple {
      tuple = lastTuple
    } else {
      guard let made = try? host.tuple(for: peer) else { return dropped() }
      tuple = made
      lastPeer = peer
      lastTuple = made
    }
    generation.messages &+= 1
    if own == nil, shared.message.count == 1 {
      run(shared.message[0], bytes, tuple, pipeRef)
    } else {
      // Each callback is a task of its own; the next message waits for all of them.
      for callback in shared.message { run(callback, bytes, tuple, pipeRef) }
      for callback in own?.message ?? [] { run(callback, bytes, tuple, pipeRef) }
    }
    // While one of them waits the pipe keeps what comes, and the peer's end waits too.
    if running > 0 { pipe.hold() }
    host.afterRun()
    return true
  }

  @inline(__always)
  private func run(_ callback: LuaRef, _ bytes: UnsafeRawBufferPointer, _ tuple: LuaRef, _ pipe: LuaRef) {
    running += 1
    if host.vm.startQuietly(callback, .bytes(bytes), .ref(tuple), .ref(pipe), tag: tag) == .done { running -= 1 }
  }

  /// The script has no memory for an object: the message is lost, and said to be.
  private func dropped() -> Bool {
    generation.report(.noMemory, pipe: self, in: "msg_cb")
    return true
  }

  private func busy() -> Bool {
    if running == 0 { askReady() }
    return false
  }

  /// Lua is on the stack (another pipe's handler made this one deliver): go on when it is not.
  private func askReady() {
    guard !isReadyAsked else { return }
    isReadyAsked = true
    host.whenIdle {
      self.isReadyAsked = false
      if self.running == 0, self.endReason == nil { self.pipe.ready() }
    }
  }

  override func taskEnded(_ task: LuaTask, result: Result<[LuaValue], LuaFailure>, late: Bool) {
    if case .failure(let failure) = result {
      running -= 1
      generation.report(failure, pipe: self, in: "msg_cb")
    } else if late {
      running -= 1
    }
    guard running == 0 else { return }
    if endReason != nil {
      retireIfDone()
    } else if late {
      askReady()
    }
  }

  // MARK: Callbacks

  var hasMessageCallbacks: Bool { !shared.message.isEmpty || own?.message.isEmpty == false }

  /// Without callbacks the messages are the inbox's, for `recv`.
  func updateMode() { pipe.sinkTakesMessages = hasMessageCallbacks }

  func add(_ callback: LuaRef, _ kind: HandlerSet.Kind) {
    if ownsShared {
      shared.add(callback, kind)
    } else {
      let set = own ?? HandlerSet(host)
      own = set
      set.add(callback, kind)
    }
    callbacksChanged()
  }

  var callbackSets: [HandlerSet] { (own.map { [$0] } ?? []) + (ownsShared ? [shared] : []) }

  func callbacksChanged() {
    if own?.isEmpty == true { own = nil }
    updateMode()
    // A server's callbacks are its clients' too.
    for client in pipe.acceptedPipes { (client.face as? PipeFace)?.updateMode() }
  }

  // MARK: Opening and ending

  func pipeOpened(_ pipe: Pipe) {
    // From here on `pipeEnded` is certain to follow, and gives all this back.
    guard tag == 0, !host.isClosed else { return }
    tag = host.register(self)
    generation.add(self)
    if !host.observation.tracers.isEmpty { host.observation.opened(self) }
    host.whenIdle {
      guard self.endReason == nil, let ref = try? self.reference() else { return }
      self.updateMode()
      // A TCP server's `up_cb` speaks of its clients.
      if pipe.isServer, pipe.proto == .tcp { return }
      for callback in self.shared.up + (self.own?.up ?? []) { self.call(callback, [.ref(ref)], place: "up_cb") }
    }
  }

  func call(_ callback: LuaRef, _ arguments: [LuaValue], place: String, ended: (() -> Void)? = nil) {
    host.startCallback(callback, arguments: arguments, generation: generation, pipe: self, place: place, ended: ended)
  }

  func pipeEnded(_ pipe: Pipe, reason: EndReason) {
    endReason = reason
    host.observation.ended(pipe)
    host.whenIdle { self.announceEnd(reason) }
  }

  private var endCallbacks = 0

  private func announceEnd(_ reason: EndReason) {
    onEnd?(self)
    onEnd = nil
    accepting?.close()
    let isClientless = pipe.isServer && pipe.proto == .tcp
    let callbacks = isClientless ? [] : shared.end + (own?.end ?? [])
    endCallbacks += callbacks.count
    for callback in callbacks { callEnd(callback, reason) }
    retireIfDone()
  }

  private func callEnd(_ callback: LuaRef, _ reason: EndReason) {
    guard let arguments = try? endArguments(reason) else { return callbackEnded() }
    call(callback, arguments, place: "end_cb") { self.callbackEnded() }
  }

  private func callbackEnded() {
    endCallbacks -= 1
    retireIfDone()
  }

  private func endArguments(_ reason: EndReason) throws -> [LuaValue] {
    var arguments: [LuaValue] = [.ref(try reference()), .string(reason.code)]
    if case .error(let error) = reason { arguments.append(.object(ErrorObject(error))) }
    return arguments
  }

  /// `add_end_cb` on a pipe that has ended calls back at once.
  func addEnd(_ callback: LuaRef) {
    guard let endReason else { return add(callback, .end) }
    let host = self.host
    host.whenIdle {
      guard let arguments = try? self.endArguments(endReason) else { return host.vm.release(callback) }
      self.call(callback, arguments, place: "end_cb") {
        host.vm.release(callback)
        self.retireIfDone()
      }
    }
  }

  /// The last of the pipe's callbacks is through: the Lua object is the script's alone.
  private func retireIfDone() {
    guard endReason != nil, running == 0, endCallbacks == 0, tag != 0 else { return }
    host.unregister(tag)
    tag = 0
    generation.remove(self)
    own = nil
    if let pipeRef { host.vm.release(pipeRef) }
    pipeRef = nil
    (lastPeer, lastTuple) = (nil, nil)
    host.checkQuiet()
  }

  /// What `tostring(pipe)` gives.
  var description: String {
    let role =
      pipe.isServer ? "server on \(pipe.localEndpoint?.description ?? "?")" : "to \(pipe.peer?.description ?? "?")"
    return "p2pd.pipe \(pipe.id): \(pipe.proto.rawValue) \(role)\(pipe.isOpen ? "" : ", closed")"
  }

  // MARK: Servers

  func pipeAccepted(_ client: Pipe, by server: Pipe) -> (any PipeSink)? {
    guard generation.phase == .live, !generation.isEnding else { return nil }
    // Without callbacks the client is for `accept`, which may be slow: not more than the backlog waits.
    let isForAccept = !hasMessageCallbacks && shared.up.isEmpty
    if isForAccept, accepting?.isFull == true { return nil }
    let face = PipeFace(client, generation: generation, shared: shared)
    face.route = route
    if isForAccept { accepting?.offer(face) }
    return face
  }
}
