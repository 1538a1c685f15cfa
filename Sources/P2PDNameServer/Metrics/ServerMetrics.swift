import NIOCore
import NIOHTTP1

/// What the server counted, in Prometheus' text format. Two dozen numbers, confined to the loop: swift-metrics and a backend for it
/// would be two packages more to build and keep.
struct ServerMetrics {
  /// What is read off when asked.
  struct Gauges {
    var names: Int
    var connections: Int
    var uptime: Int
    var storeBytes: Int
    var cacheHits: Int
    var cacheMisses: Int
    var transactions: Int
    var stored: Int
  }

  private struct Kind: Hashable {
    let method: String
    let status: UInt
  }

  var refusedConnections = 0
  private var answers: [Kind: Int] = [:]
  private var times = [Int](repeating: 0, count: ServerMetrics.bounds.count + 1)
  private var seconds = 0.0

  mutating func answered(_ method: HTTPMethod, _ status: HTTPResponseStatus, after time: TimeAmount) {
    // A client makes methods up as it likes; of those known here there are four.
    let isKnown = [.GET, .HEAD, .PUT, .DELETE].contains(method)
    answers[Kind(method: isKnown ? method.rawValue : "other", status: status.code), default: 0] += 1
    let taken = Double(time.nanoseconds) / 1e9
    seconds += taken
    times[Self.bounds.firstIndex { taken <= $0 } ?? Self.bounds.count] += 1
  }

  func text(_ gauges: Gauges) -> String {
    var out = ""
    func metric(_ name: String, _ type: String, _ help: String, _ lines: [(labels: String, value: String)]) {
      out += "# HELP p2pd_names_\(name) \(help)\n# TYPE p2pd_names_\(name) \(type)\n"
      for line in lines { out += "p2pd_names_\(name)\(line.labels) \(line.value)\n" }
    }
    func one(_ name: String, _ type: String, _ help: String, _ value: Int) {
      metric(name, type, help, [("", "\(value)")])
    }
    metric(
      "requests_total", "counter", "Requests answered.",
      answers.sorted { ($0.key.method, $0.key.status) < ($1.key.method, $1.key.status) }.map {
        ("{method=\"\($0.key.method)\",status=\"\($0.key.status)\"}", "\($0.value)")
      })
    out += "# HELP p2pd_names_request_seconds From a request's head to its answer.\n"
    out += "# TYPE p2pd_names_request_seconds histogram\n"
    var sum = 0
    for (index, count) in times.enumerated() {
      sum += count
      let bound = index < Self.bounds.count ? "\(Self.bounds[index])" : "+Inf"
      out += "p2pd_names_request_seconds_bucket{le=\"\(bound)\"} \(sum)\n"
    }
    out += "p2pd_names_request_seconds_sum \(seconds)\np2pd_names_request_seconds_count \(sum)\n"
    one("stored", "gauge", "Names on disk, those expired and not yet removed included.", gauges.names)
    one("stored_bytes", "gauge", "Bytes of the database and its log.", gauges.storeBytes)
    one("changes_total", "counter", "Records written.", gauges.stored)
    one("transactions_total", "counter", "Transactions they were written in.", gauges.transactions)
    one("cache_hits_total", "counter", "Lookups answered from memory.", gauges.cacheHits)
    one("cache_misses_total", "counter", "Lookups that asked the disk.", gauges.cacheMisses)
    one("connections", "gauge", "Open connections.", gauges.connections)
    one("refused_connections_total", "counter", "Connections turned away for want of room.", refusedConnections)
    one("uptime_seconds", "gauge", "Since the start.", gauges.uptime)
    return out
  }

  /// Seconds. A lookup from memory takes less than the first, an fsync of a disk some of the middle ones.
  private static let bounds = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1]
}
