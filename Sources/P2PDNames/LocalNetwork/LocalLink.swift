import NIOCore
import P2PDNet

/// The sockets of one interface, one a family, on the port that all programs of the host share. Passes on what neighbours
/// say, and not more of it than a LAN has to say.
///
/// Confined to its loop.
final class LocalLink: PipeSink, @unchecked Sendable {
  private(set) var interface: NetworkInterface
  /// Why a family is not served.
  private(set) var problems: [AddressFamily: NetError] = [:]
  private let loop: any EventLoop
  private let heard: (LocalLink, DNSMessage, Endpoint) -> Void
  private var pipes: [AddressFamily: Pipe] = [:]
  private var budget: TokenBucket
  private var isClosed = false

  init(
    _ interface: NetworkInterface, on loop: any EventLoop, heard: @escaping (LocalLink, DNSMessage, Endpoint) -> Void
  ) {
    self.interface = interface
    self.loop = loop
    self.heard = heard
    budget = TokenBucket(rate: Self.rate, burst: Self.burst, at: loop.now)
  }

  var isOpen: Bool { !pipes.isEmpty }
  /// Those that neighbours can reach this host at.
  var addresses: [IPAddress] { interface.addresses.filter(\.isUsable).map(\.ip) }

  /// Opens sockets of families that came, and closes those of families that are gone.
  func update(_ interface: NetworkInterface) {
    self.interface = interface
    for family in AddressFamily.allCases {
      let isWanted = interface.supports(family)
      if isWanted, pipes[family] == nil { open(family) }
      if !isWanted { pipes.removeValue(forKey: family)?.close(flush: .zero) }
    }
  }

  private func open(_ family: AddressFamily) {
    var conf = PipeConf()
    conf.interface = interface.name
    conf.reuseAddr = true
    conf.multicastGroups = [LocalNetwork.group(family, on: interface)]
    conf.multicastTTL = LocalNetwork.hops
    // Other nodes of this host want to hear it too.
    conf.multicastLoop = true
    let bind = Endpoint(ip: .wildcard(family), port: LocalNetwork.port)
    PipeOpener.open(.udp, bind: bind, conf: conf, sink: self, on: loop).assumeIsolated().whenComplete { result in
      switch result {
      case .failure(let error): self.problems[family] = NetError(error, "speak on \(self.interface)")
      case .success(let pipe):
        guard !self.isClosed, self.pipes[family] == nil else {
          pipe.close(flush: .zero)
          return
        }
        if case .source? = pipe.heldBy {
          // Bound to its address, a socket hears nothing that comes to all.
          self.problems[family] = NetError(
            .permission, "speak on \(self.interface)", cause: "the system holds no socket to an interface",
            remedy: "It takes Linux 5.7 or CAP_NET_RAW.")
          pipe.close(flush: .zero)
          return
        }
        self.problems[family] = nil
        self.pipes[family] = pipe
      }
    }
  }

  /// To all neighbours, or to one. What the kernel refuses is lost, as any packet may be.
  func send(_ message: DNSMessage, to endpoint: Endpoint? = nil) {
    let bytes = message.bytes
    for (family, pipe) in pipes where endpoint.map({ $0.ip.family == family }) ?? true {
      let target = endpoint ?? Endpoint(ip: LocalNetwork.group(family, on: interface), port: LocalNetwork.port)
      _ = bytes.withUnsafeBytes { pipe.send($0, to: pipe.peer(for: target)) }
    }
  }

  /// What was sent still leaves.
  func close() -> EventLoopFuture<Void> {
    isClosed = true
    let pipes = pipes.values
    self.pipes = [:]
    return .andAllComplete(pipes.map { $0.close(flush: Self.flush).map { _ in } }, on: loop)
  }

  func pipe(_ pipe: Pipe, message bytes: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    guard !isClosed, bytes.count <= LocalNetwork.longest, let source = peer.endpoint,
      LocalNetwork.isNeighbour(source.ip, on: interface), budget.take(at: loop.now),
      let message = DNSMessage([UInt8](bytes))
    else { return true }
    heard(self, message, source)
    return true
  }

  func pipeEnded(_ pipe: Pipe, reason: EndReason) {
    guard let family = pipes.first(where: { $0.value === pipe })?.key else { return }
    pipes[family] = nil
    problems[family] = NetError(.closed, "speak on \(interface)", cause: "the socket ended: \(reason)")
  }

  /// Messages a second that are looked at; the rest is dropped. A LAN of hundreds of devices has some dozens.
  private static let rate = 200.0
  private static let burst = 400.0
  private static let flush: TimeAmount = .milliseconds(200)
}
