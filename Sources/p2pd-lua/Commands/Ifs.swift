import ArgumentParser
import P2PDNet

struct Ifs: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "List this machine's network interfaces.",
    discussion: """
      EXAMPLES
        p2pd-lua ifs
        p2pd-lua ifs --json | jq '.[] | select(.default) | .name'
      """)

  @Flag(help: "Write JSON.")
  var json = false

  func run() throws {
    let snapshot: NetworkSnapshot
    do {
      snapshot = try NetworkSnapshot.current()
    } catch {
      throw Failure("\(error)")
    }
    if json {
      Console.shared.out(JSONText.array(snapshot.interfaces.map { InterfaceText.json($0, in: snapshot) }).pretty + "\n")
    } else {
      Console.shared.out(snapshot.interfaces.map { InterfaceText.lines($0, in: snapshot) }.joined(separator: "\n"))
    }
  }
}

/// An interface in words and as JSON.
enum InterfaceText {
  static func lines(_ nic: NetworkInterface, in snapshot: NetworkSnapshot) -> String {
    var facts = [nic.isUp ? "up" : "down"]
    if !nic.kind.isEmpty { facts.append(nic.kind) }
    facts.append("MTU \(nic.mtu)")
    if let mac = nic.mac { facts.append(mac) }
    let defaults = AddressFamily.allCases.filter { snapshot.isDefault(nic, $0) }.map(\.description)
    if !defaults.isEmpty { facts.append("default for \(defaults.joined(separator: " and "))") }
    var out = "\(nic.index) \(nic.name): \(facts.joined(separator: ", "))\n"
    for address in nic.addresses {
      let marks = address.isUsable ? "" : " (not usable)"
      out += "    \(address)  \(address.scope.rawValue)\(marks)\n"
    }
    return out
  }

  static func json(_ nic: NetworkInterface, in snapshot: NetworkSnapshot) -> JSONText {
    let addresses = nic.addresses.map { address in
      JSONText.object([
        ("ip", .string(address.ip.description)), ("prefix", .int(address.prefixLength)),
        ("family", .string(address.ip.family == .v4 ? "ipv4" : "ipv6")), ("scope", .string(address.scope.rawValue)),
        ("usable", .bool(address.isUsable)),
      ])
    }
    let defaults = AddressFamily.allCases.filter { snapshot.isDefault(nic, $0) }
    return .object([
      ("name", .string(nic.name)), ("index", .int(Int(nic.index))), ("up", .bool(nic.isUp)),
      ("loopback", .bool(nic.isLoopback)), ("kind", .string(nic.kind)), ("mtu", .int(nic.mtu)),
      ("mac", nic.mac.map { .string($0) } ?? .null), ("default", .bool(!defaults.isEmpty)),
      ("default_ipv4", .bool(defaults.contains(.v4))), ("default_ipv6", .bool(defaults.contains(.v6))),
      ("addresses", .array(addresses)),
    ])
  }
}
