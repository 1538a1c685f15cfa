import NIOCore
import P2PDNet

/// Speaks to the router of one path: carries out what the leases decide, and hears what the router says. Only the
/// router's own address is sent to and heard.
///
/// Confined to its loop.
final class PathMapper: PipeSink, @unchecked Sendable {
  let path: PortMappingPath
  private(set) var finding: PortMappingFinding

  private let loop: any EventLoop
  private let changed: () -> Void
  private var runs: [Run]
  private var pipe: Pipe?
  /// Hears what the router announces to all.
  private var listener: Pipe?
  private var gateway: UPnPGateway?
  private var isStopping = false
  private var gone: (() -> Void)?

  private final class Run {
    var lease: MappingLease
    var timer: Scheduled<Void>?
    var isSettled = false
    init(_ lease: MappingLease) { self.lease = lease }
  }

  init(
    _ path: PortMappingPath, _ ports: [PortMapper.Port], _ memory: PortMappingMemory, on loop: any EventLoop,
    changed: @escaping () -> Void
  ) {
    self.path = path
    self.loop = loop
    self.changed = changed
    finding = PortMappingFinding(path: path)
    runs = ports.map { port in
      let want = MappingLease.Want(local: path.local, transport: port.transport, port: port.number)
      let known = memory[PortMappingMemory.Key(gateway: path.gateway, want: want)]
      return Run(MappingLease(want, nonce: known?.nonce ?? .random(), suggested: known?.external))
    }
    gateway = UPnPGateway(path, on: loop) { [weak self] in self?.heard($0) }
  }

  /// What the router holds open.
  var grants: [(MappingLease.Want, MappingLease.Grant)] {
    runs.compactMap { run in run.lease.grant.map { (run.lease.want, $0) } }
  }

  func nonce(of want: MappingLease.Want) -> PCPNonce {
    runs.first { $0.lease.want == want }?.lease.nonce ?? .random()
  }

  // MARK: Life

  func start() {
    var conf = PipeConf()
    conf.interface = path.interface
    PipeOpener.open(.udp, bind: Endpoint(ip: path.local, port: 0), conf: conf, sink: self, on: loop)
      .assumeIsolated().whenComplete { result in
        guard !self.isStopping else {
          if case .success(let pipe) = result { pipe.close(flush: .zero) }
          return
        }
        switch result {
        case .success(let pipe):
          self.pipe = pipe
          self.listen()
          for run in self.runs { self.step(run, .start) }
        case .failure(let error):
          for name in PortMappingProtocol.allCases { self.finding.answers[name] = .refused("\(error)") }
          self.finding.isSettled = true
          self.changed()
        }
      }
  }

  /// Where another program holds the port, a restart of the router is noticed some minutes later.
  private func listen() {
    var conf = PipeConf()
    conf.interface = path.interface
    conf.reuseAddr = true
    conf.multicastGroups = [Self.everybody(path.family)]
    PipeOpener.open(
      .udp, bind: Endpoint(ip: .wildcard(path.family), port: Self.announcementPort), conf: conf, sink: self, on: loop
    ).assumeIsolated().whenSuccess { pipe in
      if self.isStopping || self.pipe == nil { pipe.close(flush: .zero) } else { self.listener = pipe }
    }
  }

  /// Takes the mappings away; `gone` is called once, when that is done or given up.
  func stop(_ gone: @escaping () -> Void) {
    isStopping = true
    self.gone = gone
    for run in runs { step(run, .stop) }
    leaveIfDone()
  }

  private func leaveIfDone() {
    guard isStopping, let gone, pipe == nil || runs.allSatisfy(\.lease.isOver) else { return }
    self.gone = nil
    for run in runs { run.timer?.cancel() }
    gateway?.close()
    let open = [pipe, listener]
    (pipe, listener) = (nil, nil)
    for pipe in open { pipe?.close(flush: .zero) }
    gone()
  }

  func pipeEnded(_ pipe: Pipe, reason: EndReason) {
    if listener === pipe { listener = nil }
    guard self.pipe === pipe else { return }
    self.pipe = nil
    listener?.close(flush: .zero)
    for run in runs { run.timer?.cancel() }
    gateway?.close()
    leaveIfDone()
  }

  // MARK: The leases

