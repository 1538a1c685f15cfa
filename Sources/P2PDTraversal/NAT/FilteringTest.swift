import P2PDNet

/// Finds out who may send in by a mapping (RFC 5780 §4.4): a server is asked, from a port that spoke to it alone, to
/// answer from elsewhere. All questions leave at once.
///
/// What came in came through, and says so. Silence has to be told from packets that were lost and from a server that does
/// not do as it says: it counts beside a *control* that was answered. Where a port is open for several addresses at once,
/// that is the same question from such a port. Behind a symmetric NAT there is none; there it is a plain question from
/// the same port, and a second address of the server's is asked for as well. That one of its ports gets through and its
/// other addresses do not rests on silence in the midst of answers: it must be seen twice. Anything else is *unknown*.
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
    /// Empty: a plain question.
    public var change: STUNChange
    /// Where the answer must come from.
    public var from: Endpoint
    /// It was asked before, to no avail.
    public var isRepeated = false
  }

  public enum Action: Hashable, Sendable {
    /// Ask the server from a fresh port, so that it is open for that server.
    case bind(Endpoint)
    case ask(Question)
    /// nil: not found out.
    case finish(NATBehaviour.Filtering?)
  }

  public let server: Endpoint
  /// What it takes as known; a verdict for another one is worth nothing.
  public let mapping: NATBehaviour.Mapping
  /// Answers from the server's other address.
  private let strangers: [Question]
  private let otherPort: Question
  private var open: Set<Question> = []
  private var heard: Set<Question> = []
  private var isRepeating = false
  private var isOver = false

  /// - Parameters:
  ///   - other: the server's second address and port.
  ///   - mapping: what is known of it: where nothing is translated, no filter is *none*.
  public init(server: Endpoint, other: Endpoint, mapping: NATBehaviour.Mapping) {
    self.server = server
    self.mapping = mapping
    let elsewhere = Question(isControl: false, change: [.ip, .port], from: other)
    let otherAddress = Question(isControl: false, change: .ip, from: Endpoint(ip: other.ip, port: server.port))
    // The port of the controls has not spoken to the second address's first port.
    strangers = mapping.isPredictable ? [elsewhere] : [elsewhere, otherAddress]
    otherPort = Question(isControl: false, change: .port, from: Endpoint(ip: server.ip, port: other.port))
  }

  public mutating func handle(_ event: Event) -> [Action] {
    guard !isOver else { return [] }
    switch event {
    case .start: return [.bind(server)]
    case .bound: return ask(strangers + [otherPort])
    case .failed: return finish(nil)
    case .answered(let question):
      guard open.remove(question) != nil else { return [] }
      heard.insert(question)
      // No control is needed for that.
      if strangers.contains(question.first) {
        return finish(mapping == .none ? NATBehaviour.Filtering.none : .endpointIndependent)
      }
    case .silent(let question): guard open.remove(question) != nil else { return [] }
    }
    return open.isEmpty ? conclude() : []
  }

  private mutating func ask(_ questions: [Question]) -> [Action] {
    var all: [Question] = []
    for var question in questions + questions.map(control(of:)) {
      question.isRepeated = isRepeating
      if open.insert(question).inserted { all.append(question) }
    }
    return all.map { .ask($0) }
  }

  /// Every question has met its end, and nothing came from another address.
  private mutating func conclude() -> [Action] {
    guard strangers.allSatisfy(isSilent) else { return finish(nil) }
    if isRepeating { return finish(.addressDependent) }
    if isSilent(otherPort) { return finish(.addressAndPortDependent) }
    guard heard.contains(otherPort) else { return finish(nil) }
    isRepeating = true
    return ask(strangers)
  }

  /// Nothing came where something would have, had the router let it in.
  private func isSilent(_ question: Question) -> Bool {
    var (question, control) = (question, control(of: question))
    (question.isRepeated, control.isRepeated) = (isRepeating, isRepeating)
    return !heard.contains(question) && heard.contains(control)
  }

  private func control(of question: Question) -> Question {
    mapping.isPredictable
      ? Question(isControl: true, change: question.change, from: question.from)
      : Question(isControl: false, change: [], from: server)
  }

  private mutating func finish(_ filtering: NATBehaviour.Filtering?) -> [Action] {
    isOver = true
    return [.finish(filtering)]
  }
}

extension FilteringTest.Question {
  fileprivate var first: Self {
    var first = self
    first.isRepeated = false
    return first
  }
}
