import LuaVM
import NIOCore
import P2PDNet

/// `recv`, `messages`, `accept`, subscriptions: what a script asks a pipe for.
enum PipeReceive {
  static var methods: [(String, HostFunction)] {
    [
      ("recv", bound(recv)), ("accept", bound(accept)), ("subscribe", bound(subscribe)),
      ("unsubscribe", bound(unsubscribe)),
    ]
  }

  /// `recv([timeout])`, `recv(sub [, timeout])`
  private static func recv(_ call: borrowing LuaCall) throws -> LuaReturn {
    let face = try PipeMethods.pipe(call, "recv")
    var subscription: Subscription?
    var timeout: TimeAmount?
    var isLimited = false
    if let object = call.object(1, as: SubscriptionObject.self) {
      guard object.pipe === face else { throw Misuse("bad argument #1 to 'recv' (a subscription of another pipe)") }
      subscription = object.subscription
      timeout = try call.seconds(2, 2, "recv")
      isLimited = !call.isNone(2)
    } else if call.isNone(1) {
      timeout = try call.seconds(2, 2, "recv")
      isLimited = !call.isNone(2)
    } else {
      timeout = try call.seconds(1, 1, "recv")
      isLimited = true
    }
    let host = face.host
    let session = call.tag == face.session?.tag ? face.session : nil
    if let session, call.canWait, session.mustMakeWay(call.task) {
      // The task was cancelled: this wait fails at once.
      return .wait
    }
    if let message = face.pipe.receiveNow(from: subscription) {
      if session != nil { face.generation.counters.messages &+= 1 }
      return try host.give(message)
    }
    if let timeout, timeout == .zero { return host.failure(.timeout, "recv", cause: "no message is there") }
    if !isLimited { timeout = face.pipe.conf.recvTimeout }
    guard call.canWait else { return .wait }
    return receive(face, subscription, timeout, call.wait, for: session)
  }

  private static func receive(
    _ face: PipeFace, _ subscription: Subscription?, _ timeout: TimeAmount?, _ wait: LuaWait, for session: SessionRun?
  ) -> LuaReturn {
    let host = face.host
    var answered: NetError?
    var waiter: Waiter?
    let ticket = face.pipe.receive(from: subscription, timeout: timeout) { result in
      switch result {
      case .success(let message):
        guard let waiter else { return }
        if let session {
          if subscription == nil, session.gives(back: message) { return }
          session.receiving = nil
          face.generation.counters.messages &+= 1
        }
        host.deliver(message, to: waiter)
      case .failure(let error):
        session?.receiving = nil
        if let waiter { host.finish(waiter, failing: error) } else { answered = error }
      }
    }
    if let answered { return host.failure(answered) }
    guard let ticket else { return host.failure(.closed, "recv", cause: "the pipe is closed") }
    let parked = host.wait(wait)
    parked.giveUp = {
      ticket.cancel()
      session?.receiving = nil
    }
    session?.receiving = parked
    waiter = parked
    return .wait
  }

  private static func accept(_ call: borrowing LuaCall) throws -> LuaReturn {
    let face = try PipeMethods.pipe(call, "accept")
    let timeout = try call.seconds(1, 1, "accept")
    let host = face.host
    guard let queue = face.accepting else {
      return host.failure(.unsupported, "accept", cause: "only a TCP server has clients")
    }
    while let client = queue.next() {
      if let ref = client.pipeRef { return .one(.ref(ref)) }
    }
    guard face.pipe.isOpen else { return host.failure(.closed, "accept", cause: "the server is closed") }
    guard call.canWait else { return .wait }
    queue.wait(host.wait(call.wait), timeout: timeout)
    return .wait
  }

