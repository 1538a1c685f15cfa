import P2PDNet

@testable import P2PDNode

private let identity = Identity.ephemeral()

/// Addresses others paste. Input that begins with `p2pd` is read as it stands; anything else becomes the signed fields of
/// an address, which random tokens never reach.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzAddress(_ data: UnsafePointer<UInt8>, _ size: Int) -> Int32 {
  let input = [UInt8](UnsafeBufferPointer(start: data, count: size))
  if input.starts(with: "p2pd".utf8) {
    if let address = try? NodeAddress(String(decoding: input, as: UTF8.self)) { check(address) }
  } else if let address = try? NodeAddress.make(by: identity, body: identity.key.bytes + [0, 0, 0, 1] + input) {
    check(address)
    remake(address)
  }
  return 0
}

private func check(_ address: NodeAddress) {
  let again = try? NodeAddress(address.description)
  precondition(again == address, "an address cannot be read back")
  precondition(address.routes.count <= NodeAddress.maximumRoutes, "too many routes")
  for route in address.routes { precondition(route.port != 0 && !route.nic.isMulticast, "a route to nowhere") }
  precondition(address.explanation(now: 0).count >= 4, "nothing to say")
}

/// What was read, written again, says the same.
private func remake(_ address: NodeAddress) {
  guard
    let again = try? NodeAddress.make(
      by: identity, issued: address.issued, routes: address.routes, signalling: address.signalling)
  else { return }
  precondition(again.routes == address.routes, "routes change when written")
  precondition(again.signalling == address.signalling, "signal servers change when written")
}
