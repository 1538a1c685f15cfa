import Foundation
import NIOCore
import Testing

@testable import P2PDNet

/// Certificates and keys that tests use.
enum TLSFixtures {
  static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appendingPathComponent("../../Fixtures/tls").standardizedFileURL.path
}

@Suite struct TLSTests {
  let kit = PipeKit()
  private static let folder = TLSFixtures.folder

  private func serverConf(_ framing: Framing = .u32) throws -> PipeConf {
    var conf = PipeConf()
    conf.framing = framing
    conf.tls = try .server(certificateFile: Self.folder + "/server.pem", keyFile: Self.folder + "/server.key")
    return conf
  }

  private func clientConf(ca: String? = "/ca.pem", name: String? = "localhost", verify: Bool = true) throws -> PipeConf
  {
    var conf = PipeConf()
    conf.framing = .u32
    conf.tls = try .client(serverName: name, caFile: ca.map { Self.folder + $0 }, verify: verify)
    return conf
  }

  @Test("messages of every size arrive whole over TLS, many at a time")
  func echo() async throws {
    let server = try await kit.server(.tcp, EchoSink(), conf: try serverConf())
    let client = try await kit.client(to: server, conf: try clientConf())
    for size in [0, 1, 100, 16_384, 300_000] {
      let text = String(repeating: "y", count: size)
      for _ in 0..<5 { #expect(try await kit.send(text, on: client) != "limit") }
      for _ in 0..<5 { #expect(try await kit.receive(client).utf8.count == size) }
    }
    _ = try await kit.loop.flatSubmit { client.close() }.get()
    #expect(try await kit.on { client.lost } == 0)
    try await kit.close(server)
  }

  @Test("a certificate of an unknown CA or for another name is refused, unless verification is off")
  func verification() async throws {
    // Over IPv6, since the certificate is also good for 127.0.0.1.
    let server = try await kit.server(.tcp, EchoSink(), ip: .loopback(.v6), conf: try serverConf())
    let unknown = await failure { try await kit.client(to: server, conf: try clientConf(ca: nil)) }
    #expect(unknown?.code == .tls, "\(String(describing: unknown))")
    let other = await failure { try await kit.client(to: server, conf: try clientConf(name: "example.org")) }
    #expect(other?.code == .tls, "\(String(describing: other))")
    let blind = try await kit.client(to: server, conf: try clientConf(ca: nil, name: "example.org", verify: false))
    try await kit.send("hi", on: blind)
    #expect(try await kit.receive(blind) == "hi")
    try await kit.close(blind, server)
  }

  @Test("a peer without TLS is told apart, and a silent one does not hold a handshake for ever")
  func notTLS() async throws {
    let plain = try await kit.server(.tcp, EchoSink())
    let error = await failure { try await kit.client(to: plain, conf: try clientConf()) }
    #expect(error?.code == .tls, "\(String(describing: error))")
    var conf = try serverConf()
    conf.conTimeout = .milliseconds(50)
    let server = try await kit.server(.tcp, EchoSink(), conf: conf)
    let silent = try await kit.client(to: server, conf: PipeConf())
    #expect(["closed", "reset"].contains(try await silent.ended.get().code))
    var hurried = try clientConf()
    hurried.conTimeout = .milliseconds(50)
    let quiet = try await kit.server(.tcp, SlowSink())
    let late = await failure { try await kit.client(to: quiet, conf: hurried) }
    #expect(late?.code == .timeout, "\(String(describing: late))")
    try await kit.close(plain, server, quiet)
  }

  @Test("missing files are named")
  func files() {
    #expect(throws: NetError.self) { try TLSSetup.server(certificateFile: "/nonexistent", keyFile: "/nonexistent") }
  }
}
