import Logging
import NIOCore
import P2PDNet
import P2PDNode
import P2PDScript
import Synchronization

/// Does what the clients of the control socket ask for, on the node's event loop. Each connection has its own prompt,
/// traces and log followers, which end with it.
final class ControlService: @unchecked Sendable {  // confined to its loop
  private let host: ScriptHost
  private let node: Node
  private let loop: any EventLoop
  private let ring: LogRing
  private let identity: ControlReports.Identity
  private let stop: @Sendable () -> Void
  private let serverBox = Mutex<ControlServer?>(nil)
  /// The last reload of each protocol, and when it was.
  private var lastReloads: [String: (report: ReloadReport, at: LogTime)] = [:]
  private var sessions: [ControlServer.ClientID: Session] = [:]

  /// What one connection has going on.
  private final class Session {
    var prompt: Prompt?
    /// The request whose line the prompt runs.
    var evaluating: Int?
    var tracers: [Int: Tracer] = [:]
    var followers: [Int: Int] = [:]
  }

  /// - Parameter stop: asked to bring the node to its end.
  init(
    _ host: ScriptHost, _ node: Node, ring: LogRing, identity: ControlReports.Identity,
    stop: @escaping @Sendable () -> Void
  ) {
    (self.host, self.node, self.ring, self.identity, self.stop) = (host, node, ring, identity, stop)
    loop = node.loop
  }

  /// Begins to serve at the socket.
  func start(_ listening: ControlFolder.Listening) throws {
    let greeting = ControlProtocol.greeting(
      name: identity.name, key: node.id, pid: identity.pid, program: identity.program)
    let (loop, stop) = (loop, stop)
    let server = try ControlServer(listening, greeting: greeting) { incoming in
      let event = Event(incoming)
      // Before the loop has its turn: a node whose loop is stuck is stopped, too.
      if case .request(_, let request) = event, request.operation == .stop { stop() }
      loop.execute { self.take(event) }
    }
    serverBox.withLock { $0 = server }
    host.onReload { report in loop.execute { self.note(report) } }
    loop.execute { self.host.startMeasuring() }
  }

  /// Takes the socket away. Requests that come later find nobody.
  func close() async {
    try? await loop.submit {
      for session in self.sessions.values { self.end(session) }
      self.sessions = [:]
      self.host.stopMeasuring()
    }.get()
    let server = serverBox.withLock { box in
      defer { box = nil }
      return box
    }
    server?.close()
  }

  private func note(_ report: ReloadReport) {
    guard !report.dryRun else { return }
    // Names that no protocol has may be asked for, too.
    if lastReloads.count >= Self.mostReports, lastReloads[report.protocolName] == nil { lastReloads = [:] }
    lastReloads[report.protocolName] = (report, .now)
  }

  /// Safe from any thread.
  private var server: ControlServer? { serverBox.withLock { $0 } }

  // MARK: Requests

  /// A line that came, read on the server's thread.
  private enum Event: Sendable {
    case request(ControlServer.ClientID, ControlRequest)
    case garbage(ControlServer.ClientID, ControlRequest.Refusal)
    case gone(ControlServer.ClientID)

    init(_ incoming: ControlServer.Incoming) {
      switch incoming {
      case .gone(let client): self = .gone(client)
      case .line(let client, let line):
        do {
          self = .request(client, try ControlRequest(line: line))
        } catch {
          self = .garbage(client, error)
        }
      }
    }
  }

  private func take(_ event: Event) {
    switch event {
    case .gone(let client): if let session = sessions.removeValue(forKey: client) { end(session) }
    case .request(let client, let request): perform(request.operation, Call(client: client, id: request.id))
    case .garbage(let client, let refusal):
      server?.answer(client, to: refusal.id, ControlProtocol.failure(refusal.id, refusal.fault))
    }
  }

  /// One request of one client, to be answered once.
  private struct Call: Sendable {
    let client: ControlServer.ClientID
    let id: Int
  }

  private func answer(_ call: Call, _ result: JSONText = .object([])) {
    server?.answer(call.client, to: call.id, ControlProtocol.result(call.id, result))
  }

  private func answer(_ call: Call, _ reports: [ReloadReport]) {
    answer(call, .object([("reports", .array(reports.map { ReloadReports.json($0) }))]))
  }

  private func refuse(_ call: Call, _ code: String, _ message: String, remedy: String? = nil) {
    let fault = ControlFault(code: code, message: message, remedy: remedy)
    server?.answer(call.client, to: call.id, ControlProtocol.failure(call.id, fault))
  }

  private func event(_ call: Call, _ name: String, _ members: [(String, JSONText)]) {
    server?.event(call.client, of: call.id, ControlProtocol.event(call.id, name, members))
  }

  private func perform(_ operation: ControlRequest.Operation, _ call: Call) {
    switch operation {
    case .status:
      answer(call, ControlReports.status(identity, host, node, lastError: ring.lastError, reloads: lastReloads))
    case .pipes: answer(call, .object([("pipes", .array(host.pipeReports().map(ControlReports.pipe)))]))
    case .kill(let pipe): kill(pipe, call)
    case .stop: answer(call)
    case .logs(let lines, let follow): logs(lines, follow, call)
    case .tracePipe(let id, let bytes): trace(.pipe(id), bytes, call)
    case .traceProtocol(let name, let bytes): trace(.protocol(name), bytes, call)
    case .attach(let readOnly, let name): attach(readOnly, name, call)
    case .evaluate(let code, let quoted, let partial): evaluate(code, quoted, partial, call)
    case .complete(let text): complete(text, call)
    case .cancel(let request): cancel(request, call)
    case .generations(let holders):
      Task {
        let list = await host.generationList(holders: holders).map { ReloadReports.json($0) }
        answer(call, .object([("generations", .array(list))]))
      }
    case .reload(let name, let dryRun):
      Task {
        let reports = await host.reload(name, dryRun: dryRun, trigger: "command")
        // The files are again what serves, so an earlier refusal is of no interest any more; nobody else tells of that.
        loop.execute {
          for report in reports where report.result == .unchanged { self.lastReloads[report.protocolName] = nil }
        }
        answer(call, reports)
      }
    case .rollback(let name):
      Task {
        do {
          answer(call, try await host.rollback(name))
        } catch {
          refuse(call, "rejected", "\(error)")
        }
      }
    }
  }

