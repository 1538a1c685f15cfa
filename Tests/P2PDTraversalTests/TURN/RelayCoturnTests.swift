import NIOCore
import P2PDNet
import Testing

@testable import P2PDTraversal

/// Against a real server.
@Suite("A relayed stream through coturn", .enabled(if: !Coturn.isMissing, Coturn.whyMissing))
struct RelayCoturnTests {
  /// One relayed path and one dial to it, with a word each way.
  private static func speak(
    _ servers: [ServerURL], tls: ServerTLS? = nil, permitLate: TimeAmount? = nil, times: Int = 1, on loop: any EventLoop
  ) async throws -> (heard: [String], failures: [NetError], tries: Int, left: Int) {
    let path = RelayPath(servers: servers, tls: tls, on: loop)
    let relayed = try await path.open().get()
    if permitLate == nil { path.permit([relayed.ip]) }
    var heard: [String] = []
    var tries = 0
    for number in 1...times {
      let (near, far) = (loop.makePromise(of: Pipe.self), loop.makePromise(of: Pipe.self))
      path.connected = { stream, _ in
        let pipe = Pipe.adopt(stream, conf: PipeConf(), sink: nil, on: loop)
        _ = "near \(number)".utf8.withContiguousStorageIfAvailable { pipe.send(UnsafeRawBufferPointer($0)) }
        near.succeed(pipe)
      }
      let dial = RelayDial(to: relayed, until: loop.now + .seconds(8), on: loop) { result in
        far.completeWith(
          result.map { Pipe.adopt($0, conf: PipeConf(), sink: nil, on: loop) }.mapError { $0 as any Error })
      }
      if let permitLate {
        try await loop.scheduleTask(in: permitLate) { path.permit([relayed.ip]) }.futureResult.get()
      }
      let (a, b) = (try await near.futureResult.get(), try await far.futureResult.get())
      heard.append(try await b.next())
      _ = "far \(number)".utf8.withContiguousStorageIfAvailable { b.send(UnsafeRawBufferPointer($0)) }
      heard.append(try await a.next())
      tries += dial.tries
      _ = try await b.close().get()
      _ = try await a.close().get()
    }
    try await path.close().get()
    return (heard, path.failures, tries, path.streams)
  }

  private static func run<T: Sendable>(
    _ body: @escaping @Sendable (any EventLoop) async throws -> T
  ) async throws -> T {
    let loop = try KernelLoop.start(name: "relay")
    do {
      let result = try await loop.run { try await body(loop) }.get()
      try await loop.shutdownGracefully()
      return result
    } catch {
      try? await loop.shutdownGracefully()
      throw error
    }
  }

  @Test("words go both ways, several streams one after the other, with a password and with a shared secret")
  func plain() async throws {
    let server = try await Coturn.start()
    let heard = try await Self.run { loop in try await Self.speak([server.url()], times: 3, on: loop).heard }
    #expect(heard == ["near 1", "far 1", "near 2", "far 2", "near 3", "far 3"])
    await server.stop()
    let rest = try await Coturn.start(["use-auth-secret", "static-auth-secret=hush"])
    let url = rest.url(user: "ann", password: nil, secret: "hush")
    #expect(try await Self.run { try await Self.speak([url], on: $0).heard } == ["near 1", "far 1"])
    await rest.stop()
  }

  @Test("over TLS, with the certificate checked")
  func tls() async throws {
    let server = try await Coturn.start()
    let heard = try await Self.run { loop in
      let tls = ServerTLS(caFile: fixture("ca.pem"), on: loop)
      return try await Self.speak([server.url(tls: true)], tls: tls, times: 2, on: loop).heard
    }
    #expect(heard == ["near 1", "far 1", "near 2", "far 2"])
    // Roots that do not know it.
    do {
      _ = try await Self.run { loop in try await RelayPath(servers: [server.url(tls: true)], on: loop).open().get() }
      Issue.record("a certificate of nobody was believed")
    } catch {
      #expect((error as? NetError)?.code == .tls)
    }
    await server.stop()
  }

  @Test("who is not let through yet tries again until it is")
  func late() async throws {
    let server = try await Coturn.start()
    let (heard, tries) = try await Self.run { loop in
      let result = try await Self.speak([server.url()], permitLate: .milliseconds(300), on: loop)
      return (result.heard, result.tries)
    }
    #expect(heard == ["near 1", "far 1"])
    #expect(tries > 1)
    await server.stop()
  }

