import LuaVM
import NIOCore
import P2PDNet
import P2PDNode

/// One open pipe, as a person or a monitor wants to see it.
public struct PipeReport: Sendable {
  public var id: UInt64
  /// The hosted protocol whose script serves it.
  public var protocolName: String
  public var proto: PipeProto
  public var isServer: Bool
  /// The other side's address; of a server its own.
  public var place: String
  /// The key the other side has proven, empty where there is none.
  public var peerID: String
  /// The way to the other node ("same machine"), empty for pipes that are not between nodes.
  public var path: String
  public var strategy: String
  public var stats: PipeStats
}

/// One hosted protocol.
public struct ProtocolReport: Sendable {
  public var name: String
  public var path: String
  public var version: Int
  public var generation: Int64
  /// Who names no protocol gets this one.
  public var isDefault: Bool
  /// Its generation is new, and is taken back if it fails.
  public var isOnProbation: Bool
  /// Given to its present generation, and failed there.
  public var messages: UInt64
  public var errors: UInt64
  public var pipes: Int
}

/// A script host at one moment.
public struct HostReport: Sendable {
  public var protocols: [ProtocolReport] = []
  public var traffic = Traffic()
  /// Over the last 10 seconds.
  public var rates = TrafficRates()
  public var pipes = 0
  public var tasks = 0
  /// Bytes the Lua VM holds now, at most so far, and may hold.
  public var memory = 0
  public var memoryPeak = 0
  public var memoryLimit = 0
  /// Handlers stopped for running too long.
  public var kills = 0
  /// How late the event loop was, over the last 10 seconds.
  public var lagMean = TimeAmount.zero
  public var lagWorst = TimeAmount.zero
  /// Since ``ScriptHost/startMeasuring()``.
  public var uptime = TimeAmount.zero
}

/// What a running host tells from outside. Call these on the host's event loop.
extension ScriptHost {
  public func report() -> HostReport {
    loop.assertInEventLoop()
    var report = HostReport()
    guard !isClosed else { return report }
    let now = loop.now
    for (index, hosted) in hosted.enumerated() {
      let generation = hosted.current
      report.protocols.append(
        ProtocolReport(
          name: hosted.name, path: hosted.path, version: generation.version, generation: generation.id,
          isDefault: index == 0, isOnProbation: hosted.probation != nil, messages: generation.counters.messages,
          errors: generation.counters.errors, pipes: hosted.slot.pipes.count))
    }
    report.pipes = openFaces.count
    report.traffic = traffic
    report.rates = observation.meter.rates(over: Self.rateWindow)
    let stats = vm.stats
    (report.memory, report.memoryPeak, report.memoryLimit) = (stats.memoryUsed, stats.memoryPeak, vm.limits.memory)
    (report.tasks, report.kills) = (stats.tasksLive, stats.kills)
    (report.lagMean, report.lagWorst) = observation.lag.lag(over: Self.rateWindow, now: now)
    report.uptime = observation.startedAt.map { now - $0 } ?? .zero
    return report
  }

  /// The open pipes scripts have to do with, oldest first.
  public func pipeReports() -> [PipeReport] {
    loop.assertInEventLoop()
    return openFaces.map { face in
      let pipe = face.pipe
      return PipeReport(
        id: pipe.id, protocolName: face.protocolName, proto: pipe.proto, isServer: pipe.isServer,
        place: (pipe.isServer ? pipe.localEndpoint?.description : pipe.peer?.description) ?? "",
        peerID: NodeKey(bytes: pipe.peerKey)?.description ?? "", path: pipe.path, strategy: pipe.strategy,
        stats: pipe.stats())
    }
  }

  /// Ends a pipe; the other side is told that it was the operator's wish. Calls back with the bytes that could not be
  /// sent. False: there is no such pipe.
  public func endPipe(_ id: UInt64, then: @escaping (Int) -> Void) -> Bool {
    loop.assertInEventLoop()
    guard let pipe = face(id)?.pipe, pipe.isOpen else { return false }
    pipe.ended.assumeIsolated().whenComplete { _ in then(pipe.lost) }
    pipe.close(.cancelled, saying: "the operator of the node ended the pipe")
    return true
  }

  // MARK: Inside

  /// The open pipes: those of the protocols, and those that scripts opened themselves.
  var faces: [PipeFace] {
    let own = generations.values.flatMap { $0.openPipes } + hosted.flatMap { $0.slot.pipes.values }
    return own.filter { $0.endReason == nil }
  }

  /// The same, oldest first.
  var openFaces: [PipeFace] { faces.sorted { $0.pipe.id < $1.pipe.id } }

  func face(_ id: UInt64) -> PipeFace? { faces.first { $0.pipe.id == id } }

  func hostedProtocol(_ name: String) -> HostedProtocol? { hosted.first { $0.name == name } }

  static let rateWindow = TimeAmount.seconds(10)
}

extension PipeFace {
  /// The hosted protocol whose script has to do with the pipe; else the script's file.
  var protocolName: String { generation.hosted?.name ?? generation.name }
}
