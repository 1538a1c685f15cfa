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
  private let schedule: STUNTransaction.Schedule
  private let loop: any EventLoop

  public init(
    servers: [STUNServer], interface: NetworkInterface? = nil, family: AddressFamily = .v4,
    schedule: STUNTransaction.Schedule = .quick, on loop: any EventLoop
  ) {
    self.servers = servers
    self.interface = interface
    self.family = family
    self.schedule = schedule
    self.loop = loop
  }

  /// The outside address: over UDP, or where that is blocked over TCP.
  public func wanIP() -> EventLoopFuture<IPAddress> {
    mapping(.udp).flatMapError { _ in self.mapping(.tcp) }.map(\.mapped.ip)
  }

  /// The mapping of a fresh port.
  ///
  /// Fails with `.timeout` where no server answers, `.dns` where no server's name can be looked up, `.unreachable` where
  /// there is no way out.
  public func mapping(_ proto: PipeProto) -> EventLoopFuture<STUNMapping> {
    place().flatMap { place, servers in
      let promise = self.loop.makePromise(of: STUNMapping.self)
      switch proto {
      case .udp: self.map(udp: place, servers, promise)
      case .tcp: self.map(tcp: place, servers, promise)
      }
      return promise.futureResult
    }
  }

  /// Everything that can be found out about the path; takes some seconds, of which most prove silence.
  public func nat() -> EventLoopFuture<NATReport> {
    place().flatMap { place, servers in
      let probe = NATProbe(
        interface: place.interface ?? "", local: place.ip, servers: servers, schedule: self.schedule, on: self.loop)
      probe.start()
      return probe.finished
    }
  }

  // MARK: Asking

  /// Where to ask from.
  private struct Place {
    var ip: IPAddress
    var interface: String?
  }

  private func map(udp place: Place, _ servers: [Endpoint], _ promise: EventLoopPromise<STUNMapping>) {
    STUNSocket.open(bind: Endpoint(ip: place.ip, port: 0), interface: place.interface, on: loop)
      .assumeIsolated().whenComplete { result in
        switch result {
        case .failure(let error): promise.fail(NetError(error, "ask STUN servers over UDP"))
        case .success(let socket):
          self.run(servers, .udp, socket.local, promise, close: { socket.close() }) {
            socket.bind($0, schedule: self.schedule, $1)
          }
        }
      }
  }

  private func map(tcp place: Place, _ servers: [Endpoint], _ promise: EventLoopPromise<STUNMapping>) {
    let port = TCPPort(ip: place.ip, interface: place.interface, on: loop)
    run(servers, .tcp, port.local, promise, close: { port.close() }) { port.ask($0, $1) }
  }

  /// Ends with the first verdict that most agree on; what is left is not waited for.
  private func run(
    _ servers: [Endpoint], _ proto: PipeProto, _ local: Endpoint, _ promise: EventLoopPromise<STUNMapping>,
    close: @escaping () -> Void, ask: @escaping MappingRun.Ask
  ) {
    var isOver = false
    var keep: MappingRun?
    let run = MappingRun(servers, proto, ask: ask) { verdict, isFinal in
      guard !isOver, isFinal || verdict.mapping != nil else { return }
      isOver = true
      if let mapped = verdict.mapped.first {
        promise.succeed(STUNMapping(proto: proto, local: local, mapped: mapped))
      } else {
        let attempts = (keep?.findings ?? []).map { finding in
          NetError(.timeout, "ask \(finding.server) over \(proto.rawValue)", cause: finding.problem ?? "")
        }
        promise.fail(NetError(.timeout, "ask STUN servers", cause: "none gave an answer", attempts: attempts))
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

  /// The servers' addresses, and the address of ours that leads to them.
  private func place() -> EventLoopFuture<(Place, [Endpoint])> {
    let what = "ask STUN servers"
    let network: any Network
    do {
      network = try loop.requireNetwork(what)
    } catch {
      return loop.makeFailedFuture(error)
    }
    guard !servers.isEmpty else {
      return loop.makeFailedFuture(NetError(.badAddress, what, cause: "none is configured"))
    }
    let lookups = servers.map { server in
      network.resolve(server.host, families: [family], timeout: Self.lookupPatience)
        .map { $0.prefix(1).map { Endpoint(ip: $0, port: server.port) } }.recover { _ in [] }
    }
    return EventLoopFuture.whenAllSucceed(lookups, on: loop).flatMap { found in
      let endpoints = found.flatMap { $0 }
      guard let first = endpoints.first else {
        let error = NetError(.dns, what, cause: "none of their names has an \(self.family) address that can be found")
        return self.loop.makeFailedFuture(error)
      }
      if let interface = self.interface {
        guard let ip = interface.route(self.family)?.nicIPs.first else {
          let error = NetError(.unsupported, what, cause: "\(interface.name) has no \(self.family) address")
          return self.loop.makeFailedFuture(error)
        }
        return self.loop.makeSucceededFuture((Place(ip: ip, interface: interface.name), endpoints))
      }
      // The kernel tells by which of our addresses it would send (nothing is sent).
      return PipeOpener.open(.udp, to: .endpoint(first), on: self.loop).flatMapThrowing { pipe in
        let ip = pipe.localEndpoint?.ip
        pipe.close(flush: .zero)
        guard let ip else { throw NetError(.unreachable, what, cause: "there is no way to \(first)") }
        return (Place(ip: ip), endpoints)
      }
    }
  }

  private static let lookupPatience: TimeAmount = .seconds(2)
}
