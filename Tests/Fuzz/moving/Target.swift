@testable import P2PDNet

/// The words of a move: whatever a peer says, on either path and however it is cut up, this side keeps its head, and a
/// peer that answers honestly is understood.
///
/// Input: how it is cut (1 byte), then steps: what happens (1 byte: offer, a word on the old path, on the new path, bytes
/// sent, bytes that came, time that passed, paths that end), followed by the word's four bytes where there is one.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzMoving(_ data: UnsafePointer<UInt8>, _ size: Int) -> Int32 {
  guard size >= 1 else { return 0 }
  let input = [UInt8](UnsafeBufferPointer(start: data, count: size))
  let stream = Array(input[1...])
  let whole = Reading(stream, cut: stream.count)
  let dripped = Reading(stream, cut: Int(input[0]) % 7 + 1)
  precondition(whole.records == dripped.records, "records depend on how the stream was cut")
  precondition(whole.data == dripped.data, "bytes depend on how the stream was cut")
  precondition(whole.isBetweenRecords == dripped.isBetweenRecords, "the end depends on how the stream was cut")
  walk(stream)
  return 0
}

/// Feeds a stream to a reader in pieces.
private struct Reading {
  var records: [MoveRecord] = []
  var data: [UInt8] = []
  var isBetweenRecords = true

  init(_ stream: [UInt8], cut: Int) {
    var reader = MoveRecordReader()
    for start in stride(from: 0, to: stream.count, by: max(1, cut)) {
      let piece = stream[start..<min(stream.count, start + max(1, cut))]
      piece.withUnsafeBytes { bytes in
        var position = 0
        while let step = reader.next(bytes, &position) {
          switch step {
          case .data(let range):
            precondition(!range.isEmpty && range.upperBound <= bytes.count, "bytes outside the piece")
            data += bytes[range]
          case .record(let record):
            precondition(record.kind != .data && record.value <= MoveRecord.longest, "no such record")
            records.append(record)
          }
        }
        precondition(position == bytes.count, "bytes were left")
      }
    }
    isBetweenRecords = reader.isBetweenRecords
  }
}

private func walk(_ steps: [UInt8]) {
  var move = PathMove()
  var reader = ByteReader(steps)
  var (kept, answers) = (0, 0)
  while let step = reader.byte() {
    let actions: [PathMove.Action]
    switch step % 11 {
    case 0: actions = move.offer()
    case 1, 2:
      guard let kind = reader.byte(), let value = reader.uint24() else { return }
      guard let kind = MoveRecord.Kind(rawValue: kind % UInt8(MoveRecord.Kind.allCases.count)) else { continue }
      let record = MoveRecord(kind, value)
      actions = step % 11 == 1 ? move.heardOnOld(record) : move.heardOnNew(record)
    case 3:
      guard move.output != .old, !move.isDone else { continue }
      move.keeps(7)
      kept += 7
      continue
    case 4:
      if move.input == .new { move.took(9) }
      continue
    case 5: actions = move.newLost()
    case 6: actions = move.oldInputEnded()
    case 7: actions = move.closeOutput()
    case 8: actions = move.tick()
    case 9: actions = move.confirm()
    default: actions = move.oldLost()
    }
    for action in actions {
      switch action {
      case .fail: return
      case .forget(let count):
        kept -= count
        precondition(kept >= 0, "it forgets what it has not")
      case .sendAgain, .leaveOld: kept = 0
      case .say: answers += 1
      default: break
      }
    }
    precondition(move.input != .new || move.isReady, "it reads a path that is not there")
    precondition(move.output != .new || move.isReady, "it sends on a path that is not there")
    precondition(move.output != .old || kept == 0, "bytes were dropped")
    precondition(answers <= 4 * steps.count, "it answers without end")
  }
}
