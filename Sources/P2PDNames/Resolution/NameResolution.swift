import NIOCore
import P2PDNet

/// Decides what a name stands for while its sources answer. All are asked at once; of those that know the name, the
/// first in order decides. Nobody waits for the local network for long: it answers at once, or has nobody of that name.
/// Stepped by hand.
struct NameResolution {
  enum Event {
    case said(NameFinding)
    case tick
  }

  enum Action: Equatable {
    case wake(NIODeadline)
    /// The sources have said enough: ``result``.
    case done
  }

  let name: PeerName
  /// The key the name must have, and whence it is known.
  let expected: (key: [UInt8], whence: String)?
  private let began: NIODeadline
  private let waitsForAll: Bool
  private var said: [LookupSource: NameFinding] = [:]
  private var waiting: Set<LookupSource>
  private(set) var result: Result<ResolvedName, NetError>?
  private var isDone = false
  private var hasWake = false

  /// - Parameters:
  ///   - sources: those that will say something.
  ///   - all: waits for every one, though who wins is known before.
  init(
    _ name: PeerName, sources: Set<LookupSource>, expected: (key: [UInt8], whence: String)?, all: Bool,
    at now: NIODeadline
  ) {
    self.name = name
    self.expected = expected
    waiting = sources
    waitsForAll = all
    began = now
  }

  var findings: [NameFinding] { said.values.sorted { $0.source < $1.source } }

  mutating func handle(_ event: Event, now: NIODeadline) -> [Action] {
    if case .said(let finding) = event, waiting.remove(finding.source) != nil { said[finding.source] = finding }
    if result == nil { result = verdict(now) }
    if result != nil, !isDone, !waitsForAll || waiting.isEmpty {
      isDone = true
      return [.done]
    }
    // Only the local network is waited for and others know the name.
    guard !isDone, !hasWake, waiting.contains(.lan), now < began + Self.lanTime else { return [] }
    hasWake = true
    return [.wake(began + Self.lanTime)]
  }

  /// nil: one that is still to answer may decide otherwise.
  private func verdict(_ now: NIODeadline) -> Result<ResolvedName, NetError>? {
    for source in LookupSource.allCases {
      if waiting.contains(source) {
        if source == .lan, now >= began + Self.lanTime { continue }
        return nil
      }
      guard let finding = said[source], let key = finding.key, let address = finding.address else { continue }
      if let expected, expected.key != key { continue }
      return .success(ResolvedName(name: name, key: key, address: address, source: source))
    }
    return waiting.isEmpty ? .failure(failure) : nil
  }

  /// Why nobody's answer will do.
  private var failure: NetError {
    if let expected, let other = findings.first(where: { $0.address != nil && $0.key != expected.key }) {
      return .keyChanged(
        name, from: expected.key, expected.whence, to: other.key ?? [], "\(other.source.words), \(other.teller)",
        remedy: remedy)
    }
    let what = "find \(name)"
    let met = findings.compactMap { finding -> NetError? in
      switch finding.outcome {
      case .failed(let error): error
      case .absent: NetError(.notFound, finding.source.words, cause: "nobody of this name")
      case .notAsked(let why): NetError(.unsupported, finding.source.words, cause: "not asked: \(why)")
      case .found: nil
      }
    }
    let failed = findings.compactMap { if case .failed(let error) = $0.outcome { error } else { nil } }
    guard let worst = failed.first(where: { $0.code != .notFound }) else {
      return NetError(.notFound, what, cause: "nobody knows this name", attempts: met, remedy: absentRemedy)
    }
    return NetError(worst.code, what, cause: worst.cause, attempts: met, remedy: worst.remedy)
  }

  private var remedy: String {
    said[.file]?.key == expected?.key && expected != nil && said[.file]?.key != nil
      ? "If the new key is right, correct the line in your names file."
      : "If the new key is right: p2pd-lua names forget \(name)"
  }

  private var absentRemedy: String {
    let unasked = findings.first { if case .notAsked = $0.outcome { $0.source == .servers } else { false } }
    guard let unasked, case .notAsked(let why) = unasked.outcome else { return "" }
    return why.contains("configured")
      ? "Name the servers of .\(name.tld) in p2pd.conf.lua (servers.names) or P2PD_NAMES, or host some: docs/names.md."
      : ""
  }

  /// For the local network to answer before others decide: nodes answer within 20 to 120 ms (RFC 6762 §6), and a
  /// question that was lost is asked again after 250 ms.
  static let lanTime = TimeAmount.milliseconds(400)
}
