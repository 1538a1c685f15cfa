import Glibc
import NIOCore
import Testing

@testable import P2PDNet

/// Events of descriptors that were closed, or closed and given out again, while they waited to be told.
@Suite(.timeLimit(.minutes(1))) struct StaleEventTests {
  /// Reports what the loop tells it.
  private final class Probe: KernelTransport, @unchecked Sendable {
    var told: (Probe) -> Void = { _ in }
    var count = 0

    override func ready(_ flags: UInt32) {
      count += 1
      told(self)
    }

    override func close(linger: Bool) { releaseDescriptor() }
  }

  /// Confined to the loop.
  private final class Heir: @unchecked Sendable {
    var probe: Probe?
    var end: CInt = -1
    weak var gone: Probe?
  }

  private func pair() -> (CInt, CInt) {
    var ends: [CInt] = [-1, -1]
    let type = CInt(SOCK_STREAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
    #expect(socketpair(AF_UNIX, type, 0, &ends) == 0)
    return (ends[0], ends[1])
  }

  @Test("what one handler closes hears nothing of the same batch, nor does what gets its number")
  func closedInTheSameBatch() async throws {
    let loop = try KernelLoop.start(name: "stale")
    try await loop.flatSubmit { () -> EventLoopFuture<Void> in
      let (near, far) = (self.pair(), self.pair())
      let probes = [Probe(near.0, on: loop), Probe(far.0, on: loop)]
      let heir = Heir()
      for probe in probes {
        probe.told = { told in
          // Whichever comes first closes the other, and a new descriptor takes its number.
          guard let other = probes.first(where: { $0 !== told }), other.descriptor >= 0 else { return }
          let number = other.descriptor
          other.close(linger: false)
          let fresh = self.pair()
          heir.end = fresh.1
          let new = Probe(fresh.0, on: loop)
          #expect(new.descriptor == number, "the kernel gives out the lowest number")
          #expect(new.watch(Ready.input))
          heir.probe = new
          told.close(linger: false)
        }
      }
      // Both are ready before the loop asks.
      for end in [near.1, far.1] { #expect(write(end, "x", 1) == 1) }
      for probe in probes { #expect(probe.watch(Ready.input)) }
      return loop.scheduleTask(in: .milliseconds(20)) {
        #expect(probes.map(\.count).sorted() == [0, 1])
        #expect(heir.probe?.count == 0)
        heir.probe?.close(linger: false)
        for end in [near.1, far.1, heir.end] { close(end) }
      }.futureResult
    }.get()
    try await loop.shutdownGracefully()
  }

  @Test("a transport that closes itself within its own event may be freed only after it")
  func freedAfterItsEvent() async throws {
    let loop = try KernelLoop.start(name: "stale")
    let seen = Heir()
    let ends = pair()
    try await loop.submit {
      let probe = Probe(ends.0, on: loop)
      seen.gone = probe
      probe.told = { told in
        told.close(linger: false)
        #expect(seen.gone != nil)
      }
      #expect(probe.watch(Ready.input))
      #expect(write(ends.1, "x", 1) == 1)
    }.get()
    while try await loop.submit({ seen.gone != nil }).get() { await Task.yield() }
    close(ends.1)
    #expect(try await loop.submit { loop.transportCount }.get() == 0)
    try await loop.shutdownGracefully()
  }
}