  private func step(_ run: Run, _ event: MappingLease.Event) {
    var isNews = false
    for action in run.lease.handle(event, now: loop.now) {
      switch action {
      case .pcp(let request): send(PCPCodec.encode(request))
      case .natpmp(let request): send(request.bytes)
      case .search: search()
      case .addUPnP(let port): add(run, port)
      case .removeUPnP(let grant):
        gateway?.remove(grant, run.lease.want) { [weak self] in self?.step(run, .upnpRemoved) }
      case .wait(let time):
        run.timer?.cancel()
        run.timer = loop.assumeIsolated().scheduleTask(deadline: time) { [weak self] in self?.step(run, .timer) }
      case .granted, .lost: isNews = true
      case .noted(let name, let answer): isNews = note(name, answer) || isNews
      case .settled:
        run.isSettled = true
        finding.isSettled = runs.allSatisfy(\.isSettled)
        isNews = true
      case .over:
        run.timer?.cancel()
        run.timer = nil
      }
    }
    if isNews, !isStopping { changed() }
    leaveIfDone()
  }

  /// Of two leases, what says more.
  private func note(_ name: PortMappingProtocol, _ answer: PortMappingFinding.Answer) -> Bool {
    if answer == .silent, runs.count > 1, finding.answers[name] != nil { return false }
    guard finding.answers[name] != answer else { return false }
    finding.answers[name] = answer
    return true
  }

  private func send(_ bytes: [UInt8]) { send(bytes, to: Endpoint(ip: path.gateway, port: Self.port)) }

  private func send(_ bytes: [UInt8], to endpoint: Endpoint) {
    guard let pipe else { return }
    // What the kernel refuses now may work with the next one.
    _ = bytes.withUnsafeBytes { pipe.send($0, to: pipe.peer(for: endpoint)) }
  }

  // MARK: UPnP

  private func search() {
    guard let gateway, gateway.shouldSearch() else { return }
    for (bytes, endpoint) in SSDP.searches(path.gateway) { send(bytes, to: endpoint) }
  }

  private func heard(_ news: UPnPGateway.News) {
    if let name = gateway?.name, !name.isEmpty { finding.router = name }
    for run in runs {
      switch news {
      case .ready: step(run, .upnpReady)
      case .unfit(let words): step(run, .upnpUnfit(words))
      }
    }
  }

  private func add(_ run: Run, _ port: UInt16) {
    gateway?.add(run.lease.want, port: port) { [weak self] step in
      switch step {
      case .granted(let grant): self?.step(run, .upnpGranted(grant))
      case .refused(let words, let isFinal): self?.step(run, .upnpRefused(words, isFinal: isFinal))
      case .call: break  // The gateway makes the calls.
      }
    }
  }

  // MARK: In

  func pipe(_ pipe: Pipe, message bytes: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    guard let source = peer.endpoint, bytes.count <= Self.longest else { return true }
    if bytes.first == UInt8(ascii: "H") {
      if isOnRouter(source.ip), let answer = SSDPAnswer(bytes) { gateway?.heard(answer) }
      return true
    }
    guard source.isSame(as: Endpoint(ip: path.gateway, port: Self.port)) else { return true }
    let copy = [UInt8](bytes)
    if pipe === listener {
      if PCPCodec.response(copy)?.operation == .announce || NATPMPResponse(decoding: copy)?.result == .success {
        for run in runs { step(run, .announced) }
      }
      return true
    }
    if let response = PCPCodec.response(copy) {
      for run in runs { step(run, .pcp(response)) }
    } else if let response = NATPMPResponse(decoding: copy) {
      for run in runs { step(run, .natpmp(response)) }
    }
    return true
  }

  /// IPv6 routers may answer a search from another of their addresses. What they say leads to the gateway only.
  private func isOnRouter(_ ip: IPAddress) -> Bool {
    if path.family == .v6 { return ip.isLinkLocal || ip.sharesPrefix(64, with: path.local) }
    return ip == path.gateway
  }

  /// All hosts of the link.
  private static func everybody(_ family: AddressFamily) -> IPAddress {
    switch family {
    case .v4: IPAddress(family: .v4, high: 0xe000_0001 << 32, low: 0)
    case .v6: IPAddress(family: .v6, high: 0xff02 << 48, low: 1)
    }
  }

  /// RFC 6886 §3.2.1, RFC 6887 §14.1.3.
  private static let announcementPort: UInt16 = 5350
  /// Bytes; an answer of SSDP is the longest that comes.
  private static let longest = 4096
  /// RFC 6886 §3, RFC 6887 §19.1.
  private static let port: UInt16 = 5351
}
