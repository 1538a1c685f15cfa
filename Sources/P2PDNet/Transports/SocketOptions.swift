import Glibc
import NIOCore

/// setsockopt(2) on a channel that is not bound yet, for the options swift-nio has no names for.
public enum SocketOptions {
  static func set(_ channel: any Channel, _ level: Int, _ name: Int, _ value: CInt, _ what: String) throws(NetError) {
    try set(channel, level, name, raw: value, what)
  }

  static func setLinger(_ channel: any Channel, seconds: Int) throws(NetError) {
    try set(
      channel, Int(SOL_SOCKET), Int(SO_LINGER), raw: linger(l_onoff: 1, l_linger: CInt(clamping: seconds)),
      "set SO_LINGER")
  }

  /// swift-nio opens and accepts sockets that a child process (`os.execute`, `io.popen`) would inherit: a closed port
  /// would go on listening and a closed pipe's peer would see no end while the child lives.
  public static func closeOnExec(_ channel: any Channel) {
    let fd = NIOStreamTransport.descriptor(of: channel)
    if fd >= 0 { _ = fcntl(fd, F_SETFD, FD_CLOEXEC) }
  }

  private static func set<T: BitwiseCopyable>(_ channel: any Channel, _ level: Int, _ name: Int, raw: T, _ what: String)
    throws(NetError)
  {
    let fd = NIOStreamTransport.descriptor(of: channel)
    var value = raw
    guard setsockopt(fd, CInt(level), CInt(name), &value, socklen_t(MemoryLayout<T>.size)) == 0 else {
      throw NetError(errno: errno, what)
    }
  }
}
