// The engine from Swift alone: two nodes in one process, a protocol without Lua, one question and its answer.
//   swift run p2pd-example
import Logging
import NIOCore
import P2PDNet
import P2PDNode

/// Answers every message with its letters in upper case.
final class Shouter: NodeProtocol, PipeSink {
  func nodePipe(_ pipe: Pipe) -> (any PipeSink)? { self }

  func pipe(_ pipe: Pipe, message: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    let answer = String(decoding: message, as: UTF8.self).uppercased()
    _ = answer.utf8.withContiguousStorageIfAvailable { pipe.send(UnsafeRawBufferPointer($0)) }
    return true
  }
}

/// The first message a pipe receives, as text.
func answer(on pipe: Pipe, _ question: String) async throws -> String {
  let loop = pipe.loop
  let promise = loop.makePromise(of: String.self)
  loop.execute {
    _ = Array(question.utf8).withUnsafeBytes { pipe.send($0) }
    pipe.receive(timeout: .seconds(5)) { result in
      switch result {
      case .success(let message): promise.succeed(String(buffer: message.bytes))
      case .failure(let error): promise.fail(error)
      }
    }
  }
  return try await promise.futureResult.get()
}

let loop = try KernelLoop.start(name: "example")
let logger = Logger(label: "example") { StreamLogHandler.standardError(label: $0) }

var configuration = NodeConfiguration()
configuration.ephemeral = true
configuration.offline = true
configuration.port = 0
configuration.listen = [.loopback(.v4)]

let server = try await Node.start(configuration, on: loop, logger: logger)
let client = try await Node.start(configuration, on: loop, logger: logger)
try await loop.submit { try server.host(protocol: "shout", sink: Shouter()) }.get()

// The address is all a client needs: it names the key that the server must prove.
let address = try await loop.submit { server.address }.get()
let pipe = try await client.connect(address, protocol: "shout", timeout: .seconds(5))
print(try await answer(on: pipe, "hello from swift"))

await client.close()
await server.close()
