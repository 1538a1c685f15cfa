@testable import P2PDNet
@testable import P2PDTraversal

/// UPnP: answers to a search, HTTP in pieces of any size, XML, descriptions and SOAP. Nothing may trap, no more is held than
/// is allowed, the pieces' sizes change nothing, and no place that comes out is anywhere but on the router.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzUPnP(_ data: UnsafePointer<UInt8>, _ size: Int) -> Int32 {
  let bytes = [UInt8](UnsafeBufferPointer(start: data, count: size))
  guard let router = IPAddress("192.168.1.1"), let base = HTTPPlace("/root.xml", host: router) else { return 0 }
  let text = String(decoding: bytes, as: UTF8.self)
  if let answer = SSDPAnswer(bytes) { check(answer.location, router) }
  check(text, router)
  let whole = httpAnswer(bytes, limit: limit)
  let document = whole?.body ?? bytes
  precondition((whole?.body.count ?? 0) <= limit, "more than allowed")
  if let element = try? XMLElement.parse(document) { precondition(depth(element) <= 24, "too deep") }
  if let description = try? UPnPDescription(document, host: router, at: base) {
    precondition(description.services.count <= 16 && description.name.unicodeScalars.count <= 80, "too much")
    for service in description.services {
      let request = SOAPCall(service, "X").request(host: "192.168.1.1:1")
      let head = String(decoding: request, as: UTF8.self).split(separator: "\r\n\r\n", maxSplits: 1)[0]
      precondition(head.utf8.count { $0 == 10 } == 5, "a line of the router's in a request")
    }
  }
  if case .failed(let fault)? = try? SOAPAnswer(document, to: "X") { _ = fault.words }
  return 0
}

private let limit = 1024

private func check(_ text: String, _ router: IPAddress) {
  guard let place = HTTPPlace(text, host: router) else { return }
  precondition(place.port != 0 && place.path.hasPrefix("/"), "a place nowhere")
  precondition(place.path.utf8.allSatisfy { $0 > 32 && $0 < 127 }, "a path that is more than a path")
  if text.lowercased().hasPrefix("http://") { precondition(text.contains("192.168.1.1"), "a place elsewhere") }
}

private func depth(_ element: XMLElement) -> Int { 1 + (element.children.map(depth).max() ?? 0) }
