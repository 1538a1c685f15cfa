import P2PDNet

/// Finds out who may send in by a mapping (RFC 5780 §4.4): a server is asked, from a port that spoke to it alone, to
/// answer from elsewhere. All questions leave at once.
///
/// Silence counts only from a server that was heard to answer from elsewhere on a port that is open for it (the
/// control), so one that does not do as it says leads to *unknown*. Behind a symmetric NAT no port is open for several
/// addresses at once; there silence is taken for what it nearly always is.
public struct FilteringTest: Sendable {
  public enum Event: Sendable {
    case start
    /// The fresh port has spoken to the server.
    case bound
    case failed
    /// What became of a question.
    case answered(Question)
    case silent(Question)
  }

  public struct Question: Hashable, Sendable {
    /// From the port that has spoken to all of the server's addresses, not from the fresh one.
    public var isControl: Bool
    public var change: STUNChange
    /// Where the answer must come from.
    public var from: Endpoint
  }

  public enum Action: Hashable, Sendable {
    /// Ask the server from a fresh port, so that it is open for that server.
    case bind(Endpoint)
    case ask(Question)
    /// nil: not found out.
    case finish(NATBehaviour.Filtering?)
  }

  public let server: Endpoint
  private let mapping: NATBehaviour.Mapping
  private let elsewhere: Question
  private let otherPort: Question
  private var heard: [Question: Bool] = [:]
  private var isOver = false

  /// - Parameters:
  ///   - other: the server's second address and port.
  ///   - mapping: what is known of it: where nothing is translated, no filter is *none*.
  public init(server: Endpoint, other: Endpoint, mapping: NATBehaviour.Mapping) {
    self.server = server
    self.mapping = mapping
    elsewhere = Question(isControl: false, change: [.ip, .port], from: other)
    otherPort = Question(isControl: false, change: .port, from: Endpoint(ip: server.ip, port: other.port))
  }

  public mutating func handle(_ event: Event) -> [Action] {
    guard !isOver else { return [] }
    switch event {
    case .start: return [.bind(server)]
    case .bound: return questions.map { .ask($0) }
    case .failed: return finish(nil)
    case .answered(let question): heard[question] = true
    case .silent(let question): heard[question] = false
    }
    return conclude()
  }

  private mutating func conclude() -> [Action] {
    // What came in came through; no control is needed for that.
    if heard[elsewhere] == true {
      return finish(mapping == .none ? NATBehaviour.Filtering.none : .endpointIndependent)
    }
    if isSilent(otherPort), heard[elsewhere] != nil { return finish(.addressAndPortDependent) }
    if heard[otherPort] == true, isSilent(elsewhere) { return finish(.addressDependent) }
    return heard.count == questions.count ? finish(nil) : []
  }

  private var questions: [Question] {
    [elsewhere, otherPort] + (mapping.isPredictable ? [elsewhere.control, otherPort.control] : [])
  }

  /// Nothing came where something would have, had the router let it in.
  private func isSilent(_ question: Question) -> Bool {
    heard[question] == false && (!mapping.isPredictable || heard[question.control] == true)
  }

  private mutating func finish(_ filtering: NATBehaviour.Filtering?) -> [Action] {
    isOver = true
    return [.finish(filtering)]
  }
}

extension FilteringTest.Question {
  fileprivate var control: Self { Self(isControl: true, change: change, from: from) }
}
