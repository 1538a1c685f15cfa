import CNet
import Glibc

/// A socket to the kernel's tables of links, addresses and routes. It lives in the network namespace of the thread
/// that made it, and closes itself.
struct NetlinkSocket: ~Copyable {
  let descriptor: CInt

  /// `groups` are the multicast groups to hear from; 0 for one that only asks.
  init(groups: UInt32 = 0) throws(NetError) {
    descriptor = cnet_netlink_open(groups)
    guard descriptor >= 0 else { throw NetError(errno: 0 &- descriptor, "open a netlink socket") }
  }

  deinit { close(descriptor) }

  /// Everything the kernel has of one kind. A dump during which the tables changed is asked again.
  static func dump(
    _ kind: NetlinkCodec.Dump, family: AddressFamily? = nil
  ) throws(NetError) -> [NetlinkCodec.Content] {
    var last: [NetlinkCodec.Content] = []
    for sequence in 1...dumpAttempts {
      // A socket for each attempt: the kernel goes on with a dump that was given up (EBUSY).
      let (contents, isWhole) = try NetlinkSocket().dumpOnce(kind, family: family, sequence: sequence)
      if isWhole { return contents }
      last = contents
    }
    // Tables that change without pause: the last reading is as good as any later one.
    return last
  }

  private consuming func dumpOnce(
    _ kind: NetlinkCodec.Dump, family: AddressFamily?, sequence: UInt32
  ) throws(NetError) -> (contents: [NetlinkCodec.Content], isWhole: Bool) {
    let what = "ask the kernel for its \(kind)"
    let request = NetlinkCodec.request(kind, family: family, sequence: sequence)
    let sent = request.withUnsafeBytes { cnet_netlink_send(descriptor, $0.baseAddress, $0.count) }
    guard sent == request.count else { throw NetError(errno: sent < 0 ? Int32(0 &- sent) : EIO, what) }
    var contents: [NetlinkCodec.Content] = []
    var isWhole = true
    while true {
      let datagram: [UInt8]
      switch receive(timeoutMilliseconds: Self.answerTimeout) {
      case .datagram(let bytes): datagram = bytes
      case .foreign: continue
      case .lost: return (contents, false)
      case .nothing: throw NetError(.timeout, what, cause: "the kernel did not answer")
      case .failed(let number): throw NetError(errno: number, what)
      }
      for message in NetlinkCodec.messages(in: datagram) {
        if message.isInterrupted { isWhole = false }
        switch message.content {
        case .done: return (contents, isWhole)
        case .failed(let number): throw NetError(errno: number, what)
        case .overrun: return (contents, false)
        case .malformed: throw NetError(.io, what, cause: "the answer is damaged")
        default: if message.sequence == sequence { contents.append(message.content) }
        }
      }
    }
  }

  enum Received {
    case datagram([UInt8])
    /// Nothing waits.
    case nothing
    /// The kernel had more to tell than the socket's buffer holds (ENOBUFS, netlink(7)).
    case lost
    /// Not from the kernel.
    case foreign
    case failed(Int32)
  }

  /// The next datagram, waited for at most so long.
  borrowing func receive(timeoutMilliseconds: Int32) -> Received {
    let waiting = cnet_netlink_waiting(descriptor, timeoutMilliseconds)
    guard waiting >= 0 else { return Self.outcome(0 &- waiting) }
    guard waiting <= Self.longestDatagram else { return .failed(EMSGSIZE) }
    var failure = 0
    let bytes = [UInt8](unsafeUninitializedCapacity: max(waiting, 1)) { buffer, count in
      let got = cnet_netlink_receive(descriptor, buffer.baseAddress, buffer.count)
      count = max(got, 0)
      if got < 0 { failure = 0 &- got }
    }
    return failure == 0 ? .datagram(bytes) : Self.outcome(failure)
  }

  private static func outcome(_ number: Int) -> Received {
    switch Int32(truncatingIfNeeded: number) {
    case EAGAIN: .nothing
    case ENOBUFS: .lost
    case EPERM: .foreign
    case let other: .failed(other)
    }
  }

  /// Two are nearly always enough; the bound is for tables in constant change.
  private static let dumpAttempts: UInt32 = 8
  /// Milliseconds. The kernel answers in its own send and receive calls; this only guards against waiting for ever.
  private static let answerTimeout: Int32 = 2_000
  /// Bytes. The kernel writes dumps in datagrams of at most 32 KiB.
  private static let longestDatagram = 1 << 20
}
