import P2PDNet

/// Finds out who may send in by a mapping (RFC 5780 §4.4): a server is asked, from a port that spoke to it alone, to
/// answer from elsewhere. All questions leave at once.
///
/// Silence counts only from a server that was heard to answer from elsewhere on a port that is open for it (the
/// control), so one that does not do as it says leads to *unknown*.
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
  private let isTranslated: Bool
  private let elsewhere: Question
  private let otherPort: Question
  private var heard: [Question: Bool] = [:]
  private var isOver = false

  /// - Parameters:
  ///   - other: the server's second address and port.
  ///   - isTranslated: there is a NAT, not a firewall alone.
  public init(server: Endpoint, other: Endpoint, isTranslated: Bool) {
    self.server = server
    self.isTranslated = isTranslated
    elsewhere = Question(isControl: false, change: [.ip, .port], from: other)
    otherPort = Question(isControl: false, change: .port, from: Endpoint(ip: server.ip, port: other.port))
  }

  public mutating func handle(_ event: Event) -> [Action] {
    guard !isOver else { return [] }
    switch event {
    case .start: return [.bind(server)]
    case .bound: return [elsewhere, otherPort, elsewhere.control, otherPort.control].map { .ask($0) }
    case .failed: return finish(nil)
    case .answered(let question): heard[question] = true
    case .silent(let question): heard[question] = false
    }
    return conclude()
  }

  private mutating func conclude() -> [Action] {
    // What came in came through; no control is needed for that.
    if heard[elsewhere] == true { return finish(isTranslated ? .endpointIndependent : NATBehaviour.Filtering.none) }
    if heard[otherPort] == false, heard[otherPort.control] == true { return finish(.addressAndPortDependent) }
    if heard[otherPort] == true, heard[elsewhere] == false, heard[elsewhere.control] == true {
      return finish(.addressDependent)
    }
    return heard.count == 4 ? finish(nil) : []
  }

  private mutating func finish(_ filtering: NATBehaviour.Filtering?) -> [Action] {
    isOver = true
    return [.finish(filtering)]
  }
}

extension FilteringTest.Question {
  fileprivate var control: Self { Self(isControl: true, change: change, from: from) }
}
