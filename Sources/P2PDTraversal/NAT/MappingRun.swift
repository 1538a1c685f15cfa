import NIOCore
import P2PDNet

/// Performs a ``MappingTest`` from one inside port, over whatever `ask` speaks. Confined to its loop.
final class MappingRun {
  typealias Ask = (STUNPlace, @escaping (Result<STUNAnswer, NetError>) -> Void) -> Void

  private(set) var test = MappingTest()
  /// What each server said, in the order of the answers.
  private(set) var findings: [NATReport.ServerFinding] = []
  /// Whether there was any to ask.
  var hasAsked: Bool { !places.isEmpty }
  private var places: [Endpoint: STUNPlace] = [:]
  private let search: STUNSearch
  private let transport: PipeProto
  private let ask: Ask
  private let told: (MappingTest.Verdict, _ isFinal: Bool) -> Void

  init(
    _ search: STUNSearch, _ transport: PipeProto, ask: @escaping Ask,
    told: @escaping (MappingTest.Verdict, _ isFinal: Bool) -> Void
  ) {
    self.search = search
    self.transport = transport
    self.ask = ask
    self.told = told
  }

  func start(local: Endpoint) {
    perform(test.handle(.start(local: local)))
    search.follow { [weak self] event in
      guard let self else { return }
      switch event {
      case .found(let place):
        guard place.speaks(transport), place.endpoint.ip.family == local.ip.family else { return }
        places[place.endpoint] = place
        perform(test.handle(.found(place.endpoint)))
      case .over: perform(test.handle(.searched))
      }
    }
  }

  /// A server that was asked, or its second address, which is spoken to like any.
  func place(of server: Endpoint) -> STUNPlace { places[server] ?? STUNPlace(server) }

  private func perform(_ actions: [MappingTest.Action]) {
    for action in actions {
      switch action {
      case .ask(let server): ask(place(of: server)) { self.received($0, from: server) }
      case .conclude(let verdict): told(verdict, false)
      case .finish(let verdict):
        for index in findings.indices where verdict.doubted.contains(findings[index].server) {
          findings[index].problem = "contradicts the other servers"
        }
        told(verdict, true)
      }
    }
  }

  private func received(_ result: Result<STUNAnswer, NetError>, from server: Endpoint) {
    let isTLS = place(of: server).transport == .tls
    var finding = NATReport.ServerFinding(server: server, transport: transport, isTLS: isTLS)
    finding.isSecond = places[server] == nil
    let event: MappingTest.Event
    switch result {
    case .success(let answer):
      if answer.message.kind == .success, let mapped = answer.message.mapped {
        finding.mapped = mapped
        if answer.isRoundTrip { finding.roundTrip = answer.time }
        // A second address is one of UDP and TCP (RFC 5780 §7.4).
        event = .answered(server, mapped: mapped, other: isTLS ? nil : answer.message.other)
      } else {
        let error = answer.message.error
        finding.problem = error.map { "error \($0.code) \($0.reason.prefix(80))" } ?? "no mapped address in its answer"
        event = .failed(server)
      }
    case .failure(let error):
      finding.problem = error.cause.isEmpty ? "\(error)" : error.cause
      event = .failed(server)
    }
    findings.append(finding)
    perform(test.handle(event))
  }
}