  private func session(_ call: Call) -> Session {
    if let session = sessions[call.client] { return session }
    let session = Session()
    sessions[call.client] = session
    return session
  }

  private func end(_ session: Session) {
    session.prompt?.close()
    for tracer in session.tracers.values { tracer.stop() }
    for follower in session.followers.values { ring.stopFollowing(follower) }
  }

  private func kill(_ id: UInt64, _ call: Call) {
    var isAnswered = false
    let found = host.endPipe(id) { lost in
      guard !isAnswered else { return }
      isAnswered = true
      self.answer(call, .object([("lost", .int(lost))]))
    }
    guard found else { return refuse(call, "no_pipe", "the node has no open pipe \(id)") }
    // A peer that reads no more may hold the end up for as long as its pipe may flush.
    loop.assumeIsolated().scheduleTask(in: Self.killPatience) {
      guard !isAnswered else { return }
      isAnswered = true
      self.answer(call, .object([("lost", .null)]))
    }
  }

  // MARK: Logs

  private func logs(_ lines: Int, _ follow: Bool, _ call: Call) {
    guard follow else {
      return answer(call, .object([("lines", .array(ring.last(lines).map { $0.object }))]))
    }
    guard let server else { return }
    let word = { @Sendable (line: LogLine) in ControlProtocol.event(call.id, "log", [("log", line.object)]) }
    session(call).followers[call.id] = ring.follow(last: lines) { last in
      for line in last { server.tell(call.client, word(line)) }
    } _: { line in
      server.event(call.client, of: call.id, word(line))
    }
  }

  // MARK: Traces

  private func trace(_ target: Tracer.Target, _ bytes: Int, _ call: Call) {
    let session = session(call)
    guard session.tracers[call.id] == nil else { return refuse(call, "bad_request", "the number is in use") }
    let tracer = Tracer(host, target, preview: bytes) { [weak self] event in
      let (name, members) = ControlReports.trace(event)
      self?.event(call, name, members)
    } over: { [weak self, weak session] reason in
      session?.tracers[call.id] = nil
      self?.answer(call, .object([("reason", .string(reason))]))
    }
    guard let tracer else {
      switch target {
      case .pipe(let id): return refuse(call, "no_pipe", "the node has no open pipe \(id)")
      case .protocol(let name): return refuse(call, "no_protocol", "the node hosts no protocol \"\(name.prefix(100))\"")
      }
    }
    session.tracers[call.id] = tracer
    event(call, "tracing", [("pipes", .int(tracer.pipes))])
  }

  /// Ends what a request began.
  private func cancel(_ request: Int, _ call: Call) {
    let begun = Call(client: call.client, id: request)
    let session = session(call)
    if let tracer = session.tracers.removeValue(forKey: request) {
      tracer.stop()
      answer(begun)
    } else if let follower = session.followers.removeValue(forKey: request) {
      ring.stopFollowing(follower)
      answer(begun)
    } else if session.evaluating == request {
      session.prompt?.interrupt()
    }
    // Its end may have crossed this request on the way, so nothing to cancel is no error.
    answer(call)
  }

  // MARK: Prompts

  private func attach(_ readOnly: Bool, _ name: String?, _ call: Call) {
    let session = session(call)
    guard session.prompt == nil else { return refuse(call, "bad_request", "this connection has a prompt already") }
    do {
      session.prompt = try Prompt(host, protocol: name, readOnly: readOnly) { [weak self, weak session] line in
        guard let request = session?.evaluating else { return }
        self?.event(Call(client: call.client, id: request), "print", [("text", .string(line))])
      }
      answer(call)
    } catch {
      refuse(call, name == nil ? "limit" : "no_protocol", "\(error)")
    }
  }

  private func evaluate(_ code: String, _ quoted: Bool, _ partial: Bool, _ call: Call) {
    guard let session = sessions[call.client], let prompt = session.prompt else {
      return refuse(call, "bad_request", "this connection has no prompt; ask for \"attach\" first")
    }
    guard !prompt.isBusy, session.evaluating == nil else { return refuse(call, "busy", "a line is running already") }
    session.evaluating = call.id
    prompt.evaluate(code, quoted: quoted, partial: partial) { [weak self, weak session] outcome in
      session?.evaluating = nil
      switch outcome {
      case .incomplete: self?.answer(call, .object([("incomplete", .bool(true))]))
      case .values(let text): self?.answer(call, .object([("values", .string(text))]))
      case .failed(let message, let traceback):
        self?.answer(call, .object([("error", .string(message)), ("traceback", .string(traceback))]))
      }
    }
  }

  private func complete(_ text: String, _ call: Call) {
    guard let prompt = sessions[call.client]?.prompt else { return refuse(call, "bad_request", "no prompt") }
    let (names, typed) = prompt.complete(text)
    answer(call, .object([("names", .array(names.map { .string($0) })), ("typed", .int(typed))]))
  }

  private static let mostReports = 1000
  private static let killPatience = TimeAmount.seconds(2)
}
