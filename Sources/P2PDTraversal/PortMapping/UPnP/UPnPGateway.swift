import NIOCore
import P2PDNet

/// The UPnP side of one router: reads its description when it answers a search, and calls its services, one request at a
/// time, since their web servers are small. Connects to the router's own address and nowhere else.
///
/// Confined to its loop.
final class UPnPGateway: @unchecked Sendable {
  /// What it says is there.
  enum News {
    case ready
    /// It answers, but cannot do it.
    case unfit(String)
  }

  private let path: PortMappingPath
  private let loop: any EventLoop
  private let news: (News) -> Void

  /// The router's name for itself; empty while not known.
  private(set) var name = ""
  /// Best first.
  private var services: [UPnPService] = []
  private var granting: UPnPService?
  private var searched: NIODeadline?
  private var found: NIODeadline?
  private var places: [HTTPPlace] = []
  private var waiting: [Request] = []
  private var exchange: HTTPExchange?
  private var isClosed = false

  private struct Request {
    let bytes: [UInt8]
    let port: UInt16
    let limit: Int
    let done: HTTPExchange.Done
  }

  init(_ path: PortMappingPath, on loop: any EventLoop, news: @escaping (News) -> Void) {
    self.path = path
    self.loop = loop
    self.news = news
  }

  func close() {
    isClosed = true
    waiting = []
    exchange?.cancel()
    exchange = nil
  }

  // MARK: Finding

  /// Whether a search is to be sent: what was just found or is being looked for needs none.
  func shouldSearch() -> Bool {
    let now = loop.now
    if let found, now - found < Self.freshTime {
      later { [self] in news(.ready) }
      return false
    }
    if let searched, now - searched < Self.searchTime { return false }
    searched = now
    // A router that restarted may have its description elsewhere.
    places = []
    return true
  }

  /// An answer to the search, from the router's link.
  func heard(_ answer: SSDPAnswer) {
    guard !isClosed, answer.isGateway else { return }
    guard let place = HTTPPlace(answer.location, host: path.gateway) else {
      if places.isEmpty { news(.unfit("it names a description that is not on the router")) }
      return
    }
    guard !places.contains(place), places.count < Self.mostPlaces else { return }
    places.append(place)
    let head = "GET \(place.path) HTTP/1.1\r\nHost: \(host(place.port))\r\nConnection: close\r\n\r\n"
    ask(
      Request(bytes: Array(head.utf8), port: place.port, limit: Self.longestDescription) { [weak self] result in
        self?.described(result, place)
      })
  }

  private func described(_ result: Result<HTTPAnswer, NetError>, _ place: HTTPPlace) {
    do {
      let answer = try result.get()
      guard answer.head.status == 200 else {
        return news(.unfit("its description is not given (HTTP \(answer.head.status))"))
      }
      let description = try UPnPDescription(answer.body, host: path.gateway, at: place)
      if !description.name.isEmpty { name = description.name }
      let fit = description.services(path.family)
      guard !fit.isEmpty else {
        let what = path.family == .v4 ? "mapping ports" : "opening its IPv6 firewall"
        return news(.unfit("its UPnP has no service for \(what)"))
      }
      services = fit
      found = loop.now
      news(.ready)
    } catch let error as NetError {
      news(.unfit(error.cause))
    } catch {
      news(.unfit("it sent \(error)"))
    }
  }

  // MARK: Calling

  /// Opens the port, and tells on a later turn; with several services the first that can.
  func add(_ want: MappingLease.Want, port: UInt16, _ done: @escaping (UPnPTask.Step) -> Void) {
    add(want, port, services[...], done)
  }

  private func add(
    _ want: MappingLease.Want, _ port: UInt16, _ left: ArraySlice<UPnPService>,
    _ done: @escaping (UPnPTask.Step) -> Void
  ) {
    guard let service = left.first else {
      return later { done(.refused("the router's UPnP service is gone", isFinal: true)) }
    }
    var task = UPnPTask(service, want, port: port)
    func go(_ step: UPnPTask.Step) {
      switch step {
      case .call(let call): self.call(call) { go(task.handle($0)) }
      case .granted:
        granting = service
        done(step)
      case .refused:
        if left.count > 1 { add(want, port, left.dropFirst(), done) } else { done(step) }
      }
    }
    go(task.start())
  }

  func remove(_ grant: MappingLease.Grant, _ want: MappingLease.Want, _ done: @escaping () -> Void) {
    guard let service = granting ?? services.first else { return later(done) }
    call(UPnPTask.removal(grant, want, service)) { _ in done() }
  }

  private func call(_ call: SOAPCall, _ done: @escaping (SOAPAnswer?) -> Void) {
    let port = call.service.place.port
    ask(
      Request(bytes: call.request(host: host(port)), port: port, limit: Self.longestAnswer) { result in
        // A refusal comes with status 500 and a document of its own.
        done((try? result.get()).flatMap { try? SOAPAnswer($0.body, to: call.action) })
      })
  }

  private func host(_ port: UInt16) -> String {
    var ip = path.gateway
    ip.scopeID = 0
    return "\(Endpoint(ip: ip, port: port))"
  }

  private func ask(_ request: Request) {
    guard !isClosed else { return }
    guard waiting.count < Self.mostWaiting else {
      return later {
        request.done(.failure(NetError(.limit, "ask the router", cause: "too many requests wait already")))
      }
    }
    waiting.append(request)
    next()
  }

  /// Whoever asks is never answered before the question is out.
  private func later(_ body: @escaping () -> Void) {
    loop.assumeIsolated().execute { [self] in if !isClosed { body() } }
  }

  private func next() {
    guard exchange == nil, !waiting.isEmpty else { return }
    let request = waiting.removeFirst()
    exchange = HTTPExchange(
      request.bytes, to: Endpoint(ip: path.gateway, port: request.port), from: path.local, interface: path.interface,
      limit: request.limit, on: loop
    ) { [weak self] result in
      guard let self, !isClosed else { return }
      exchange = nil
      request.done(result)
      next()
    }
  }

  /// A description that was read just now is not read again for the next port.
  private static let freshTime: TimeAmount = .seconds(2)
  private static let searchTime: TimeAmount = .milliseconds(200)
  private static let mostPlaces = 4
  private static let mostWaiting = 16
  /// Bytes. Gateways' descriptions have 2 to 10 KiB.
  private static let longestDescription = 128 << 10
  private static let longestAnswer = 32 << 10
}
