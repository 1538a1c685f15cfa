import NIOCore
import P2PDNet

/// What a session does with messages to publish: a bounded queue, a bounded window without PUBACK, and an end to each.
extension MQTTSession {
  mutating func publish(_ message: Outgoing, _ now: NIODeadline) {
    guard phase != .stopped else {
      actions.append(.done(token: message.token, .failure(error(.cancelled, "signalling was stopped"))))
      return
    }
    // Full: the oldest goes. A signal is about the present, so the newest is worth most.
    if queue.count >= Self.longestQueue, let oldest = queue.popFirst() {
      actions.append(
        .done(token: oldest.token, .failure(error(.limit, "more than \(Self.longestQueue) messages wait for it"))))
    }
    queue.append(message)
    flush(now)
  }

  /// Sends what may leave: from the moment the pipe is open, up to the window.
  mutating func flush(_ now: NIODeadline) {
    guard phase == .greeting || phase == .joining || phase == .up else { return }
    var packets: [MQTTPacket] = []
    var unconfirmed: [UInt64] = []
    while inFlight.count < Self.window, let message = queue.first {
      queue.removeFirst()
      guard message.expires > now else {
        actions.append(.done(token: message.token, .failure(tooLate())))
        continue
      }
      var publish = MQTTPublish(topic: message.topic, payload: message.payload, qos: message.qos)
      if message.qos > 0 {
        let id = makeID()
        publish.id = id
        inFlight.append((id, message, phase == .up ? now : nil))
      } else {
        unconfirmed.append(message.token)
      }
      packets.append(.publish(publish))
    }
    guard !packets.isEmpty else { return }
    actions.append(.send(packets))
    // At quality 0 nobody confirms: given to the connection is all there is to know.
    for token in unconfirmed { actions.append(.done(token: token, .success(()))) }
  }

  /// Ends what waited too long. What has no PUBACK may have arrived all the same, so the failure says so.
  mutating func expire(_ now: NIODeadline) {
    let late = queue.filter { $0.expires <= now }
    let unanswered = inFlight.filter { $0.message.expires <= now }
    guard !late.isEmpty || !unanswered.isEmpty else { return }
    queue.removeAll { $0.expires <= now }
    inFlight.removeAll { $0.message.expires <= now }
    for message in late { actions.append(.done(token: message.token, .failure(tooLate()))) }
    for entry in unanswered {
      actions.append(
        .done(token: entry.message.token, .failure(error(.timeout, "the broker did not confirm the message"))))
    }
  }

  private func tooLate() -> NetError {
    if let lastError { return NetError(lastError.code, "publish at \(settings.name)", cause: lastError.description) }
    return error(.timeout, "no connection to it in time")
  }

  /// An identifier that is not in use (§2.3.1), never 0.
  mutating func makeID() -> UInt16 {
    repeat {
      nextID &+= 1
    } while nextID == 0 || inFlight.contains { $0.id == nextID }
    return nextID
  }

  /// Messages that wait for a connection or a place in the window: a hundred connects at once, and their answers.
  static let longestQueue = 256
  /// Messages without PUBACK; brokers have such a window too, mosquitto's is 20.
  static let window = 16
}
