import NIOCore
import P2PDNet

@testable import P2PDTraversal

/// A UPnP gateway in a network of memory: answers searches, gives its description, and opens ports as far as a test lets it.
final class FakeGateway: PipeSink, @unchecked Sendable {
  enum Manner {
    case honest
    /// These bytes to every request, and then the end of the stream or not.
    case bytes([UInt8], ends: Bool)
    /// A byte each second.
    case drip
  }

  let host: MemoryHost
  var manner = Manner.honest
  var service = "WANIPConnection:1"
  var location: String?
  var outside = "203.0.113.5"
  /// Faults that come before AddPortMapping works.
  var faults: [Int] = []
  /// External port (or hole's id) to "client:port lease".
  private(set) var table: [UInt16: String] = [:]
  private(set) var requests: [String] = []
  private(set) var connections = 0
  private var search: Pipe?
  private var web: Pipe?
  private var holes: UInt16 = 0

  init(_ host: MemoryHost) { self.host = host }

  /// - Parameter family: that its searches come by.
  func start(_ family: AddressFamily = .v4) -> EventLoopFuture<Void> {
    var conf = PipeConf()
    let group = family == .v4 ? ep("239.255.255.250:0").ip : ep("[ff02::c]:0").ip
    conf.multicastGroups = [group]
    let loop = host.loop
    return PipeOpener.open(
      .udp, bind: Endpoint(ip: .wildcard(family), port: 1900), conf: conf, sink: self, on: loop
    ).flatMap { search in
      self.search = search
      return PipeOpener.open(.tcp, bind: Endpoint(ip: .wildcard(family), port: 5000), sink: self, on: loop)
    }.map { self.web = $0 }
  }

  func pipe(_ pipe: Pipe, message bytes: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    let ip = host.addresses.first { $0.family == pipe.family }.map { Endpoint(ip: $0, port: 5000) }
    let place = location ?? "http://\(ip.map(\.description) ?? "")/desc.xml"
    let text =
      "HTTP/1.1 200 OK\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\nLOCATION: \(place)\r\n\r\n"
    _ = text.utf8CString.withUnsafeBytes { pipe.send(UnsafeRawBufferPointer(rebasing: $0.dropLast()), to: peer) }
    return true
  }

  func pipeAccepted(_ pipe: Pipe, by server: Pipe) -> (any PipeSink)? {
    connections += 1
    return Visit(self)
  }

  /// One connection: reads a request, answers it.
  private final class Visit: PipeSink {
    let gateway: FakeGateway
    var bytes: [UInt8] = []
    init(_ gateway: FakeGateway) { self.gateway = gateway }

    func pipe(_ pipe: Pipe, message: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
      bytes += message
      let text = String(decoding: bytes, as: UTF8.self)
      guard let end = text.firstRange(of: "\r\n\r\n") else { return true }
      let head = text[..<end.lowerBound]
      let length = head.split(separator: "\r\n").first { $0.hasPrefix("Content-Length: ") }.flatMap {
        Int($0.dropFirst(16))
      }
      guard text[end.upperBound...].utf8.count >= length ?? 0 else { return true }
      bytes = []
      gateway.answer(String(head), String(text[end.upperBound...]), from: peer.endpoint?.ip, on: pipe)
      return true
    }
  }

  private func answer(_ head: String, _ body: String, from client: IPAddress?, on pipe: Pipe) {
    requests.append(String(head.split(separator: "\r\n").first ?? ""))
    switch manner {
    case .bytes(let bytes, let ends):
      _ = bytes.withUnsafeBytes { pipe.send($0) }
      if ends { pipe.close() }
    case .drip: drip(pipe)
    case .honest:
      let (status, text) = head.hasPrefix("GET") ? (200, description) : call(body, client)
      // In chunks, as some do.
      let chunked = stride(from: 0, to: text.utf8.count, by: 100).map { start in
        let piece = Array(text.utf8)[start..<min(start + 100, text.utf8.count)]
        return String(piece.count, radix: 16) + "\r\n" + String(decoding: piece, as: UTF8.self) + "\r\n"
      }.joined()
      let all = "HTTP/1.1 \(status) X\r\nTransfer-Encoding: chunked\r\n\r\n\(chunked)0\r\n\r\n"
      _ = all.utf8CString.withUnsafeBytes { pipe.send(UnsafeRawBufferPointer(rebasing: $0.dropLast())) }
    }
  }

  private func drip(_ pipe: Pipe) {
    guard pipe.isOpen else { return }
    _ = [UInt8(ascii: "H")].withUnsafeBytes { pipe.send($0) }
    host.loop.assumeIsolated().scheduleTask(in: .seconds(1)) { self.drip(pipe) }
  }

  private var description: String {
    "<root><device><friendlyName>Box</friendlyName><serviceList><service><serviceType>"
      + "urn:schemas-upnp-org:service:\(service)</serviceType><controlURL>/ctl</controlURL></service></serviceList></device></root>"
  }

  private func call(_ body: String, _ client: IPAddress?) -> (Int, String) {
    guard let call = (try? XMLElement.parse(Array(body.utf8)))?.child("Body")?.children.first else { return (400, "") }
    func value(_ name: String) -> String { call.child(name)?.text ?? "" }
    func done(_ values: String = "") -> (Int, String) {
      (200, "<s:Envelope><s:Body><u:\(call.name)Response>\(values)</u:\(call.name)Response></s:Body></s:Envelope>")
    }
    func fault(_ code: Int) -> (Int, String) {
      let error = "<UPnPError><errorCode>\(code)</errorCode><errorDescription>no</errorDescription></UPnPError>"
      return (500, "<s:Envelope><s:Body><s:Fault><detail>\(error)</detail></s:Fault></s:Body></s:Envelope>")
    }
    requests.append(call.name)
    switch call.name {
    case "GetExternalIPAddress": return done("<NewExternalIPAddress>\(outside)</NewExternalIPAddress>")
    case "AddPortMapping", "AddAnyPortMapping":
      if !faults.isEmpty { return fault(faults.removeFirst()) }
      let place = "\(value("NewInternalClient")):\(value("NewInternalPort"))"
      let port = UInt16(value("NewExternalPort")) ?? 0
      if let other = table[port], !other.hasPrefix(place) { return fault(718) }
      table[port] = "\(place) \(value("NewLeaseDuration"))"
      return done("<NewReservedPort>\(port)</NewReservedPort>")
    case "DeletePortMapping":
      return table.removeValue(forKey: UInt16(value("NewExternalPort")) ?? 0) == nil ? fault(714) : done()
    case "AddPinhole":
      // Only for who asks (WANIPv6FirewallControl:1 §2.3.1).
      guard value("InternalClient") == client?.description else { return fault(606) }
      holes += 1
      table[holes] = "\(value("InternalClient")) \(value("InternalPort"))"
      return done("<UniqueID>\(holes)</UniqueID>")
    case "DeletePinhole": return table.removeValue(forKey: UInt16(value("UniqueID")) ?? 0) == nil ? fault(704) : done()
    default: return fault(401)
    }
  }
}
