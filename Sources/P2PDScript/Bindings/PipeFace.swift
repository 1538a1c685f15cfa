import LuaVM
import NIOCore
import P2PDNet

/// Where a pipe meets the script: gets the pipe's messages and events, and is the object behind the script's `pipe`.
///
/// On the road of a message: one check whether the script is free, one whether its code is still the one in service, one
/// entry into the VM. The Lua objects of the pipe and of its last sender were made before. Handlers of one pipe run one
/// after another; while one waits the pipe keeps what comes.
final class PipeFace: TaskOwner, PipeSink, CallbackHolder {
  /// Strong: a pipe may outlive whoever made the host, and an unowned reference costs more than the rest of a message.
  /// The host forgets the face when the pipe ends.
  let host: ScriptHost
  /// The host's, to be entered without counting references.
  private let vm: Unmanaged<LuaVM>
  let pipe: Pipe
  /// Says whose callbacks serve the pipe: those of its server, its protocol, or its own.
  let slot: HandlerSlot
  /// The callbacks that served it last; it takes the slot's before it hears anything more.
  var handlers: HandlerSet
  /// Their generation.
  var generation: Generation
  /// The pipe was opened by the script, so that `handlers` is its own, and its clients' if it is a server.
  let ownsHandlers: Bool
  /// Callbacks of this pipe alone.
  var own: HandlerSet?
  /// The Lua object, held while the pipe lives.
  private(set) var pipeRef: LuaRef?
  /// On a server without callbacks: clients for `accept`.
  var accepting: AcceptQueue?
  /// Set by `pipe_open`'s `route`, shown as `pipe.route`.
  var route: RouteObject?
  /// `M.session` for this pipe, while it runs.
  var session: SessionRun?

  private(set) var tag: UInt64 = 0
  /// Callbacks of the current message that have not ended.
  var running = 0
  /// The generation one of whose message callbacks waits.
  var waiting: Generation?
  var isAdopting = false
  /// It opened before its generation was live.
  private var waitsForScript = false
  /// Queues asked for by the script, and by which of its generations.
  var subscriptions: [(subscription: Subscription, generation: Generation)] = []
  private(set) var lastPeer: Peer? {
    didSet { answered = lastPeer.map { Unmanaged.passUnretained($0) } }
  }
  /// ``lastPeer``, for an answer to it without counting references: it stays while its message is handled.
  private var answered: Unmanaged<Peer>?
  private var lastTuple: LuaRef?
  /// The object behind it, to know it by: ``lastPeer`` holds it.
  private var lastTupleObject: UnsafeMutableRawPointer?
  /// What came of a quick `send`, where it was not simply sent: the whole `send` follows at once and takes it.
  private var sendOutcome: SendOutcome?
  private var isReadyAsked = false
  private(set) var endReason: EndReason?
  private var endCallbacks = 0
  /// Called when the pipe has ended, before the script hears of it: a node or daemon drops it from its list.
  var onEnd: ((PipeFace) -> Void)?

  init(_ pipe: Pipe, slot: HandlerSlot, ownsHandlers: Bool = false) {
    self.pipe = pipe
    self.slot = slot
    self.ownsHandlers = ownsHandlers
    handlers = slot.current
    generation = slot.current.generation
    host = generation.host
    vm = .passUnretained(host.vm)
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

  override var origin: Generation? { generation }

  // MARK: Messages

  func pipe(_ pipe: Pipe, message bytes: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    guard running == 0, !host.isClosed, let pipeRef, !vm._withUnsafeGuaranteedRef({ $0.isRunning }) else {
      return busy()
    }
    if handlers !== slot.serving, !settle() { return false }
    guard peer === lastPeer || meet(peer), let tuple = lastTuple else { return dropped() }
    generation.counters.messages &+= 1
    if own == nil, let only = handlers.only {
      run(only, bytes, tuple, pipeRef)
    } else {
      // Each callback is a task of its own; the next message waits for all of them.
      for callback in handlers.message { run(callback, bytes, tuple, pipeRef) }
      for callback in own?.message ?? [] { run(callback, bytes, tuple, pipeRef) }
    }
    // While one of them waits the pipe keeps what comes, and the peer's end waits too.
    if running > 0 { callbacksWait() }
    host.afterRun()
    return true
  }

  @inline(__always)
  private func run(_ callback: LuaRef, _ bytes: UnsafeRawBufferPointer, _ tuple: LuaRef, _ pipe: LuaRef) {
    running += 1
    let tag = tag
    let status = vm._withUnsafeGuaranteedRef {
      $0.startQuietly(callback, .bytes(bytes), .ref(tuple), .ref(pipe), tag: tag)
    }
    if status == .done { running -= 1 }
  }

  /// Another sender than before. False: no memory for its Lua object.
  private func meet(_ peer: Peer) -> Bool {
    guard let slot = try? host.tupleSlot(for: peer) else { return false }
    lastPeer = peer
    lastTuple = slot.ref
    lastTupleObject = Unmanaged.passUnretained(slot.tuple).toOpaque()
    return true
  }

  /// `send(bytes)`, and `send(bytes, client_tup)` to the sender of the last message. True: sent.
  @inline(__always)
  func sendQuickly(_ bytes: UnsafeRawBufferPointer, to tuple: UnsafeMutableRawPointer?) -> Bool {
    guard tuple == nil || tuple == lastTupleObject else { return false }
    let outcome: SendOutcome
    if tuple != nil, pipe.proto == .udp, let answered {
      outcome = answered._withUnsafeGuaranteedRef { pipe.send(bytes, to: $0) }
    } else {
      outcome = pipe.send(bytes)
    }
    if case .sent = outcome { return true }
    sendOutcome = outcome
    return false
  }

  func takeSendOutcome() -> SendOutcome? {
    defer { sendOutcome = nil }
    return sendOutcome
  }

  func callbacksWait() {
    pipe.hold()
    waiting = generation
    generation.inFlight += 1
  }

  /// The script has no memory for an object: the message is lost, and said to be.
  private func dropped() -> Bool {
    generation.report(.noMemory, pipe: self, in: "msg_cb", isMessage: true)
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
      (waiting ?? generation).report(
        failure, pipe: self, in: isAdopting ? "adopt" : "msg_cb", isMessage: !isAdopting)
    } else if late {
      running -= 1
    }
    guard running == 0 else { return }
    isAdopting = false
    if let over = waiting {
      waiting = nil
      over.inFlight -= 1
      over.checkOver()
    }
    if endReason != nil {
      retireIfDone()
    } else if late {
      askReady()
    }
  }

