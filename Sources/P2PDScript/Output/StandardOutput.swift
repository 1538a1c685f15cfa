import Glibc
import Synchronization

/// Standard output, whoever reads it and however slowly: what the kernel takes goes out at once, so that it keeps its place
/// among what the script writes with `io.write`; the rest waits in a bounded queue, and beyond that the script does.
///
/// A reader that is gone is no error: what is printed from then on goes nowhere, as in `exec ... | head -1`.
public final class StandardOutput: ScriptOutput {
  public static let shared = StandardOutput(STDOUT_FILENO)

  /// Written to without waiting; -1 where there is no such way.
  private let quick: Int32
  private let queue: OutputQueue
  private let waiters: Waiters

  private final class Waiters: Sendable {
    let list = Mutex<[@Sendable () -> Void]>([])
    func wake() {
      let all = list.withLock { list in
        defer { list = [] }
        return list
      }
      for one in all { one() }
    }
  }

  /// - Parameter file: stays open as long as this lives.
  init(_ file: Int32) {
    quick = Self.quickWay(to: file)
    let waiters = Waiters()
    self.waiters = waiters
    queue = OutputQueue(
      write: { Descriptor.write($0, to: file) }, drained: { waiters.wake() }, failed: { _ in })
  }

  /// A description of its own for a pipe or a terminal: this one can be made non-blocking without the programs that share
  /// standard output noticing. A file takes everything; for a socket, or a terminal of another user, there is none.
  private static func quickWay(to file: Int32) -> Int32 {
    var info = stat()
    guard fstat(file, &info) == 0 else { return -1 }
    switch info.st_mode & S_IFMT {
    case S_IFREG: return file
    case S_IFIFO, S_IFCHR: return open("/proc/self/fd/\(file)", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)
    default: return -1
    }
  }

  public func put(_ line: [UInt8]) {
    var rest = line[...]
    if quick >= 0, queue.isEmpty {
      while !rest.isEmpty {
        let count = rest.withUnsafeBytes { Glibc.write(quick, $0.baseAddress, $0.count) }
        if count > 0 { rest = rest.dropFirst(count) } else if count == 0 || errno != EINTR { break }
      }
    }
    if !rest.isEmpty { queue.put(Array(rest)) }
  }

  public var isFull: Bool { queue.isFull }

  public func whenRoom(_ done: @escaping @Sendable () -> Void) {
    // Whoever drains the queue waits for this lock, so nobody is forgotten in between.
    let waits = waiters.list.withLock { list in
      guard queue.isFull else { return false }
      list.append(done)
      return true
    }
    if !waits { done() }
  }

  public func whenWritten(_ done: @escaping @Sendable () -> Void) { queue.whenEmpty(done) }
}

/// Writing to a descriptor, for threads that may wait.
package enum Descriptor {
  /// All bytes, however many calls it takes. False with errno on failure.
  package static func write(_ bytes: some Collection<UInt8>, to file: Int32) -> Bool {
    let done = bytes.withContiguousStorageIfAvailable { write($0, to: file) }
    return done ?? Array(bytes).withUnsafeBufferPointer { write($0, to: file) }
  }

  private static func write(_ bytes: UnsafeBufferPointer<UInt8>, to file: Int32) -> Bool {
    var rest = UnsafeRawBufferPointer(bytes)
    while !rest.isEmpty {
      let count = Glibc.write(file, rest.baseAddress, rest.count)
      if count < 0 {
        if errno == EINTR { continue }
        guard errno == EAGAIN else { return false }
        // It may share a description that another program made non-blocking.
        var ready = pollfd(fd: file, events: Int16(POLLOUT), revents: 0)
        poll(&ready, 1, -1)
        continue
      }
      rest = UnsafeRawBufferPointer(rebasing: rest[count...])
    }
    return true
  }
}
