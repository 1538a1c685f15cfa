import LuaVM
import NIOCore
import P2PDNet

/// A server a generation keeps open, known by what it was asked for, so that the next generation can take it over: the
/// socket stays, and its clients.
final class Listener {
  /// Protocol, address and port: as asked for, and as they came to be.
  private(set) var places: Set<String>
  /// The options it was made with.
  let options: String
  let face: PipeFace
  /// The top level or `start` opened it, and not a handler for itself.
  let isService: Bool

  init(_ request: PipeRequest, _ face: PipeFace) {
    var real = request
    real.bind = face.pipe.localEndpoint ?? request.bind
    places = [request.place, real.place]
    options = request.options
    isService = request.isService
    self.face = face
  }

  func suits(_ request: PipeRequest) -> Bool { listens(where: request) && options == request.options }

  func listens(where request: PipeRequest) -> Bool { places.contains(request.place) }

  /// Asked for in other words: port 0 by its number.
  func taken(as request: PipeRequest) { places.insert(request.place) }
}

/// What the top level asked a daemon for.
struct ListenRequest {
  let daemon: DaemonObject
  let proto: PipeProto
  let places: [PipeRequest]
}

extension PipeRequest {
  /// Where a server listens, in one text.
  var place: String {
    "\(proto.rawValue) \(bind?.description ?? family.map { "IPv\($0.rawValue)" } ?? "any") \(conf.interface ?? "")"
  }
}

extension ScriptHost {
  /// Opens those servers of a staged generation that are new; their clients wait until it serves. What the generation
  /// before has open already is taken over later, in ``openRecorded(_:then:)``.
  func prepareListeners(of generation: Generation, after old: Generation?, then: @escaping (NetError?) -> Void) {
    let held = old?.listeners ?? []
    open(
      generation.listenRequests[...], of: generation,
      where: { request in !held.contains { $0.listens(where: request) } }, then: then)
  }

  /// Opens the servers of the top level that are not open: takes over those of the generation before, opens others anew.
  func openRecorded(_ generation: Generation, then: @escaping (NetError?) -> Void) {
    let isMissing = { (request: PipeRequest) in
      !generation.listeners.contains { $0.suits(request) && $0.face.pipe.isOpen }
    }
    open(generation.listenRequests[...], of: generation, where: isMissing, then: then)
  }

  private func open(
    _ rest: ArraySlice<ListenRequest>, of generation: Generation, where wanted: @escaping (PipeRequest) -> Bool,
    then: @escaping (NetError?) -> Void
  ) {
    guard let request = rest.first else { return then(nil) }
    let places = request.places.filter(wanted)
    request.daemon.listen(request.proto, places) { result in
      switch result {
      case .failure(let error): then(error)
      case .success: self.open(rest.dropFirst(), of: generation, where: wanted, then: then)
      }
    }
  }

  /// The server of an earlier generation of the protocol that is just what is asked for. Its socket and its clients go
  /// over to these callbacks.
  func takeOver(_ request: PipeRequest, _ handlers: HandlerSet, _ generation: Generation) -> PipeFace? {
    guard let (owner, index) = listener(of: generation, where: { $0.suits(request) }) else { return nil }
    let listener = owner.listeners.remove(at: index)
    let face = listener.face
    // The old daemon hears that it has it no more.
    face.onEnd?(face)
    face.onEnd = nil
    face.serverTaken(by: handlers)
    listener.taken(as: request)
    generation.listeners.append(listener)
    return face
  }

  /// Closes the server of an earlier generation that listens where this one is to, with other options.
  func endListener(inTheWayOf request: PipeRequest, of generation: Generation) -> EventLoopFuture<Void>? {
    guard let (owner, index) = listener(of: generation, where: { $0.listens(where: request) }) else { return nil }
    let listener = owner.listeners.remove(at: index)
    return listener.face.pipe.close(flush: .zero).map { _ in }
  }

  private func listener(of generation: Generation, where matches: (Listener) -> Bool) -> (Generation, Int)? {
    guard generation.phase == .live, let hosted = generation.hosted else { return nil }
    for owner in hosted.generations where owner !== generation && owner.phase == .leaving {
      if let index = owner.listeners.firstIndex(where: { matches($0) && $0.face.pipe.isOpen }) { return (owner, index) }
    }
    return nil
  }
}

extension PipeFace {
  /// Another generation's server from now on. Clients follow with their next message; a UDP server, whose senders are all
  /// on one pipe, does too.
  func serverTaken(by set: HandlerSet) {
    let old = generation
    slot.swap(to: set, draining: set.generation.drains && pipe.proto == .tcp)
    old.remove(self)
    set.generation.add(self)
    guard pipe.proto == .tcp else { return }
    handlers = set
    generation = set.generation
    if let own, own.generation !== generation { self.own = nil }
  }
}
