import NIOCore
import P2PDNet

/// A response, and how it came.
public struct STUNAnswer: Sendable {
  public let message: STUNMessage
  /// Who sent it.
  public let source: Endpoint
  /// From the first request to this.
  public let time: TimeAmount
  /// ``time`` is a round trip: nothing was sent twice.
  public let isRoundTrip: Bool
}

/// The questions asked on one socket or connection that wait for their answers: sent again by their schedule, answered once,
/// given up in the end. Knows no socket; whoever has one sends what it is told and says what came in.
///
/// Confined to its loop.
final class STUNExchanges {
  typealias Done = (Result<STUNAnswer, NetError>) -> Void

  /// What a question is, apart from its text.
  struct Question {
    var server: Endpoint
    /// Who may answer, where that is not whom we ask: the server was asked to answer from elsewhere (RFC 5780 §4.4).
    var from: Endpoint?
    /// Signs the question; the answer must be signed with it too.
    var signature: STUNSignature?
    var schedule: STUNTransaction.Schedule
  }

  private let loop: any EventLoop
  private let over: String
  private let most: Int
  private var open: [STUNTransactionID: Exchange] = [:]

  private final class Exchange {
    let question: Question
    let transmit: () -> NetError?
    let done: Done
    var transaction: STUNTransaction
    var timer: Scheduled<Void>?

    init(_ question: Question, _ transmit: @escaping () -> NetError?, _ done: @escaping Done) {
      self.question = question
      self.transmit = transmit
      self.done = done
      transaction = STUNTransaction(question.schedule)
    }
  }

  /// - Parameters:
  ///   - over: "UDP" or "TCP", for errors.
  ///   - most: questions at once.
  init(over: String, most: Int, on loop: any EventLoop) {
    self.over = over
    self.most = most
    self.loop = loop
  }

  /// Asks. `done` comes once, not before this returns, and not for a question that was cancelled.
  /// - Parameters:
  ///   - isOpen: there is a socket to ask on.
  ///   - transmit: sends the bytes. What it fails with ends the question.
  func ask(
    _ message: STUNMessage, _ question: Question, isOpen: Bool, transmit: @escaping ([UInt8]) -> NetError?,
    _ done: @escaping Done
  ) {
    let what = "ask \(question.server) over \(over)"
    guard isOpen else { return later(done, NetError(.closed, what, cause: "the socket is closed")) }
    guard open.count < most else {
      return later(done, NetError(.limit, what, cause: "\(most) questions wait for their answers already"))
    }
    do throws(STUNError) {
      let bytes = try message.encoded(signature: question.signature)
      let exchange = Exchange(question, { transmit(bytes) }, done)
      open[message.transaction] = exchange
      perform(exchange.transaction.handle(.start, now: loop.now), message.transaction)
    } catch {
      later(done, NetError(.tooLong, what, cause: "\(error)"))
    }
  }

  /// Forgets a question; its callback does not come.
  func cancel(_ id: STUNTransactionID) { open.removeValue(forKey: id)?.timer?.cancel() }

  func failAll(_ error: NetError) {
    let exchanges = open.values
    open = [:]
    for exchange in exchanges {
      exchange.timer?.cancel()
      exchange.done(.failure(error))
    }
  }

  /// A message came. What does not fit its question is dropped as if it had not come: the real answer may follow (RFC 8489
  /// §6.3).
  /// - Returns: false for one that answers nothing that was asked.
  func received(_ message: STUNMessage, from source: Endpoint) -> Bool {
    guard message.kind == .success || message.kind == .failure, let exchange = open[message.transaction] else {
      return false
    }
    guard message.unknownRequired.isEmpty else { return true }
    let question = exchange.question
    if let wanted = question.from {
      guard source.isSame(as: wanted) || message.kind == .failure else { return true }
    } else {
      guard source.isSame(as: question.server) else { return true }
    }
    if let signature = question.signature {
      let isAllowed = message.error.map { Self.unsigned.contains($0.code) } ?? false
      guard isAllowed || message.isAuthentic(signature) else { return true }
    }
    for action in exchange.transaction.handle(.answered, now: loop.now) {
      guard case .succeed(let time, let retransmitted) = action else { continue }
      open[message.transaction] = nil
      exchange.timer?.cancel()
      exchange.done(
        .success(STUNAnswer(message: message, source: source, time: time, isRoundTrip: !retransmitted)))
    }
    return true
  }

  private func later(_ done: @escaping Done, _ error: NetError) {
    loop.assumeIsolated().execute { done(.failure(error)) }
  }

  private func perform(_ actions: [STUNTransaction.Action], _ id: STUNTransactionID) {
    guard let exchange = open[id] else { return }
    for action in actions {
      switch action {
      case .send:
        if let error = exchange.transmit() {
          cancel(id)
          return later(exchange.done, error)
        }
      case .wait(let time):
        exchange.timer = loop.assumeIsolated().scheduleTask(deadline: time) { [weak self] in
          guard let self, let exchange = open[id] else { return }
          perform(exchange.transaction.handle(.timer, now: loop.now), id)
        }
      case .succeed: break  // In received(_:from:), which has the message.
      case .fail(let time):
        open[id] = nil
        let seconds = Double(time.nanoseconds / 1_000_000) / 1000
        let what = "ask \(exchange.question.server) over \(over)"
        exchange.done(.failure(NetError(.timeout, what, cause: "no answer in \(seconds) s")))
      }
    }
  }

  /// Refusals for want of the right credentials cannot be signed, nor can a server that sends one on have them (RFC 8489
  /// §9.2.5, §10).
  private static let unsigned: Set<Int> = [300, 400, 401, 438]
}

extension Endpoint {
  /// The same place, whatever scope id stands with it.
  func isSame(as other: Endpoint) -> Bool {
    port == other.port && ip.family == other.ip.family && ip.high == other.ip.high && ip.low == other.ip.low
  }
}
