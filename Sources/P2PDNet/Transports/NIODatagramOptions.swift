import Glibc
import NIOCore

/// Broadcast and multicast settings of UDP sockets.
enum NIODatagramOptions {
  static func apply(_ conf: PipeConf, family: AddressFamily, to channel: any Channel) throws {
    guard let options = channel.syncOptions else { return }
    // The kernel clamps to net.core.[rw]mem_max; a burst should not be lost for want of a buffer.
    try options.setOption(.socketOption(.so_rcvbuf), value: 1 << 20)
    try options.setOption(.socketOption(.so_sndbuf), value: 1 << 20)
    if conf.broadcast { try options.setOption(.socketOption(.so_broadcast), value: 1) }
    let level = Int(family == .v4 ? IPPROTO_IP : Int(IPPROTO_IPV6))
    if let hops = conf.multicastTTL {
      let name = family == .v4 ? IP_MULTICAST_TTL : IPV6_MULTICAST_HOPS
      try SocketOptions.set(channel, level, Int(name), CInt(clamping: hops), "set the multicast hop limit")
    }
    if let loop = conf.multicastLoop {
      let name = family == .v4 ? IP_MULTICAST_LOOP : IPV6_MULTICAST_LOOP
      try SocketOptions.set(channel, level, Int(name), loop ? 1 : 0, "set the multicast loop")
    }
  }

  static func join(_ groups: [IPAddress], channel: any Channel, interface: String?) -> EventLoopFuture<Void> {
    guard !groups.isEmpty else { return channel.eventLoop.makeSucceededVoidFuture() }
    guard let multicast = channel as? any MulticastChannel else {
      return channel.eventLoop.makeFailedFuture(NetError(.unsupported, "join a multicast group"))
    }
    for group in groups where !group.isMulticast {
      return channel.eventLoop.makeFailedFuture(
        NetError(.badAddress, "join \(group)", cause: "not a multicast address (224.0.0.0/4 or ff00::/8)"))
    }
    let device = interface.flatMap { name in
      (try? System.enumerateDevices())?.first { $0.name == name && $0.address?.protocol == groups[0].protocolFamily }
    }
    let joins = groups.map { group in
      multicast.joinGroup(Endpoint(ip: group, port: 0).socketAddress, device: device)
    }
    return EventLoopFuture.andAllSucceed(joins, on: channel.eventLoop)
  }
}

extension IPAddress {
  fileprivate var protocolFamily: NIOBSDSocket.ProtocolFamily { family == .v4 ? .inet : .inet6 }
}
