import P2PDNet

/// The HTTP API of name servers as a client speaks it: requests as bytes, answers as what they mean. docs/names-api.md
/// describes it.
enum NamesAPI {
  // MARK: Requests

  static func lookup(_ name: PeerName, at server: NameServerURL) -> [UInt8] { request("GET", name, server, nil) }

  /// A tombstone travels as a deletion.
  static func push(_ record: NameRecord, at server: NameServerURL) -> [UInt8] {
    request(record.isDeleted ? "DELETE" : "PUT", record.name, server, record.json)
  }

  private static func request(_ method: String, _ name: PeerName, _ server: NameServerURL, _ body: [UInt8]?) -> [UInt8]
  {
    var head = """
      \(method) /v1/names/\(ServerURL.escape(name.description)) HTTP/1.1\r
      Host: \(server.authority)\r
      User-Agent: p2pd-lua\r
      Accept: application/json\r

      """
    if let body { head += "Content-Type: application/json\r\nContent-Length: \(body.count)\r\n" }
    return Array((head + "\r\n").utf8) + (body ?? [])
  }

  // MARK: Answers

  /// What the answer to ``lookup(_:at:)`` says. A record counts only if it is of that name and its signature holds.
  static func read(lookup answer: HTTPAnswer, of name: PeerName, at server: NameServerURL) -> LookupQuorum.Event {
    let what = "ask \(server) for \(name)"
    switch answer.head.status {
    case 200: break
    case 404 where errorCode(answer) == "not_found": return .nothing
    default: return .failed(failure(answer, what))
    }
    do throws(NetError) {
      let record = try NameRecord(json: answer.body)
      guard record.name == name else {
        return .failed(NetError(.badRecord, what, cause: "it gave the record of another name, \(record.name)"))
      }
      guard record.isValid else {
        return .failed(
          NetError(.badRecord, what, cause: "it gave a record whose signature is not by the key in it"))
      }
      return .record(record)
    } catch {
      return .failed(NetError(.badRecord, what, cause: error.cause))
    }
  }

  /// What the answer to ``push(_:at:)`` says.
  static func read(push answer: HTTPAnswer, of record: NameRecord, at server: NameServerURL) -> PushQuorum.Answer {
    let what = "\(record.isDeleted ? "delete" : "push") \(record.name) at \(server)"
    switch answer.head.status {
    case 200: return .accepted(isNew: false)
    case 201: return .accepted(isNew: true)
    case 403: return .wrongKey
    case 404 where record.isDeleted && errorCode(answer) == "not_found": return .absent
    case 409:
      // Only a record of one's own can say that one's own is old.
      guard let json = try? JSONReader.read(answer.body), let newest = json["record"],
        let newer = try? NameRecord(jsonText: newest), newer.name == record.name, newer.key == record.key,
        newer.sequence >= record.sequence, newer.isValid
      else {
        return .failed(NetError(.badRecord, what, cause: "it says the record is old, and does not show the newer"))
      }
      return .stale(newer)
    default: return .failed(failure(answer, what))
    }
  }

  private static func errorCode(_ answer: HTTPAnswer) -> String? {
    (try? JSONReader.read(answer.body))?["error"]?["code"]?.string
  }

  private static func failure(_ answer: HTTPAnswer, _ what: String) -> NetError {
    let error = (try? JSONReader.read(answer.body))?["error"]
    let said = error?["message"]?.string.map { quoted($0.prefix(200)) }
    let status = answer.head.status
    let code: NetError.Code =
      switch (status, error?["code"]?.string) {
      case (413, _), (_, "too_large"): .tooLarge
      case (_, "bad_name"): .badName
      case (_, "bad_record"): .badRecord
      case (_, "expired"): .expired
      case (429, _), (503, _): .limit
      default: .io
      }
    var remedy = ""
    if let seconds = answer.head["retry-after"].flatMap({ UInt32($0) }) { remedy = "Try again in \(seconds) s." }
    let isRedirect = (300..<400).contains(status)
    let cause =
      isRedirect
      ? "it answered \(status) and sends elsewhere; name the server itself"
      : said.map { "it answered \(status): \($0)" } ?? "it answered \(status), as no name server does"
    return NetError(code, what, cause: cause, remedy: remedy)
  }
}
