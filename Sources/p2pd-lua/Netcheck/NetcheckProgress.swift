import NIOCore

/// How far a look at the network is, as a line for a terminal.
struct NetcheckProgress: Sendable {
  enum Part: String, CaseIterable, Sendable {
    case paths = "NAT"
    case router, brokers, servers, clock
  }

  private var parts: [Part: (done: Int, all: Int)] = [:]

  mutating func expect(_ part: Part, _ count: Int = 1) { parts[part, default: (0, 0)].all += count }
  mutating func finished(_ part: Part) { parts[part, default: (0, 0)].done += 1 }

  var isDone: Bool { parts.values.allSatisfy { $0.done >= $0.all } }

  /// `looking at the network: NAT 1/2, brokers 2/3, clock (1.2 s)`: what is not done yet.
  func text(after time: TimeAmount) -> String {
    let open = Part.allCases.compactMap { part -> String? in
      guard let (done, all) = parts[part], done < all else { return nil }
      return all == 1 ? part.rawValue : "\(part.rawValue) \(done)/\(all)"
    }
    let tenths = time.nanoseconds / 100_000_000
    return "looking at the network: \(open.joined(separator: ", ")) (\(tenths / 10).\(tenths % 10) s)"
  }
}
