import P2PDNet

@testable import P2PDControl

/// What a client of the control socket may send, in pieces of any size: lines, then JSON, then a request.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzControl(_ data: UnsafePointer<UInt8>, _ size: Int) -> Int32 {
  let bytes = [UInt8](UnsafeBufferPointer(start: data, count: size))
  guard let first = bytes.first else { return 0 }
  var input = ControlInput(limit: 512)
  var output = ControlOutput(eventLimit: 300, answerLimit: 2000)
  let piece = Int(first % 64) + 1
  for start in stride(from: 0, to: bytes.count, by: piece) {
    input.add(bytes[start..<min(start + piece, bytes.count)])
    reading: while true {
      switch input.next() {
      case .incomplete: break reading
      case .tooLong: return 0
      case .line(let line):
        precondition(line.count <= 512 && !line.contains(0x0a), "a line that is none")
        read(line, &output)
      }
    }
    output.wrote(piece)
  }
  return 0
}

private func read(_ line: [UInt8], _ output: inout ControlOutput) {
  if let value = try? JSONReader.read(line) {
    // What was read is written, and that reads the same.
    let text = value.text
    let again = try? JSONReader.read(Array(text.utf8))
    precondition(again?.text == text, "JSON changes on its way")
  }
  do {
    let request = try ControlRequest(line: line)
    output.add(event: ControlProtocol.event(request.id, "e", []), of: request.id)
    _ = output.add(answer: ControlProtocol.result(request.id, .null), to: request.id)
  } catch {
    _ = output.add(answer: ControlProtocol.failure(error.id, error.fault), to: error.id)
  }
}
