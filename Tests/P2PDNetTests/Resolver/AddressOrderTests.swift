import Testing

@testable import P2PDNet

@Suite("The order of a host's addresses, and one failure out of many")
struct AddressOrderTests {
  private let a4 = ip("192.0.2.1")
  private let b4 = ip("192.0.2.2")
  private let c4 = ip("192.0.2.3")
  private let a6 = ip("2001:db8::1")
  private let b6 = ip("2001:db8::2")

  private func order(_ ips: [IPAddress], first: AddressFamily? = nil) -> [IPAddress] {
    AddressOrder.endpoints(ips, port: 80, first: first).map(\.ip)
  }

  @Test("families take turns, beginning with that of the first address or the one named")
  func interleaved() {
    #expect(order([a6, b6, a4, b4]) == [a6, a4, b6, b4])
    #expect(order([a4, b4, c4, a6]) == [a4, a6, b4, c4])
    #expect(order([a4, b4, c4, a6], first: .v6) == [a6, a4, b4, c4])
    #expect(order([a4, b4], first: .v6) == [a4, b4])
    #expect(order([a6]) == [a6])
    #expect(order([]) == [])
    #expect(AddressOrder.endpoints([a6], port: 443) == [Endpoint(ip: a6, port: 443)])
  }

  @Test("the code of a joint failure is the most telling one, and every attempt is kept")
  func joint() {
    let refused = NetError(.refused, "connect to a", cause: "connection refused")
    let timeout = NetError(.timeout, "connect to b", cause: "no answer in 2 s")
    let both = NetError("connect to host:80", attempts: [timeout, refused])
    #expect(both.code == .refused)
    #expect(both.attempts.map(\.code) == [.timeout, .refused])
    #expect(both.description.contains("connect to a") && both.description.contains("connect to b"))
    let one = NetError("connect to host:80", attempts: [timeout])
    #expect(one.code == .timeout)
    #expect(one.cause == "no answer in 2 s")
    #expect(NetError("connect to host:80", attempts: []).code == .unreachable)
  }
}
