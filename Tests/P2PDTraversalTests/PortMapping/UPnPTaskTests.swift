import NIOCore
import P2PDNet
import Testing

@testable import P2PDTraversal

@Suite("Opening a port by UPnP, stepped by hand")
struct UPnPTaskTests {
  private static func service(_ type: String) -> UPnPService? {
    HTTPPlace("/ctl", host: ep("192.168.1.1:0").ip).flatMap {
      UPnPService("urn:schemas-upnp-org:service:\(type)", at: $0)
    }
  }

  /// Steps a task with what a router answers, a fault's code or values; the calls that it makes, and the end.
  private func play(
    _ type: String, local: String = "192.168.1.10:0", _ answers: [[String: String]?], faults: [Int] = []
  )
    throws -> [String]
  {
    let service = try #require(Self.service(type))
    var task = UPnPTask(
      service, .init(local: ep(local).ip, transport: .tcp, port: 4000), port: 5000, draw: { 6000 })
    var (answers, faults) = (answers[...], faults[...])
    var words: [String] = []
    var step = task.start()
    while case .call(let call) = step {
      let asked = call.arguments.filter { ["NewExternalPort", "NewLeaseDuration", "InternalPort"].contains($0.name) }
      words.append(([call.action] + asked.map(\.value)).joined(separator: " "))
      let next = answers.popFirst() ?? faults.popFirst().map { _ in nil } ?? ["end": ""]
      if let next {
        step = task.handle(next["silence"] == nil ? .done(next) : nil)
      } else {
        step = task.handle(.failed(UPnPFault(code: faults.first ?? 0)))
      }
    }
    switch step {
    case .granted(let grant):
      words.append("\(grant.external) \(grant.lifetime.map { $0.nanoseconds / 1_000_000_000 } ?? -1)")
      if let hole = grant.pinhole { words.append("hole \(hole)") }
    case .refused(_, let isFinal): words.append(isFinal ? "refused" : "later")
    case .call: break
    }
    return words
  }

  private let address = ["NewExternalIPAddress": "203.0.113.5"]

  /// The router of version 1 or 2 that answers each AddPortMapping with the next of these: 0 for yes, or a fault.
  private func route(_ type: String, _ codes: [Int]) throws -> [String] {
    let service = try #require(Self.service(type))
    var task = UPnPTask(
      service, .init(local: ep("192.168.1.10:0").ip, transport: .tcp, port: 4000), port: 5000, draw: { 6000 })
    var codes = codes[...]
    var words: [String] = []
    var step = task.start()
    while case .call(let call) = step {
      func value(_ name: String) -> String { call.arguments.first { $0.name == name }?.value ?? "" }
      switch call.action {
      case "GetExternalIPAddress": step = task.handle(.done(address))
      default:
        words.append(
          "\(call.action == "AddPortMapping" ? "add" : "any") \(value("NewExternalPort")) \(value("NewLeaseDuration"))")
        let code = codes.popFirst() ?? 0
        step = task.handle(
          code == 0 ? .done(["NewReservedPort": value("NewExternalPort")]) : .failed(UPnPFault(code: code)))
      }
    }
    switch step {
    case .granted(let grant): words.append("\(grant.external.port)" + (grant.lifetime == nil ? " for ever" : ""))
    default: words.append("refused")
    }
    return words
  }

  @Test("version 1 and version 2")
  func versions() throws {
    #expect(try route("WANIPConnection:1", []) == ["add 5000 7200", "5000"])
    #expect(try route("WANIPConnection:2", []) == ["any 5000 7200", "5000"])
    #expect(try route("WANPPPConnection:1", []) == ["add 5000 7200", "5000"])
    #expect(try route("WANIPConnection:2", [401]) == ["any 5000 7200", "add 5000 7200", "5000"])
  }

  @Test("725 and its like: a mapping without an end")
  func permanent() throws {
    for code in [725, 402, 501] {
      #expect(try route("WANIPConnection:1", [code]) == ["add 5000 7200", "add 5000 0", "5000 for ever"])
    }
    #expect(try route("WANIPConnection:1", [725, 725]) == ["add 5000 7200", "add 5000 0", "refused"])
  }

  @Test("718: another port, a bounded number of times; 724: the same port on both sides")
  func conflict() throws {
    #expect(try route("WANIPConnection:1", [718]) == ["add 5000 7200", "add 6000 7200", "6000"])
    let all = try route("WANIPConnection:1", [Int](repeating: 718, count: 100))
    #expect(all.count == 8 && all.last == "refused")
    #expect(try route("WANIPConnection:1", [724]) == ["add 5000 7200", "add 4000 7200", "4000"])
    #expect(try route("WANIPConnection:1", [606]) == ["add 5000 7200", "refused"])
  }

  @Test("no outside address, or nothing that can be read: later; an answer without a port: refused")
  func odd() throws {
    #expect(try play("WANIPConnection:1", [["NewExternalIPAddress": "0.0.0.0"]]) == ["GetExternalIPAddress", "later"])
    #expect(try play("WANIPConnection:1", [["NewExternalIPAddress": "x"]]) == ["GetExternalIPAddress", "later"])
    #expect(try play("WANIPConnection:1", [["silence": ""]]) == ["GetExternalIPAddress", "later"])
    for port in ["", "0", "70000", "x"] {
      #expect(
        try play("WANIPConnection:2", [address, ["NewReservedPort": port]]).last == "refused")
    }
  }

  @Test("a hole in the IPv6 firewall, and its removal by its name")
  func hole() throws {
    let words = try play("WANIPv6FirewallControl:1", local: "[2001:db8::5]:0", [["UniqueID": "17"]])
    #expect(words == ["AddPinhole 4000", "[2001:db8::5]:4000 7200", "hole 17"])
    let service = try #require(Self.service("WANIPv6FirewallControl:1"))
    let want = MappingLease.Want(local: ep("[2001:db8::5]:0").ip, transport: .tcp, port: 4000)
    let grant = MappingLease.Grant(by: .upnp, external: ep("[2001:db8::5]:4000"), lifetime: nil, pinhole: 17)
    let removal = UPnPTask.removal(grant, want, service)
    #expect(removal.action == "DeletePinhole" && removal.arguments.map(\.value) == ["17"])
    #expect(try play("WANIPv6FirewallControl:1", local: "[2001:db8::5]:0", [["UniqueID": "x"]]).last == "refused")
  }
}
