import CNet
import Glibc

/// Runs what blocks (files, above all) away from event loops.
public enum Blocking {
  /// Runs `body` on a thread of its own.
  /// - Throws: what `body` throws, and `.limit` where the system gives no more threads.
  public static func run<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
      do {
        try BlockingThread.run(name: "p2pd-files") { continuation.resume(with: Result(catching: body)) }
      } catch {
        continuation.resume(throwing: error)
      }
    }
  }
}

/// A thread for a call that blocks and cannot be interrupted. It is detached: the process may end while it still waits.
enum BlockingThread {
  /// Runs `body` on a thread of its own.
  /// - Throws: `.limit` where the system gives no more threads.
  static func run(
    name: String, stackSize: Int = stackSize, _ body: @escaping @Sendable () -> Void
  ) throws(NetError) {
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    defer { pthread_attr_destroy(&attributes) }
    pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
    pthread_attr_setstacksize(&attributes, stackSize)
    let box = Unmanaged.passRetained(Body(name: name, run: body))
    var thread = pthread_t()
    let failure = pthread_create(
      &thread, &attributes,
      { context in
        guard let context else { return nil }
        let body = Unmanaged<Body>.fromOpaque(context).takeRetainedValue()
        // At most 15 bytes, so that debuggers and top(1) can tell the threads apart.
        cnet_name_thread(body.name)
        body.run()
        return nil
      }, box.toOpaque())
    guard failure == 0 else {
      box.release()
      throw NetError(.limit, "start a thread", cause: String(cString: strerror(failure)))
    }
  }

  private final class Body {
    let name: String
    let run: @Sendable () -> Void
    init(name: String, run: @escaping @Sendable () -> Void) {
      self.name = name
      self.run = run
    }
  }

  /// Bytes. getaddrinfo(3) loads name service modules that were written for ordinary threads.
  static let stackSize = 1 << 20
}