  private static func subscribe(_ call: borrowing LuaCall) throws -> LuaReturn {
    let face = try PipeMethods.pipe(call, "subscribe")
    let host = face.host
    var matching: ((UnsafeRawBufferPointer) -> Bool)?
    if !call.isNone(1) {
      guard let bytes = call.bytes(1) else { throw call.need(1, 1, "subscribe", "string") }
      let pattern = Array(bytes)
      // A malformed pattern is misuse, and said now.
      do {
        _ = try [UInt8]().withUnsafeBytes {
          try LuaVM.patternMatches(pattern, $0, steps: host.options.limits.patternSteps)
        }
      } catch {
        throw Misuse("bad argument #1 to 'subscribe' (\((error as? LuaFailure)?.message ?? "malformed pattern"))")
      }
      let steps = host.options.limits.patternSteps
      matching = { (try? LuaVM.patternMatches(pattern, $0, steps: steps)) ?? false }
    }
    var sender: (host: String, port: Int)?
    if !call.isNone(2) {
      let place: Place? =
        if let tuple = call.object(2, as: TupleObject.self) { Place(.object(tuple)) } else { Place(try call.value(2)) }
      guard case .hostAndPort(let name, let port)? = place else {
        throw call.need(2, 2, "subscribe", "client_tup or {ip, port}")
      }
      // The same address may be written in several ways.
      sender = (IPAddress(name)?.description ?? name, port)
    }
    let object = SubscriptionObject(face.pipe.subscribe(matching: matching, from: sender), face)
    face.subscribed(object.subscription, by: host.caller(call) ?? face.generation)
    return .object(object)
  }

  private static func unsubscribe(_ call: borrowing LuaCall) throws -> LuaReturn {
    let face = try PipeMethods.pipe(call, "unsubscribe")
    guard let object = call.object(1, as: SubscriptionObject.self) else {
      throw call.need(1, 1, "unsubscribe", "p2pd.subscription")
    }
    guard object.pipe === face else {
      throw Misuse("bad argument #1 to 'unsubscribe' (a subscription of another pipe)")
    }
    face.unsubscribe(object.subscription)
    return .none
  }
}

/// The object behind `sub`.
final class SubscriptionObject {
  let subscription: Subscription
  let pipe: PipeFace

  init(_ subscription: Subscription, _ pipe: PipeFace) {
    self.subscription = subscription
    self.pipe = pipe
  }
}

extension ScriptHost {
  /// The answer of a `recv` that found a message.
  func give(_ message: Message) throws -> LuaReturn {
    let tuple = try tuple(for: message.peer)
    // Lua copies the bytes after this function is gone, so they must outlive it.
    loan = message.bytes
    return message.bytes.withUnsafeReadableBytes { .two(.bytes($0), .ref(tuple)) }
  }

  /// The answer of a `recv` that waited.
  func deliver(_ message: Message, to waiter: Waiter) {
    guard let tuple = try? tuple(for: message.peer) else { return waiter.fail(.string("not enough memory")) }
    message.bytes.withUnsafeReadableBytes { waiter.finish(.bytes($0), .ref(tuple)) }
  }
}

/// Clients of a server without callbacks, until `accept` takes them.
final class AcceptQueue {
  private unowned let host: ScriptHost
  private let limit: Int
  private var clients = CircularBuffer<PipeFace>()
  private var waiters = CircularBuffer<(waiter: Waiter, timer: Scheduled<Void>?)>()

  init(host: ScriptHost, limit: Int) {
    self.host = host
    self.limit = limit
  }

  /// Too many wait already: connections are refused.
  var isFull: Bool { clients.count >= limit }

  func offer(_ client: PipeFace) {
    clients.append(client)
    // The pipe opens after this call; only then has it its Lua object.
    let host = self.host
    host.loop.assumeIsolated().execute { self.serve() }
  }

  func next() -> PipeFace? { clients.popFirst() }

  func wait(_ waiter: Waiter, timeout: TimeAmount?) {
    let host = self.host
    let timer = timeout.map {
      host.loop.assumeIsolated().scheduleTask(in: $0) {
        host.finish(waiter, failing: NetError(.timeout, "accept", cause: "no client came"))
      }
    }
    waiter.giveUp = { timer?.cancel() }
    waiters.append((waiter, timer))
  }

  private func serve() {
    while !clients.isEmpty, let (waiter, timer) = waiters.popFirst() {
      guard waiter.isWaiting else { continue }
      var found: LuaRef?
      while found == nil, let client = clients.popFirst() { found = client.pipeRef }
      guard let found else { return waiters.prepend((waiter, timer)) }
      timer?.cancel()
      waiter.finish(.ref(found))
    }
  }

  func close() {
    clients.removeAll()
    while let (waiter, timer) = waiters.popFirst() {
      timer?.cancel()
      host.finish(waiter, failing: NetError(.closed, "accept", cause: "the server is closed"))
    }
  }
}
