import Foundation
import NIOCore
import Testing

@testable import P2PDNet

/// Foundation has a Pipe too.
typealias Pipe = P2PDNet.Pipe

/// One loop for a test, and the few verbs that keep its text short. Everything happens on the loop.
struct PipeKit {
  var loop = sharedLoop

  /// Runs on the loop.
  func on<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
    try await loop.submit(body).get()
  }

  func server(
    _ proto: PipeProto = .tcp, _ sink: any PipeSink, ip: IPAddress = .loopback(.v4), conf: PipeConf = PipeConf()
  ) async throws -> Pipe {
    try await PipeOpener.open(proto, bind: Endpoint(ip: ip, port: 0), conf: conf, sink: sink, on: loop).get()
  }

  func client(
    to server: Pipe, conf: PipeConf? = nil, sink: (any PipeSink)? = nil
  ) async throws -> Pipe {
    let endpoint = try #require(server.localEndpoint)
    return try await PipeOpener.open(
      server.proto, to: .endpoint(endpoint), conf: conf ?? server.conf, sink: sink, on: loop
    ).get()
  }

  @discardableResult
  func send(_ text: String, on pipe: Pipe, to peer: Peer? = nil) async throws -> String {
    try await on {
      outcomeName(
        text.utf8CString.withUnsafeBytes { pipe.send(UnsafeRawBufferPointer(rebasing: $0.dropLast()), to: peer) })
    }
  }

  /// The next message as text; fails the test after a hang guard of ten seconds.
  func receive(_ pipe: Pipe, _ subscription: Subscription? = nil, timeout: TimeAmount = .seconds(10)) async throws
    -> String
  {
    let promise = loop.makePromise(of: Message.self)
    try await on {
      _ = pipe.receive(from: subscription, timeout: timeout) { promise.completeWith($0.mapError { $0 as any Error }) }
    }
    return String(buffer: try await promise.futureResult.get().bytes)
  }

  func close(_ pipes: Pipe...) async throws {
    for pipe in pipes { _ = try await loop.flatSubmit { pipe.close(flush: .zero) }.get() }
  }
}

/// What it failed with; nil where it did not.
func failure<T>(_ body: () async throws -> T) async -> NetError? {
  do {
    _ = try await body()
    return nil
  } catch {
    return error as? NetError
  }
}

func outcomeName(_ outcome: SendOutcome) -> String {
  switch outcome {
  case .sent: "sent"
  case .full: "full"
  case .failed(let error): error.code.rawValue
  }
}

/// The loop that the tests of this target share.
let sharedLoop: KernelLoop = {
  do { return try KernelLoop.start(name: "tests") } catch { preconditionFailure("\(error)") }
}()

/// Answers every message with itself and keeps a log of what happened.
final class EchoSink: PipeSink, @unchecked Sendable {
  var log: [String] = []
  var accepted: [Pipe] = []
  var senders: Set<ObjectIdentifier> = []
  var acceptLimit = Int.max
  let answers: Bool
  let ended: EventLoopPromise<String>?

  init(answers: Bool = true, ended: EventLoopPromise<String>? = nil) {
    self.answers = answers
    self.ended = ended
  }

  func pipeOpened(_ pipe: Pipe) { log.append("open") }

  func pipe(_ pipe: Pipe, message: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    log.append(String(decoding: message, as: UTF8.self))
    senders.insert(ObjectIdentifier(peer))
    if answers { _ = pipe.send(message, to: peer) }
    return true
  }

  func pipeEnded(_ pipe: Pipe, reason: EndReason) {
    log.append("end \(reason.code)")
    if !pipe.isServer { ended?.succeed(reason.code) }
  }

  func pipeShouldAccept(from peer: Peer, by server: Pipe) -> Bool { accepted.count < acceptLimit }

  func pipeAccepted(_ pipe: Pipe, by server: Pipe) -> (any PipeSink)? {
    accepted.append(pipe)
    return self
  }
}

/// Takes `room` messages, then says busy until it gets more room.
final class SlowSink: PipeSink, @unchecked Sendable {
  var room = 0
  var got: [Int] = []
  var pipe: Pipe?

  func pipe(_ pipe: Pipe, message: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    self.pipe = pipe
    guard room > 0 else { return false }
    room -= 1
    got.append(message.count)
    return true
  }

  func pipeAccepted(_ pipe: Pipe, by server: Pipe) -> (any PipeSink)? {
    self.pipe = pipe
    return self
  }
}
