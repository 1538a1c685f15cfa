import LuaVM
import NIOCore
import P2PDNet
import P2PDTraversal

extension ScriptHost {
  /// `p2pd.ntp([servers])`
  func ntp(_ call: borrowing LuaCall) throws -> LuaReturn {
    try refuseAtTopLevel("ntp", call)
    let servers = try namedServers(call) ?? ntpServers
    guard !servers.isEmpty else {
      return failure(.badAddress, "ntp", cause: "no time server is configured, or the node is offline")
    }
    guard call.canWait else { return .wait }
    let waiter = wait(call.wait)
    NTPClient(servers: servers, on: loop).ask().assumeIsolated().whenSuccess { report in
      do throws(NetError) {
        let reading = try report.get()
        waiter.finish([reading.lua(report.servers, at: NTPClient.systemClock())])
      } catch {
        self.finish(waiter, failing: error)
      }
    }
    return .wait
  }

  /// The first argument: a server or a list of them; nil where it is left out.
  private func namedServers(_ call: borrowing LuaCall) throws -> [ServerURL]? {
    if call.isNone(0) { return nil }
    let texts: [String]
    switch try call.value(0) {
    case .string(let bytes): texts = [String(decoding: bytes, as: UTF8.self)]
    case .table(let pairs):
      texts = try pairs.sequence.map {
        guard case .string(let bytes) = $0 else {
          throw Misuse("bad argument #1 to 'ntp' (a list of strings expected)")
        }
        return String(decoding: bytes, as: UTF8.self)
      }
    default: throw call.need(0, 1, "ntp", "string or table")
    }
    return try texts.map { text in
      guard let url = try? ServerURL(text, scheme: .ntp), url.scheme == .ntp else {
        throw Misuse("bad argument #1 to 'ntp' (\"\(text.prefix(60))\" is no \"host\" or \"host:port\")")
      }
      return url
    }
  }

  private var ntpServers: [ServerURL] { servers.ntp }
}

extension ClockReading {
  /// `p2pd.clock`
  fileprivate func lua(_ servers: [ClockFinding], at now: Int64) -> LuaValue {
    func pairs(_ fields: [(String, LuaValue)]) -> LuaValue {
      .table(fields.filter { if case .nil = $0.1 { false } else { true } }.map { (key: .string($0.0), value: $0.1) })
    }
    let findings = servers.map { server in
      pairs([
        ("server", .string(server.server)), ("stratum", server.stratum.map { .int(Int64($0)) } ?? .nil),
        ("offset", server.reading.map { .number($0.offset.inSeconds) } ?? .nil),
        ("round_trip", server.reading.map { .number($0.roundTrip.inSeconds) } ?? .nil),
        ("problem", server.problem.map { .string($0) } ?? .nil),
      ])
    }
    return pairs([
      ("time", .number(Double(corrected(now)) / 1e9)), ("offset", .number(offset.inSeconds)),
      ("error", .number(error.inSeconds)), ("round_trip", .number(roundTrip.inSeconds)),
      ("servers", .list(findings)),
    ])
  }
}