  /// What a way round to a relayed path's address met until a word had gone each way.
  private static func goRound(
    _ near: ServerURL, _ far: ServerURL, tls: ServerTLS? = nil, permitLate: TimeAmount? = nil, on loop: any EventLoop
  ) async throws -> (heard: [String], met: [NetError.Code]) {
    let path = RelayPath(servers: [near], tls: tls, on: loop)
    let relayed = try await path.open().get()
    let ours = loop.makePromise(of: Pipe.self)
    path.connected = { stream, _ in
      let pipe = Pipe.adopt(stream, conf: PipeConf(), sink: nil, on: loop)
      _ = Array("near".utf8).withUnsafeBytes { pipe.send($0) }
      ours.succeed(pipe)
    }
    let closed = loop.makePromise(of: Void.self)
    let detour = RelayDetour(
      to: relayed,
      .init([far], tls: tls, tell: { path.permit(relay: $0.ip) }, closed: { closed.succeed(()) }),
      interface: nil, on: loop)
    let opened = loop.makePromise(of: Endpoint.self)
    detour.open { opened.completeWith($0.mapError { $0 as any Error }) }
    let own = try await opened.futureResult.get()
    if let permitLate {
      loop.scheduleTask(in: permitLate) { path.permit([own.ip]) }
    } else {
      try await path.permit(relay: own.ip).get()
    }
    var met: [NetError.Code] = []
    let until = loop.now + .seconds(8)
    while loop.now < until {
      do {
        let made = loop.makePromise(of: Pipe.self)
        detour.connect { result in
          made.completeWith(
            result.map { Pipe.adopt($0, conf: PipeConf(), sink: nil, on: loop) }.mapError { $0 as any Error })
        }
        let theirs = try await made.futureResult.get()
        do {
          let first = try await theirs.next()
          _ = Array("far".utf8).withUnsafeBytes { theirs.send($0) }
          let mine = try await ours.futureResult.get()
          let second = try await mine.next()
          // The allocation ends with its last stream.
          detour.retire()
          _ = try await theirs.close().get()
          try await closed.futureResult.get()
          _ = try await mine.close().get()
          try await path.close().get()
          return ([first, second], met)
        } catch { met.append((error as? NetError)?.code ?? .io) }
      } catch { met.append((error as? NetError)?.code ?? .io) }
      try await loop.scheduleTask(in: .milliseconds(50)) {}.futureResult.get()
    }
    ours.fail(NetError(.timeout, "meet"))
    detour.close()
    try await closed.futureResult.get()
    try await path.close().get()
    return ([], met)
  }

  @Test(
    "one relay connects to another: of the same server, of another one, over TCP and TLS, and before it is let through")
  func round() async throws {
    let (server, other) = (try await Coturn.start(), try await Coturn.start())
    for (near, far) in [
      (server.url(), server.url()), (server.url(), other.url()), (server.url(tls: true), server.url(tls: true)),
      (other.url(), server.url(tls: true)),
    ] {
      let result = try await Self.run { loop in
        try await Self.goRound(near, far, tls: ServerTLS(caFile: fixture("ca.pem"), on: loop), on: loop)
      }
      #expect(result.heard == ["near", "far"] && result.met.isEmpty, "\(near) \(far): \(result)")
    }
    for far in [server.url(), other.url()] {
      let late = try await Self.run {
        try await Self.goRound(server.url(), far, permitLate: .milliseconds(300), on: $0)
      }
      print("before it was let through: \(late.met)")
      #expect(late.heard == ["near", "far"] && !late.met.isEmpty, "\(late)")
    }
    await server.stop()
    await other.stop()
  }

  @Test("a peer that the server forbids (403), one that is not there (447), and nobody's word for it")
  func roundRefused() async throws {
    let server = try await Coturn.start(["lt-cred-mech", "user=ann:secret", "denied-peer-ip=127.0.0.2"])
    for (peer, code) in [(ep("127.0.0.2:9"), NetError.Code.permission), (ep("127.0.0.1:9"), .refused)] {
      let met = try await Self.run { loop -> NetError.Code? in
        let detour = RelayDetour(
          to: peer, .init([server.url()], tls: nil, tell: { _ in loop.makeSucceededVoidFuture() }), interface: nil,
          on: loop)
        let promise = loop.makePromise(of: NetError.Code?.self)
        detour.open { opened in
          guard case .success = opened else { return promise.succeed(nil) }
          detour.connect {
            if case .failure(let error) = $0 { promise.succeed(error.code) } else { promise.succeed(nil) }
          }
        }
        let code = try await promise.futureResult.get()
        detour.close()
        return code
      }
      #expect(met == code)
    }
    await server.stop()
  }

  @Test("a wrong password, a server that is not there and one that relays no TCP: the next is taken")
  func several() async throws {
    let server = try await Coturn.start()
    let deaf = try await Coturn.start(["lt-cred-mech", "user=ann:secret", "no-tcp-relay"])
    let nobody = ServerURL(.turn, host: "127.0.0.1", port: 9, user: "a", password: "b")
    let servers = [nobody, server.url(password: "wrong"), deaf.url(), server.url()]
    let (heard, codes) = try await Self.run { loop in
      let result = try await Self.speak(servers, on: loop)
      return (result.heard, result.failures.map(\.code))
    }
    #expect(heard == ["near 1", "far 1"])
    #expect(Set(codes) == [.refused, .permission, .unsupported])
    await server.stop()
    await deaf.stop()
  }
}

func fixture(_ name: String) -> String {
  #filePath.split(separator: "/").dropLast(3).map { "/" + $0 }.joined() + "/Fixtures/tls/" + name
}

extension Pipe {
  /// The next message as text.
  func next() async throws -> String {
    let promise = loop.makePromise(of: Message.self)
    _ = receive(from: nil, timeout: .seconds(5)) { promise.completeWith($0.mapError { $0 as any Error }) }
    return String(buffer: try await promise.futureResult.get().bytes)
  }
}
