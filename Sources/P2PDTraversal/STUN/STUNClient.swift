import NIOCore
import P2PDNet

/// How the Internet sees one of our ports.
public struct STUNMapping: Hashable, Sendable {
  public let proto: PipeProto
  /// The inside address and port.
  public let local: Endpoint
  /// The outside ones, as most of the servers that answered saw them.
  public let mapped: Endpoint
}

/// Asks several STUN servers and gives what most of them say. Opens what it needs for each question and closes it again.
///
/// Confined to its loop.
public final class STUNClient: @unchecked Sendable {
  public let servers: [STUNServer]
  public let family: AddressFamily
  /// nil: the interface that packets to the servers leave by.
  public let interface: NetworkInterface?
  private let tls: ServerTLS?
  private let schedule: STUNTransaction.Schedule
  private let loop: any EventLoop

  /// - Parameter tls: for servers that speak nothing else.
  public init(
    servers: [STUNServer], interface: NetworkInterface? = nil, family: AddressFamily = .v4, tls: ServerTLS? = nil,
    schedule: STUNTransaction.Schedule = .quick, on loop: any EventLoop
  ) {
    self.servers = servers
    self.tls = tls
    self.interface = interface
    self.family = family
    self.schedule = schedule
    self.loop = loop
  }

  /// The outside address: over UDP, or where that is blocked over TCP. Fails as ``mapping(_:)`` does.
  public func wanIP() -> EventLoopFuture<IPAddress> {
    place().flatMap { place in
      self.mapping(.udp, from: place).flatMapError { _ in self.mapping(.tcp, from: place) }
    }.map(\.mapped.ip)
  }

  /// The mapping of a fresh port.
  ///
  /// Fails with `.timeout` where no server answers, `.dns` where no server's name can be looked up, `.unreachable` where
  /// there is no way out, `.unsupported` where the interface has no address of the family, `.badAddress` where no server
  /// is named.
  public func mapping(_ proto: PipeProto) -> EventLoopFuture<STUNMapping> {
    place().flatMap { self.mapping(proto, from: $0) }
  }

  /// Everything that can be found out about the path; takes some seconds, of which most prove silence. Fails as
  /// ``mapping(_:)`` does.
  public func nat() -> EventLoopFuture<NATReport> {
    place().flatMap { place in
      let probe = NATProbe(
        interface: place.interface ?? "", local: place.ip, search: place.search, tls: self.tls,
        schedule: self.schedule, on: self.loop)
      probe.start()
      return probe.finished.flatMapThrowing { report in
        if report.hasAnswer { return report }
        throw Self.silence(report.servers)
      }
    }
  }

  // MARK: Asking

  /// Where to ask from, and whom.
  private struct Place: Sendable {
    var ip: IPAddress
    var interface: String?
    var search: STUNSearch
  }

  private func mapping(_ proto: PipeProto, from place: Place) -> EventLoopFuture<STUNMapping> {
    let promise = loop.makePromise(of: STUNMapping.self)
    switch proto {
    case .udp: map(udp: place, promise)
    case .tcp: map(tcp: place, promise)
    }
    return promise.futureResult
  }

  private func map(udp place: Place, _ promise: EventLoopPromise<STUNMapping>) {
    STUNSocket.open(bind: Endpoint(ip: place.ip, port: 0), interface: place.interface, on: loop)
      .assumeIsolated().whenComplete { result in
        switch result {
        case .failure(let error): promise.fail(NetError(error, "ask STUN servers over UDP"))
        case .success(let socket):
          self.run(place.search, .udp, socket.local, promise, close: { socket.close() }) {
            socket.bind($0.endpoint, schedule: self.schedule, $1)
          }
        }
      }
  }

  private func map(tcp place: Place, _ promise: EventLoopPromise<STUNMapping>) {
    let port = TCPPort(ip: place.ip, interface: place.interface, tls: tls, on: loop)
    run(place.search, .tcp, port.local, promise, close: { port.close() }) { port.ask($0, $1) }
  }

  /// Ends with the first verdict that most agree on; what is left is not waited for.
  private func run(
    _ search: STUNSearch, _ proto: PipeProto, _ local: Endpoint, _ promise: EventLoopPromise<STUNMapping>,
    close: @escaping () -> Void, ask: @escaping MappingRun.Ask
  ) {
    var isOver = false
    var keep: MappingRun?
    let run = MappingRun(search, proto, ask: ask) { verdict, isFinal in
      guard !isOver, isFinal || verdict.mapping != nil else { return }
      isOver = true
      if let mapped = verdict.mapped.first {
        promise.succeed(STUNMapping(proto: proto, local: local, mapped: mapped))
      } else {
        promise.fail(Self.silence(keep?.findings ?? []))
      }
      // On the next turn: this may be called from within one of the answers.
      self.loop.assumeIsolated().execute {
        keep = nil
        close()
      }
    }
    keep = run
    run.start(local: local)
  }

  /// - Parameter findings: none where no server speaks the transport at all.
  private static func silence(_ findings: [NATReport.ServerFinding]) -> NetError {
    let attempts = findings.map { finding in
      NetError(.timeout, "ask \(finding.server) over \(finding.means)", cause: finding.problem ?? "")
    }
    let cause = findings.isEmpty ? "none of them can be asked that way" : "none gave an answer"
    return NetError(.timeout, "ask STUN servers", cause: cause, attempts: attempts)
  }

  /// The address of ours that leads to the servers. The first of them that is found will do; the others are still looked
  /// for.
  private func place() -> EventLoopFuture<Place> {
    let what = "ask STUN servers"
    guard !servers.isEmpty else {
      return loop.makeFailedFuture(NetError(.badAddress, what, cause: "none is configured"))
    }
    let search = STUNSearch(servers, family, patience: Self.lookupPatience, on: loop)
    return search.first(on: loop).assumeIsolated().flatMap { first in
      guard let first else {
        let error = NetError(.dns, what, cause: "none of their names has an \(self.family) address that can be found")
        return self.loop.makeFailedFuture(error)
      }
      if let interface = self.interface {
        guard let ip = interface.route(self.family)?.nicIPs.first else {
          let error = NetError(.unsupported, what, cause: "\(interface.name) has no \(self.family) address")
          return self.loop.makeFailedFuture(error)
        }
        return self.loop.makeSucceededFuture(Place(ip: ip, interface: interface.name, search: search))
      }
      // The kernel tells by which of our addresses it would send (nothing is sent).
      return PipeOpener.open(.udp, to: .endpoint(first), on: self.loop).flatMapThrowing { pipe in
        let ip = pipe.localEndpoint?.ip
        pipe.close(flush: .zero)
        guard let ip else { throw NetError(.unreachable, what, cause: "there is no way to \(first)") }
        return Place(ip: ip, search: search)
      }
    }.nonisolated()
  }

  private static let lookupPatience: TimeAmount = .seconds(2)
}
