import NIOCore
import P2PDNet

/// Looks up servers' names, all at once, and tells each place when it is found: a name that nobody answers for holds up
/// none of the others. Lives until the last lookup is over. Confined to its loop.
final class STUNSearch: @unchecked Sendable {
  enum Event {
    case found(STUNPlace)
    /// No more will be found.
    case over
  }

  private(set) var places: [STUNPlace] = []
  private(set) var isOver = false
  private var followers: [(Event) -> Void] = []
  private var open = 0

  /// Places that are known already.
  init(_ places: [STUNPlace]) {
    self.places = places
    isOver = true
  }

  /// Begins to look.
  init(_ servers: [STUNServer], _ family: AddressFamily, patience: TimeAmount, on loop: any EventLoop) {
    guard let network = try? loop.requireNetwork("look up the STUN servers"), !servers.isEmpty else {
      isOver = true
      return
    }
    open = servers.count
    for server in servers {
      // One address a name: its others are the same server's, and would have a voice each.
      network.resolve(server.host, families: [family], timeout: patience).assumeIsolated().whenComplete { result in
        self.looked(up: server, (try? result.get())?.first)
      }
    }
  }

  /// Tells what was found already, and what will be.
  func follow(_ follower: @escaping (Event) -> Void) {
    for place in places { follower(.found(place)) }
    if isOver { follower(.over) } else { followers.append(follower) }
  }

  /// The first place; nil where there is none.
  func first(on loop: any EventLoop) -> EventLoopFuture<Endpoint?> {
    let promise = loop.makePromise(of: Endpoint?.self)
    var isTold = false
    follow { event in
      guard !isTold else { return }
      isTold = true
      if case .found(let place) = event { promise.succeed(place.endpoint) } else { promise.succeed(nil) }
    }
    return promise.futureResult
  }

  private func looked(up server: STUNServer, _ ip: IPAddress?) {
    if let ip {
      let place = STUNPlace(Endpoint(ip: ip, port: server.port), server.transport, name: server.host)
      if !places.contains(where: { $0.endpoint == place.endpoint }) {
        places.append(place)
        for follower in followers { follower(.found(place)) }
      }
    }
    open -= 1
    guard open == 0 else { return }
    isOver = true
    let followers = followers
    self.followers = []
    for follower in followers { follower(.over) }
  }
}
