import Foundation
import Glibc
import NIOCore
import Testing

@testable import P2PDNet

/// Datagram sockets without a pipe on them.
@Suite(.serialized, .timeLimit(.minutes(1))) struct DatagramTransportTests {
  private static let ownLoop: KernelLoop = {
    do { return try KernelLoop.start(name: "datagrams") } catch { preconditionFailure("\(error)") }
  }()
  let loop = ownLoop

  /// Writes down what comes, and does what the test says. Confined to the loop.
  private final class Owner: TransportOwner, @unchecked Sendable {
    var heard: [(bytes: [UInt8], port: Int)] = []
    var end: EndReason?
    var answer: (UnsafeRawBufferPointer, Peer) -> Void = { _, _ in }

    func received(stream bytes: UnsafeRawBufferPointer) {}
    func received(datagram bytes: UnsafeRawBufferPointer, from peer: Peer) {
      heard.append((Array(bytes), peer.port))
      answer(bytes, peer)
    }
    func inputEnded(_ reason: EndReason) {}
    func drained() {}
    func transportEnded(_ reason: EndReason) { end = reason }
  }

  private struct Ends: @unchecked Sendable {
    let owner = Owner()
    let transport: Transport
    /// A connected socket of the test's own, which waits when it reads.
    let peer: CInt
    let peerPort: Int

    func send(_ bytes: [UInt8]) { #expect(Glibc.send(peer, bytes, bytes.count, 0) == bytes.count) }

    /// The next datagram; nil when none comes in ten seconds.
    func next() -> [UInt8]? {
      var buffer = [UInt8](repeating: 0, count: 1 << 16)
      let count = recv(peer, &buffer, buffer.count, 0)
      return count < 0 ? nil : Array(buffer[..<count])
    }
  }

  private func on<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
    try await loop.submit(body).get()
  }

  /// A socket on the loop that does not read yet, and one that talks to it.
  private func ends(_ family: AddressFamily = .v4, dualStack: Bool = false) async throws -> Ends {
    let loop = loop
    let transport = try await on {
      var options = DatagramOptions(family: family)
      options.bind = Endpoint(ip: dualStack ? .wildcard(.v6) : .loopback(family), port: 0)
      options.dualStack = dualStack
      return try loop.network.openDatagram(options)
    }
    let port = try #require(transport.localEndpoint?.port)
    let talks: AddressFamily = dualStack ? .v4 : family
    let peer = socket(talks == .v4 ? AF_INET : AF_INET6, CInt(SOCK_DGRAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
    let target = Endpoint(ip: .loopback(talks), port: port)
    #expect(Peer.withKernelForm(target) { Glibc.connect(peer, $0, $1) } == 0)
    var patience = timeval(tv_sec: 10, tv_usec: 0)
    setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
    let own = try #require(KernelSocket.localEndpoint(of: peer))
    let ends = Ends(transport: transport, peer: peer, peerPort: Int(own.port))
    try await on { transport.owner = ends.owner }
    return ends
  }

  private func close(_ ends: Ends) async throws {
    try await on { ends.transport.close(linger: false) }
    Glibc.close(ends.peer)
  }

  /// Answers every datagram with itself.
  private func echo(_ ends: Ends) async throws {
    try await on {
      ends.owner.answer = { bytes, peer in
        #expect(ends.transport.send(.none, bytes, to: peer, corked: false) == nil)
      }
    }
  }

  @Test("question and answer one at a time, then many at once: all come, each whole, in their order")
  func onesAndMany() async throws {
    let ends = try await ends()
    try await echo(ends)
    try await on { ends.transport.setReading(true) }
    var sent: [[UInt8]] = []
    func ask(_ bytes: [UInt8]) {
      sent.append(bytes)
      ends.send(bytes)
    }
    for round in 0..<3 {
      for index in 0..<50 {
        ask(index % 10 == 0 ? [] : Array("\(round) \(index)".utf8))
        #expect(ends.next() == sent.last)
      }
      // More than one wake takes, while nobody reads.
      try await on { ends.transport.setReading(false) }
      for index in 0..<100 { ask(Array(repeating: UInt8(index), count: index * 4)) }
      try await on { ends.transport.setReading(true) }
      for index in (sent.count - 100)..<sent.count { #expect(ends.next() == sent[index]) }
    }
    let all = sent
    try await on {
      #expect(ends.owner.heard.map { $0.bytes } == all)
      #expect(ends.owner.heard.allSatisfy { $0.port == ends.peerPort })
    }
    try await close(ends)
  }

  @Test("the longest datagram comes whole, alone and among others")
  func longest() async throws {
    let ends = try await ends()
    let long = (0..<65507).map { UInt8(truncatingIfNeeded: $0 &* 7) }
    try await echo(ends)
    try await on { ends.transport.setReading(true) }
    for _ in 0..<8 {
      ends.send(long)
      #expect(ends.next() == long)
    }
    try await on { ends.transport.setReading(false) }
    for bytes in [[1], long, [2]] { ends.send(bytes) }
    try await on { ends.transport.setReading(true) }
    for bytes in [[1], long, [2]] { #expect(ends.next() == bytes) }
    try await close(ends)
  }

  @Test("a socket for both families tells IPv4 senders by their IPv4 address", arguments: [false, true])
  func families(dualStack: Bool) async throws {
    let ends = try await ends(.v6, dualStack: dualStack)
    try await on {
      ends.owner.answer = { bytes, peer in
        #expect(peer.host == (dualStack ? "127.0.0.1" : "::1"))
        #expect(ends.transport.send(.none, bytes, to: peer, corked: false) == nil)
      }
      ends.transport.setReading(true)
    }
    for index in 0..<20 {
      ends.send([UInt8(index)])
      #expect(ends.next() == [UInt8(index)])
    }
    try await close(ends)
  }

  @Test("one that closes in the middle hears nothing more")
  func closing() async throws {
    let ends = try await ends()
    for index in 0..<10 { ends.send([UInt8(index)]) }
    try await on {
      ends.owner.answer = { bytes, _ in
        if bytes[0] == 3 { ends.transport.close(linger: false) }
      }
      ends.transport.setReading(true)
    }
    // Queued after the wake that reads them, or later.
    for _ in 0..<3 { try await on {} }
    try await on {
      #expect(ends.owner.heard.map { $0.bytes } == [[0], [1], [2], [3]])
      #expect(ends.owner.end == nil)
    }
    Glibc.close(ends.peer)
  }

  @Test(
    "a sender stays what it is while its datagram is handled, also when so many others come up that it is forgotten")
  func forgetting() async throws {
    let ends = try await ends()
    try await on {
      ends.owner.answer = { bytes, peer in
        let endpoint = peer.endpoint
        for number in 0..<10_000 {
          let other = Endpoint(ip: .loopback(.v4), port: UInt16(20_000 + number))
          #expect(ends.transport.peer(for: other).port == Int(other.port))
        }
        #expect(peer.endpoint == endpoint && peer.port == ends.peerPort)
        #expect(ends.transport.send(.none, bytes, to: peer, corked: false) == nil)
      }
      ends.transport.setReading(true)
    }
    for index in 0..<3 {
      ends.send([UInt8(index)])
      #expect(ends.next() == [UInt8(index)])
    }
    try await close(ends)
  }

  @Test(
    "whoever is told once hears all: what comes while it does not read, reads for the second time, or waits to send")
  func toldOnce() async throws {
    let ends = try await ends()
    try await echo(ends)
    for index in 0..<30 {
      try await on { ends.transport.setReading(index % 3 != 0) }
      ends.send([UInt8(index)])
      try await on {
        ends.transport.setReading(false)
        ends.transport.setReading(true)
      }
      #expect(ends.next() == [UInt8(index)])
    }
    // More than one wake takes comes while a handler runs; the loop goes on by itself.
    try await on {
      ends.owner.answer = { bytes, peer in
        if bytes[0] == 200 { for index in 0..<190 { ends.send([UInt8(index)]) } }
        #expect(ends.transport.send(.none, bytes, to: peer, corked: false) == nil)
      }
    }
    ends.send([200])
    #expect(ends.next() == [200])
    for index in 0..<190 { #expect(ends.next() == [UInt8(index)]) }
    try await close(ends)
  }

  @Test("that a receiver is gone (ICMP) neither ends the socket nor stops what others send")
  func unreachable() async throws {
    let ends = try await ends()
    try await echo(ends)
    let gone = try await self.ends()
    let endpoint = try #require(gone.transport.localEndpoint)
    try await close(gone)
    try await on { ends.transport.setReading(true) }
    for index in 0..<40 {
      try await on {
        let nobody = ends.transport.peer(for: endpoint)
        _ = [UInt8(1)].withUnsafeBytes { ends.transport.send(.none, $0, to: nobody, corked: false) }
      }
      ends.send([UInt8(index)])
      #expect(ends.next() == [UInt8(index)])
    }
    try await on { #expect(ends.owner.end == nil) }
    try await close(ends)
  }
}