  // MARK: Callbacks

  var hasMessageCallbacks: Bool { !handlers.message.isEmpty || own?.message.isEmpty == false }

  /// Without callbacks the messages are the inbox's, for `recv`.
  func updateMode() { pipe.sinkTakesMessages = hasMessageCallbacks }

  /// - Parameter caller: the generation that adds it; nil where that is not known.
  func add(_ callback: LuaRef, _ kind: HandlerSet.Kind, by caller: Generation?) {
    if let caller, caller !== generation { claim(by: caller) }
    if let caller, caller !== generation, caller.id < generation.id {
      // The pipe speaks to newer code already.
      return host.vm.release(callback)
    }
    if ownsHandlers {
      handlers.add(callback, kind)
    } else {
      // Newer code may add its own before the pipe has moved to it.
      let owner = caller ?? generation
      if own?.generation !== owner { own = HandlerSet(owner) }
      own?.add(callback, kind)
    }
    callbacksChanged()
  }

  var callbackSets: [HandlerSet] { (own.map { [$0] } ?? []) + (ownsHandlers ? [handlers] : []) }

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
    // A TCP server has no messages to move with.
    if !(pipe.isServer && pipe.proto == .tcp) { slot.add(self) }
    if generation.hosted?.slot !== slot { generation.add(self) }
    if !host.observation.tracers.isEmpty { host.observation.opened(self) }
    guard generation.phase == .loading else { return announce() }
    // A server of the top level, bound before its script is live: what comes waits.
    waitsForScript = true
    running += 1
    generation.whenLive {
      guard self.waitsForScript else { return }
      self.waitsForScript = false
      self.running -= 1
      self.announce()
      self.pipe.ready()
    }
  }

  private func announce() {
    host.whenIdle {
      guard self.endReason == nil, let ref = try? self.reference() else { return }
      self.updateMode()
      // A TCP server's `up_cb` speaks of its clients.
      if self.pipe.isServer, self.pipe.proto == .tcp { return }
      for callback in self.handlers.up + (self.own?.up ?? []) { self.call(callback, [.ref(ref)], place: "up_cb") }
      self.startSession()
    }
  }

  func call(_ callback: LuaRef, _ arguments: [LuaValue], place: String, ended: (() -> Void)? = nil) {
    host.startCallback(callback, arguments: arguments, generation: generation, pipe: self, place: place, ended: ended)
  }

  func pipeEnded(_ pipe: Pipe, reason: EndReason) {
    endReason = reason
    host.observation.ended(pipe)
    if waitsForScript {
      waitsForScript = false
      running -= 1
    }
    host.whenIdle { self.announceEnd(reason) }
  }

  private func announceEnd(_ reason: EndReason) {
    onEnd?(self)
    onEnd = nil
    accepting?.close()
    if pipe.isServer { slot.current.generation.listeners.removeAll { $0.face === self } }
    // Nothing of this may end the face before all of it was begun.
    endCallbacks += 1
    // The end too is told to the code that serves now.
    if isStale { moveAtEnd() }
    let isClientless = pipe.isServer && pipe.proto == .tcp
    let callbacks = isClientless ? [] : handlers.end + (own?.end ?? [])
    endCallbacks += callbacks.count
    for callback in callbacks { callEnd(callback, reason) }
    callbackEnded()
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
  func addEnd(_ callback: LuaRef, by caller: Generation?) {
    guard let endReason else { return add(callback, .end, by: caller) }
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
  func retireIfDone() {
    guard endReason != nil, running == 0, endCallbacks == 0, session == nil, tag != 0 else { return }
    host.unregister(tag)
    tag = 0
    generation.remove(self)
    own = nil
    subscriptions = []
    let drained = slot.remove(self)
    if let pipeRef { host.vm.release(pipeRef) }
    pipeRef = nil
    (lastPeer, lastTuple, lastTupleObject) = (nil, nil, nil)
    if let drained { drained.hosted?.drained(drained) }
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
    let serving = slot.current
    guard serving.generation.takesPipes else { return nil }
    // Without callbacks the client is for `accept`, which may be slow: not more than the backlog waits.
    let isForAccept = serving.message.isEmpty && serving.up.isEmpty && own?.message.isEmpty != false
    if isForAccept, accepting?.isFull == true { return nil }
    let face = PipeFace(client, slot: slot)
    face.route = route
    if isForAccept { accepting?.offer(face) }
    return face
  }
}
