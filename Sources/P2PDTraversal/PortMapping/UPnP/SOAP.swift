/// A call of a UPnP service (UPnP Device Architecture 1.1 §3).
public struct SOAPCall: Hashable, Sendable {
  public var service: UPnPService
  public var action: String
  public var arguments: [Argument]

  public struct Argument: Hashable, Sendable {
    public var name: String
    public var value: String
  }

  init(_ service: UPnPService, _ action: String, _ arguments: KeyValuePairs<String, String> = [:]) {
    self.service = service
    self.action = action
    self.arguments = arguments.map { Argument(name: $0.key, value: $0.value) }
  }

  /// The document that asks.
  var body: String {
    let inner = arguments.map { "<\($0.name)>\(Self.escaped($0.value))</\($0.name)>" }.joined()
    return "<?xml version=\"1.0\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\""
      + " s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body><u:\(action) xmlns:u=\"\(service.type)\">"
      + "\(inner)</u:\(action)></s:Body></s:Envelope>\r\n"
  }

  /// The whole request.
  func request(host: String) -> [UInt8] {
    let body = Array(body.utf8)
    let lines = [
      "POST \(service.place.path) HTTP/1.1", "Host: \(host)", "Content-Type: text/xml; charset=\"utf-8\"",
      "SOAPAction: \"\(service.type)#\(action)\"", "Content-Length: \(body.count)", "Connection: close", "", "",
    ]
    return Array(lines.joined(separator: "\r\n").utf8) + body
  }

  private static func escaped(_ text: String) -> String {
    text.map { character in
      switch character {
      case "<": "&lt;"
      case ">": "&gt;"
      case "&": "&amp;"
      default: String(character)
      }
    }.joined()
  }
}

/// What a service answered.
public enum SOAPAnswer: Hashable, Sendable {
  case done([String: String])
  case failed(UPnPFault)

  /// - Throws: where it is neither an answer to that action nor a fault.
  public init(_ bytes: [UInt8], to action: String) throws(XMLError) {
    let root = try XMLElement.parse(bytes)
    guard root.name == "Envelope", let body = root.child("Body") else { throw .malformed }
    if let fault = body.child("Fault") {
      // Some put it into the fault itself.
      let error = fault.child("detail")?.child("UPnPError") ?? fault.child("UPnPError")
      self = .failed(
        UPnPFault(
          code: error?.child("errorCode").flatMap { Int($0.text) } ?? 0,
          text: (error?.child("errorDescription")?.text ?? fault.child("faultstring")?.text ?? "").cleaned(longest: 80))
      )
      return
    }
    guard let answer = body.child(action + "Response") else { throw .malformed }
    self = .done(Dictionary(answer.children.map { ($0.name, $0.text) }) { first, _ in first })
  }
}

/// A service's refusal (UPnP Device Architecture 1.1 §3.2.2, WANIPConnection:2 §2.5, WANIPv6FirewallControl:1 §2.4).
public struct UPnPFault: Hashable, Sendable {
  public var code: Int
  public var text: String

  public init(code: Int, text: String = "") {
    self.code = code
    self.text = text
  }

  /// For people.
  public var words: String {
    let known: String? =
      switch code {
      case 401, 602: "the router has no such function"
      case 402: "the router does not take the request's values"
      case 501: "the router could not do it"
      case 606: "the router does not allow it"
      case 701, 728: "the router has no room for more mappings"
      case 702: "the router's IPv6 firewall is off"
      case 703: "the router lets nobody open its IPv6 firewall"
      case 718, 729: "another program or host has this outside port"
      case 725: "the router gives mappings without an end only"
      default: nil
      }
    let said = text.isEmpty || known != nil ? "" : " \"\(text)\""
    return (known ?? "the router refused\(said)") + " (UPnP error \(code))"
  }
}
