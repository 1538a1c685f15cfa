@testable import P2PDNet

/// What the house's HTTP client reads from these bytes, whole and in pieces of a size that the input chooses; nil where it
/// is no answer. The pieces' sizes must change nothing.
func httpAnswer(_ bytes: [UInt8], limit: Int) -> HTTPAnswer? {
  let whole = httpAnswer(bytes, limit: limit, piece: bytes.count + 1)
  let dripped = httpAnswer(bytes, limit: limit, piece: Int(bytes.first ?? 0) % 7 + 1)
  precondition(whole == dripped, "the size of the pieces matters")
  return whole
}

private func httpAnswer(_ bytes: [UInt8], limit: Int, piece: Int) -> HTTPAnswer? {
  var reader = HTTPReader(limit: limit)
  var rest = bytes[...]
  do throws(HTTPError) {
    while !rest.isEmpty {
      let now = Array(rest.prefix(piece))
      rest = rest.dropFirst(now.count)
      let result = now.withUnsafeBytes { bytes -> Result<HTTPAnswer?, HTTPError> in
        do throws(HTTPError) { return .success(try reader.take(bytes)) } catch { return .failure(error) }
      }
      if let answer = try result.get() { return answer }
    }
    return try reader.end()
  } catch {
    return nil
  }
}
