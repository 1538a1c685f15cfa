import CNet
import Dispatch
import Glibc
import P2PDNet
import Synchronization

/// The listening side of the control socket: one thread waits with poll(2) for the few clients there are, so that a slow
/// one, or one that sends garbage, costs the event loop nothing. Whole lines go to `handle`, what `send` is given goes
/// out. See ``ControlProtocol`` for the bounds.
final class ControlServer: Sendable {
  typealias ClientID = Int

  enum Incoming: Sendable {
    case line(ClientID, [UInt8])
    /// The client has gone, or was cut off; nothing that is sent to it arrives any more.
    case gone(ClientID)
  }

  let listening: ControlFolder.Listening
  private let greeting: JSONText
  private let handle: @Sendable (Incoming) -> Void
  private let queue = DispatchQueue(label: "p2pd.control")
  private let state = Mutex(State())
  /// Readable when the thread has something to look at.
  private let wake: Int32

  private struct State {
    var clients: [ClientID: Client] = [:]
    var lastID: ClientID = 0
    var isClosing = false
  }

  private struct Client {
    let descriptor: Int32
    var input = ControlInput()
    var output = ControlOutput()
    /// Requests that have no answer yet.
    var unanswered = 0
    /// It sends no more, but still listens.
    var inputIsOver = false
    /// To be closed once what waits is written.
    var isEnding = false
    /// To be closed now.
    var isBroken = false
  }

  /// Begins to serve.
  /// - Parameter handle: called on the server's thread.
  init(
    _ listening: ControlFolder.Listening, greeting: JSONText, handle: @escaping @Sendable (Incoming) -> Void
  ) throws {
    self.listening = listening
    self.greeting = greeting
    self.handle = handle
    wake = cnet_wake_open()
    guard wake >= 0 else {
      listening.remove()
      Glibc.close(listening.descriptor)
      throw Failure("no descriptor for the control socket: \(String(cString: strerror(-wake)))")
    }
    queue.async { self.run() }
  }

  /// Queues the answer to a request.
  func answer(_ client: ClientID, to request: Int?, _ line: JSONText) {
    state.withLock {
      guard var found = $0.clients.removeValue(forKey: client) else { return }
      found.unanswered -= 1
      if !found.output.add(answer: line, to: request) { found.isBroken = true }
      $0.clients[client] = found
    }
    signal()
  }

  /// Queues an event that is as good as an answer: not left out.
  func tell(_ client: ClientID, _ line: JSONText) {
    state.withLock {
      guard $0.clients[client]?.output.add(answer: line, to: nil) == false else { return }
      $0.clients[client]?.isBroken = true
    }
    signal()
  }

  /// Queues an event of a request. False: it was left out, and counted.
  @discardableResult
  func event(_ client: ClientID, of request: Int, _ line: @autoclosure () -> JSONText) -> Bool {
    let isQueued = state.withLock {
      $0.clients[client]?.output.add(event: line(), of: request) ?? false
    }
    if isQueued { signal() }
    return isQueued
  }

  /// Takes the socket away and closes the connections, what waits for them being written if they take it at once.
  func close() {
    state.withLock { $0.isClosing = true }
    signal()
    queue.sync {}
  }

  private func signal() {
    var one: UInt64 = 1
    _ = Glibc.write(wake, &one, MemoryLayout<UInt64>.size)
  }

  // MARK: The thread

  private func run() {
    cnet_name_thread("p2pd-control")
    var refusesUntil: UInt64 = 0
    while true {
      let (isClosing, watched) = state.withLock { state in
        (
          state.isClosing,
          state.clients.sorted { $0.key < $1.key }.map { ($0.key, $0.value.descriptor, Self.events($0.value)) }
        )
      }
      if isClosing { break }
      let now = DispatchTime.now().uptimeNanoseconds
      let isFull = watched.count >= ControlProtocol.mostClients + Self.waitingRoom
      let listens = !isFull && now >= refusesUntil
      var places = [pollfd(fd: wake, events: Int16(POLLIN), revents: 0)]
      places.append(pollfd(fd: listens ? listening.descriptor : -1, events: Int16(POLLIN), revents: 0))
      for (_, descriptor, events) in watched { places.append(pollfd(fd: descriptor, events: events, revents: 0)) }
      // Without a free descriptor accept would be asked again and again for the same connection.
      guard poll(&places, nfds_t(places.count), now < refusesUntil ? Self.pause : -1) >= 0 || errno == EINTR else {
        break
      }
      if places[0].revents != 0 {
        var count: UInt64 = 0
        _ = Glibc.read(wake, &count, MemoryLayout<UInt64>.size)
      }
      if places[1].revents != 0, !accept() { refusesUntil = now + UInt64(Self.pause) * 1_000_000 }
      for (place, client) in zip(places.dropFirst(2), watched) { serve(client.0, place.revents) }
    }
    end()
  }

