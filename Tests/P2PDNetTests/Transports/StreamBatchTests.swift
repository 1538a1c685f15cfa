import CNet
import Foundation
import Glibc
import NIOCore
import Testing

@testable import P2PDNet

/// Streams that are ready in the same wait of the loop.
@Suite(.timeLimit(.minutes(1))) struct StreamBatchTests {
  /// A stream whose owner does what the test says, and the descriptor of its peer. Confined to the loop.
  private final class End: TransportOwner, @unchecked Sendable {
    let stream: StreamTransport
    let peer: CInt
    var heard: [UInt8] = []
    var drains = 0
    var end: EndReason?
    var answer: (End, UnsafeRawBufferPointer) -> Void = { _, _ in }

    init(_ loop: KernelLoop) {
      var ends: [CInt] = [-1, -1]
      let type = CInt(SOCK_STREAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
      #expect(socketpair(AF_UNIX, type, 0, &ends) == 0)
      stream = StreamTransport(connected: ends[0], from: nil, on: loop)
      peer = ends[1]
      stream.owner = self
    }

    deinit { Glibc.close(peer) }

    func received(stream bytes: UnsafeRawBufferPointer) {
      heard.append(contentsOf: bytes)
      answer(self, bytes)
    }
    func received(datagram bytes: UnsafeRawBufferPointer, from peer: Peer) {}
    func inputEnded(_ reason: EndReason) { end = reason }
    func drained() { drains += 1 }
    func transportEnded(_ reason: EndReason) { end = reason }

    func send(_ text: String, corked: Bool = false) { send(Array(text.utf8), corked: corked) }

    func send(_ bytes: [UInt8], corked: Bool = false) {
      bytes.withUnsafeBytes { #expect(stream.send(.none, $0, to: nil, corked: corked) == nil) }
    }

    /// What the peer can read now, and whether the stream has ended there.
    func arrived() -> (bytes: [UInt8], ended: Bool) {
      var all: [UInt8] = []
      var buffer = [UInt8](repeating: 0, count: 1 << 16)
      while true {
        let count = read(peer, &buffer, buffer.count)
        guard count > 0 else { return (all, count == 0) }
        all.append(contentsOf: buffer[..<count])
      }
    }

    func text() -> String { String(decoding: arrived().bytes, as: UTF8.self) }
  }

  private final class Ends: @unchecked Sendable {
    var all: [End] = []
    subscript(index: Int) -> End { all[index] }
  }

  /// Makes the streams, lets every peer write its number so many times, and gives back after the wait in which all were
  /// ready.
  private func together(
    _ count: Int, followedBy suffix: String = "", times: Int = 1, _ prepare: @escaping @Sendable (Ends) -> Void,
    _ body: @escaping @Sendable (KernelLoop, Ends) async throws -> Void
  ) async throws {
    let loop = try KernelLoop.start(name: "batch")
    let ends = Ends()
    try await loop.submit {
      for index in 0..<count {
        let end = End(loop)
        ends.all.append(end)
        let bytes = Array(String(repeating: "\(index)\(suffix)", count: times).utf8)
        #expect(write(end.peer, bytes, bytes.count) == bytes.count)
      }
      prepare(ends)
      for end in ends.all { end.stream.setReading(true) }
    }.get()
    // Queued after the wait that tells of them all, or later.
    try await loop.submit {}.get()
    try await loop.submit {}.get()
    do {
      try await body(loop, ends)
    } catch {
      try? await loop.shutdownGracefully()
      throw error
    }
    try await loop.shutdownGracefully()
  }

  @Test("each of many streams gets its own answers, in their order")
  func answers() async throws {
    try await together(100) { ends in
      for end in ends.all {
        end.answer = { end, bytes in
          end.send("<")
          end.send(Array(bytes), corked: true)
          end.send(">")
          #expect(end.stream.unsent > 0, "small answers wait for each other")
          if bytes.count == 1 {
            end.stream.flush()
            #expect(end.stream.unsent == 0)
          }
        }
      }
    } _: { loop, ends in
      try await loop.submit {
        for index in 0..<100 {
          #expect(ends[index].text() == "<\(index)>")
          #expect(ends[index].stream.unsent == 0)
        }
      }.get()
    }
  }

  @Test("an answer that is large goes behind the small ones before it and before those after it")
  func largeAnswers() async throws {
    let large = [UInt8](repeating: 0x4c, count: 60_000)
    try await together(8) { ends in
      for end in ends.all {
        end.answer = { end, _ in
          end.send("a")
          end.send(large)
          end.send("b")
        }
      }
    } _: { loop, ends in
      try await loop.submit {
        for end in ends.all { #expect(end.arrived().bytes == [0x61] + large + [0x62]) }
      }.get()
    }
  }

  @Test("what one handler sends to all arrives everywhere, in one order")
  func broadcast() async throws {
    let count = 20
    try await together(count, followedBy: ",") { ends in
      for end in ends.all {
        end.answer = { _, bytes in for other in ends.all { other.send(Array(bytes)) } }
      }
    } _: { loop, ends in
      try await loop.submit {
        let texts = ends.all.map { $0.text() }
        #expect(Set(texts).count == 1)
        #expect(Set(texts[0].split(separator: ",").compactMap { Int($0) }) == Set(0..<count))
      }.get()
    }
  }

  @Test("a stream that another's handler closes is handed nothing more, and its answers are out")
  func closedByAnother() async throws {
    try await together(2) { ends in
      for (index, end) in ends.all.enumerated() {
        end.answer = { _, _ in
          let other = ends[1 - index]
          other.send("bye")
          other.stream.close(linger: false)
        }
      }
    } _: { loop, ends in
      try await loop.submit {
        let heard = ends.all.filter { !$0.heard.isEmpty }
        #expect(heard.count == 1)
        let closed = try #require(ends.all.first { $0.heard.isEmpty })
        let arrived = closed.arrived()
        #expect(arrived.bytes == Array("bye".utf8))
        #expect(arrived.ended)
      }.get()
    }
  }

  @Test("bytes of a stream that another's handler takes from its owner are the next owner's, before all that follows")
  func takenByAnother() async throws {
    try await together(2) { ends in
      for (index, end) in ends.all.enumerated() {
        end.answer = { _, _ in
          let other = ends[1 - index]
          guard other.heard.isEmpty else { return }
          other.stream.setReading(false)
          other.stream.owner = nil
        }
      }
    } _: { loop, ends in
      let index = try await loop.submit { ends.all.firstIndex { $0.heard.isEmpty } }.get()
      let taken = try #require(index)
      try await loop.submit {
        #expect(write(ends[taken].peer, "more", 4) == 4)
        ends[taken].stream.owner = ends[taken]
        ends[taken].stream.setReading(true)
      }.get()
      while try await loop.submit({ ends[taken].heard.count < 5 }).get() {
        try Task.checkCancellation()
        await Task.yield()
      }
      #expect(try await loop.submit { ends[taken].heard }.get() == Array("\(taken)more".utf8))
    }
  }

  @Test("an answer goes before the end that follows it", arguments: ["close", "linger", "output"])
  func answerAndEnd(_ way: String) async throws {
    try await together(3) { ends in
      for end in ends.all {
        end.answer = { end, bytes in
          end.send(Array(bytes))
          switch way {
          case "close": end.stream.close(linger: false)
          case "linger": end.stream.close(linger: true)
          default: end.stream.closeOutput()
          }
        }
      }
    } _: { loop, ends in
      try await loop.submit {
        for (index, end) in ends.all.enumerated() {
          let arrived = end.arrived()
          #expect(arrived.bytes == Array("\(index)".utf8))
          #expect(arrived.ended)
        }
      }.get()
    }
  }

  @Test("what the kernel does not take waits in order, and its owner hears when it is out")
  func slowPeer() async throws {
    let pieces = 100
    let size = 8 << 10
    try await together(4) { ends in
      for end in ends.all {
        end.answer = { end, _ in
          for piece in 0..<pieces { end.send([UInt8](repeating: UInt8(piece), count: size)) }
        }
      }
    } _: { loop, ends in
      #expect(try await loop.submit { ends.all.allSatisfy { $0.stream.unsent > 0 } }.get())
      for index in 0..<4 {
        var got: [UInt8] = []
        while got.count < pieces * size {
          try Task.checkCancellation()
          got += try await loop.submit { ends[index].arrived().bytes }.get()
        }
        #expect(got == (0..<pieces).flatMap { [UInt8](repeating: UInt8($0), count: size) })
        #expect(try await loop.submit { ends[index].stream.unsent == 0 && ends[index].drains > 0 }.get())
      }
    }
  }

  @Test("a peer that is gone ends its stream, and the others get their answers")
  func vanishedPeer() async throws {
    try await together(6) { ends in
      for (index, end) in ends.all.enumerated() {
        // Its bytes are still read; the answer meets a closed socket.
        if index == 2 { shutdown(end.peer, CInt(SHUT_RD)) }
        end.answer = { end, bytes in end.send(Array(bytes)) }
      }
    } _: { loop, ends in
      try await loop.submit {
        for (index, end) in ends.all.enumerated() where index != 2 { #expect(end.text() == "\(index)") }
        #expect(ends[2].heard == Array("2".utf8))
        #expect(ends[2].stream.unsent == 0)
      }.get()
    }
  }

  @Test("who sends much at a time is served too")
  func bulk() async throws {
    let size = 100_000
    try await together(4, times: size) { _ in
    } _: { loop, ends in
      while try await !loop.submit({ ends.all.allSatisfy { $0.heard.count == size } }).get() {
        try Task.checkCancellation()
        await Task.yield()
      }
      try await loop.submit {
        for (index, end) in ends.all.enumerated() {
          #expect(end.heard.allSatisfy { $0 == UInt8(ascii: "0") + UInt8(index) })
        }
      }.get()
    }
  }
}
