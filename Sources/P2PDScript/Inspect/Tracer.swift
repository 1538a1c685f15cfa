import Glibc
import NIOCore
import P2PDNet

/// Something seen on a traced pipe.
public struct TraceEvent: Sendable {
  public enum Kind: String, Sendable {
    case received = "in"
    case sent = "out"
    case opened, ended
  }

  public var kind: Kind
  /// Seconds since 1970 and microseconds, by the machine's clock.
  public var seconds: Int
  public var microseconds: Int
  public var pipe: UInt64
  public var peer: String
  /// Bytes of the message.
  public var size = 0
  /// Its first bytes.
  public var preview: [UInt8] = []
  /// Why a pipe ended.
  public var reason = ""
}

/// Sees the messages of one pipe, or of every pipe of a protocol, those that open later included, and hands them to
/// whoever asked, at once and on the event loop. Pipes nobody traces cost nothing.
public final class Tracer: @unchecked Sendable {  // confined to the loop
  public enum Target: Sendable {
    case pipe(UInt64)
    case `protocol`(String)
  }

  private unowned let host: ScriptHost
  private let target: Target
  private let previewSize: Int
  private let see: (TraceEvent) -> Void
  private let over: (String) -> Void
  private var watched: [UInt64: Pipe] = [:]
  /// How many pipes are under watch now.
  public var pipes: Int { watched.count }

  /// Begins to trace; call it on the host's loop. Nil: there is no such pipe or protocol.
  /// - Parameters:
  ///   - preview: most bytes of a message that are copied.
  ///   - see: called for each message and for pipes that open and end.
  ///   - over: called once, with the reason, when the one pipe that is traced has ended.
  public init?(
    _ host: ScriptHost, _ target: Target, preview: Int, see: @escaping (TraceEvent) -> Void,
    over: @escaping (String) -> Void
  ) {
    host.loop.assertInEventLoop()
    self.host = host
    self.target = target
    previewSize = max(0, preview)
    self.see = see
    self.over = over
    switch target {
    case .pipe(let id):
      guard let face = host.face(id) else { return nil }
      watch(face.pipe)
    case .protocol(let name):
      guard host.hostedProtocol(name) != nil else { return nil }
      for face in host.openFaces where face.protocolName == name { watch(face.pipe) }
    }
    host.observation.tracers.append(self)
  }

  /// Sees nothing from now on.
  public func stop() {
    host.observation.tracers.removeAll { $0 === self }
    for pipe in watched.values {
      guard let list = pipe.tap as? TapList else { continue }
      list.tracers.removeAll { $0 === self }
      if list.tracers.isEmpty { pipe.tap = nil }
    }
    watched = [:]
  }

  func opened(_ face: PipeFace) {
    guard case .protocol(let name) = target, face.protocolName == name else { return }
    watch(face.pipe)
    note(.opened, face.pipe, face.pipe.peer)
  }

  private func watch(_ pipe: Pipe) {
    watched[pipe.id] = pipe
    let list = pipe.tap as? TapList ?? TapList()
    list.tracers.append(self)
    pipe.tap = list
    pipe.ended.assumeIsolated().whenSuccess { [weak self] in self?.ended(pipe, $0) }
  }

  private func ended(_ pipe: Pipe, _ reason: EndReason) {
    guard watched.removeValue(forKey: pipe.id) != nil else { return }
    note(.ended, pipe, pipe.peer, reason: reason.description)
    guard case .pipe = target else { return }
    stop()
    over(reason.description)
  }

  fileprivate func note(
    _ kind: TraceEvent.Kind, _ pipe: Pipe, _ peer: Peer?, _ bytes: UnsafeRawBufferPointer? = nil, reason: String = ""
  ) {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    var event = TraceEvent(
      kind: kind, seconds: time.tv_sec, microseconds: time.tv_nsec / 1000, pipe: pipe.id,
      peer: (peer ?? pipe.peer)?.description ?? "")
    if let bytes {
      event.size = bytes.count
      event.preview = Array(bytes.prefix(previewSize))
    }
    event.reason = reason
    see(event)
  }
}

/// The tracers of one pipe.
private final class TapList: PipeTap {
  var tracers: [Tracer] = []

  func pipe(_ pipe: Pipe, received bytes: UnsafeRawBufferPointer, from peer: Peer) {
    for tracer in tracers { tracer.note(.received, pipe, peer, bytes) }
  }

  func pipe(_ pipe: Pipe, sent bytes: UnsafeRawBufferPointer, to peer: Peer?) {
    for tracer in tracers { tracer.note(.sent, pipe, peer, bytes) }
  }
}