  private static func events(_ client: Client) -> Int16 {
    var events: Int16 = 0
    if client.unanswered < ControlProtocol.mostUnanswered, !client.isEnding, !client.inputIsOver {
      events |= Int16(POLLIN)
    }
    if !client.output.isEmpty || client.isEnding || client.isBroken { events |= Int16(POLLOUT) }
    return events
  }

  /// False: no descriptor is left for now.
  private func accept() -> Bool {
    let descriptor = cnet_unix_accept(listening.descriptor)
    guard descriptor >= 0 else { return descriptor != -EMFILE && descriptor != -ENFILE && descriptor != -ENOMEM }
    var uid: UInt32 = 0
    var pid: Int32 = 0
    let isKnown = cnet_unix_peer(descriptor, &uid, &pid) == 0
    state.withLock { state in
      var client = Client(descriptor: descriptor)
      if !isKnown || (uid != geteuid() && uid != 0) {
        client.isEnding = true
        let fault = ControlFault(code: "permission", message: "this node belongs to user \(geteuid())")
        _ = client.output.add(answer: ControlProtocol.failure(nil, fault), to: nil)
      } else if state.clients.count >= ControlProtocol.mostClients {
        client.isEnding = true
        let fault = ControlFault(
          code: "limit", message: "\(ControlProtocol.mostClients) clients are connected to the node already")
        _ = client.output.add(answer: ControlProtocol.failure(nil, fault), to: nil)
      } else {
        _ = client.output.add(answer: greeting, to: nil)
      }
      state.lastID += 1
      state.clients[state.lastID] = client
    }
    return true
  }

  private func serve(_ id: ClientID, _ events: Int16) {
    var incoming: [Incoming] = []
    state.withLock { state in
      guard var client = state.clients.removeValue(forKey: id) else { return }
      let gone = events & Int16(POLLERR | POLLNVAL) != 0
      var isOver = gone || client.isBroken
      if !isOver { isOver = !Self.write(&client) }
      if !isOver, events & Int16(POLLIN | POLLHUP) != 0, !client.isEnding, !Self.read(&client) {
        // Both directions are closed, or only the one to us: then answers are still awaited.
        if events & Int16(POLLHUP) != 0 { isOver = true } else { client.inputIsOver = true }
      }
      if !isOver { incoming = Self.lines(&client).map { .line(id, $0) } }
      if client.inputIsOver, client.unanswered == 0 { client.isEnding = true }
      if client.isEnding, client.output.isEmpty { isOver = true }
      if isOver {
        Glibc.close(client.descriptor)
        incoming.append(.gone(id))
      } else {
        state.clients[id] = client
      }
    }
    for event in incoming { handle(event) }
  }

  private static func write(_ client: inout Client) -> Bool {
    while !client.output.isEmpty {
      let count = client.output.waiting.withUnsafeBytes {
        // Not write(2): the other end may be gone, and a signal is not wanted.
        Glibc.send(client.descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
      }
      if count < 0 { return errno == EAGAIN || errno == EINTR }
      client.output.wrote(count)
    }
    return true
  }

  /// False at the end of the client's input.
  private static func read(_ client: inout Client) -> Bool {
    var failure: Int32 = 0
    let piece = [UInt8](unsafeUninitializedCapacity: pieceSize) { buffer, count in
      let got = Glibc.read(client.descriptor, buffer.baseAddress, buffer.count)
      if got < 0 { failure = errno }
      count = max(0, got)
    }
    if failure != 0 { return failure == EAGAIN || failure == EINTR }
    client.input.add(piece)
    return !piece.isEmpty
  }

  /// The requests that may be begun now.
  private static func lines(_ client: inout Client) -> [[UInt8]] {
    var lines: [[UInt8]] = []
    while client.unanswered < ControlProtocol.mostUnanswered, !client.isEnding {
      switch client.input.next() {
      case .incomplete: return lines
      case .line(let line):
        guard !line.isEmpty else { continue }
        client.unanswered += 1
        lines.append(line)
      case .tooLong:
        client.isEnding = true
        let fault = ControlFault(
          code: "too_long", message: "a request has more than \(ControlProtocol.longestLine) bytes")
        _ = client.output.add(answer: ControlProtocol.failure(nil, fault), to: nil)
      }
    }
    return lines
  }

  private func end() {
    listening.remove()
    Glibc.close(listening.descriptor)
    let clients = state.withLock { state in
      defer { state.clients = [:] }
      return Array(state.clients.values)
    }
    for var client in clients {
      _ = Self.write(&client)
      Glibc.close(client.descriptor)
    }
  }

  deinit { Glibc.close(wake) }

  private static let pieceSize = 64 << 10
  /// Connections beyond the limit that are told so at the same time.
  private static let waitingRoom = 4
  /// Milliseconds without accepting when descriptors have run out.
  private static let pause: Int32 = 200
}
