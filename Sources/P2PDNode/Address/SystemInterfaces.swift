import NIOCore
import P2PDNet

/// The machine's own interfaces.
final class SystemInterfaces: InterfaceSource, @unchecked Sendable {
  func list() -> [NodeInterface] {
    var byIndex: [UInt32: NodeInterface] = [:]
    for device in (try? System.enumerateDevices()) ?? [] {
      guard let ip = device.address.flatMap({ Endpoint($0) })?.ip, let mask = device.netmask.flatMap({ Endpoint($0) })?.ip else { continue }
      let index = UInt32(clamping: device.interfaceIndex)
      let bits = mask.high.nonzeroBitCount + mask.low.nonzeroBitCount
      byIndex[index, default: NodeInterface(name: device.name, index: index, addresses: [])].addresses.append(
        LocalAddress(ip: ip, prefix: bits, interface: index))
    }
    return byIndex.values.sorted { $0.index < $1.index }
  }

  func start(on loop: any EventLoop, changed: @escaping @Sendable () -> Void) {}
  func stop() {}
}
