import NIOCore
import P2PDNet
import Testing

@testable import P2PDNames

@Suite("Name servers over https") struct NameClientTLSTests {
  private static let folder = #filePath.split(separator: "/").dropLast(3).reduce("") { $0 + "/" + $1 } + "/Fixtures/tls"

  /// A client whose only server is on its own host, where the certificate's name leads.
  private func ask(_ url: String, ca: String?, encrypted: Bool = true) async throws -> NameAnswer {
    let world = try NameWorld(servers: 0)
    let server = ScriptedServer(world.home, world)
    let owner = NameOwner.ephemeral()
    let name = try PeerName("example.peer")
    server.records["example.peer"] = try .sign(
      name: name, value: "here", sequence: 1, expires: NameWorld.wallClock + 60, as: owner)
    let tls = try TLSSetup.server(
      certificateFile: Self.folder + "/server.pem", keyFile: Self.folder + "/server.key",
      applicationProtocols: ["http/1.1"])
    return try await world.run {
      try await server.start(port: 443, tls: encrypted ? tls : nil)
      var conf = NameClientConf()
      conf.clock = { world.clock }
      conf.caFile = ca
      let set = try NameSet(tld: "peer", servers: [try NameServerURL(url)])
      let client = NameClient(sets: [set], conf: conf, on: world.home.loop)
      let answer = try await client.lookup(name).get()
      // The settings read once serve the next connection too.
      _ = try await client.lookup(name).get()
      client.close()
      return answer
    }
  }

  private func code(_ answer: NameAnswer) -> NetError.Code? {
    if case .failed(let error) = answer.replies[0].word { error.code } else { nil }
  }

  @Test("a certificate of the CA that was named is taken")
  func trusted() async throws {
    #expect(try await ask("https://localhost", ca: Self.folder + "/ca.pem").result.get().value == "here")
  }

  @Test("an unknown CA, no TLS at all, and a CA file that is not there are one server's failure")
  func refused() async throws {
    for ca in [nil, "/nonexistent"] {
      let answer = try await ask("https://localhost", ca: ca)
      #expect(code(answer) == .tls)
    }
    let plain = try await ask("https://localhost", ca: Self.folder + "/ca.pem", encrypted: false)
    #expect(code(plain) != nil)
    let encrypted = try await ask("http://localhost:443", ca: nil)
    #expect(code(encrypted) != nil)
  }
}
