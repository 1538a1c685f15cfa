import P2PDNet

/// The language of a running node's control socket, version 1: lines of JSON over a Unix stream socket that only the
/// node's user and root can reach.
///
/// The node speaks first, one line that says who it is:
///
///     {"p2pd_control":1,"name":"chat","key":"...","pid":4711,"version":"0.1.0"}
///
/// After that each line of the client is a request with a number of the client's choice, and each request gets exactly
/// one answer with that number:
///
///     {"v":1,"id":7,"op":"kill","pipe":12}
///     {"id":7,"ok":true,"result":{"lost":0}}
///     {"id":7,"ok":false,"error":{"code":"no_pipe","message":"...","remedy":"..."}}
///
/// Requests that go on (`logs` with `follow`, `trace`, `evaluate`) send events with their number before the answer:
///
///     {"id":7,"event":"log","log":{"time":"...","level":"info","label":"p2pd","message":"..."}}
///
/// | op | members | answer | events |
/// |---|---|---|---|
/// | `status`, `pipes` | | the report | |
/// | `generations` | `holders`?: look for what keeps ended ones alive | the report | |
/// | `kill` | `pipe` | `lost`: bytes that did not leave | |
/// | `reload` | `protocol`?, `dry_run`? | `reports` | |
/// | `rollback` | `protocol`? | `reports` | |
/// | `stop` | | `{}`; the connection ends with the node | |
/// | `logs` | `lines`?, `follow`? | `lines`; with `follow` when cancelled | with `follow`: `log` |
/// | `trace` | `pipe` or `protocol`, `bytes`? | when cancelled, or the pipe has ended | `tracing`, `message`, `opened`, `ended` |
/// | `attach` | `read_only`?, `protocol`? | the prompt is there, one for each connection | |
/// | `evaluate` | `code`, `quoted`?, `partial`? | `incomplete`, or `values`, or `error` and `traceback` | `print` |
/// | `complete` | `text` | `names`, `typed`: letters before the cursor that they replace | |
/// | `cancel` | `request` | ends what that request began; it then gets its answer | |
///
/// Bounds: a line of the client has at most ``longestLine`` bytes, beyond that the node closes the connection. It reads
/// no further while ``mostUnanswered`` requests of the connection wait for their answers. A client that reads slowly
/// loses events, never answers: where more than ``mostQueuedEvents`` bytes wait for it, events are left out and counted,
/// and `{"id":7,"event":"dropped","count":3}` says so once there is room. One that lets more than
/// ``mostQueuedAnswers`` bytes of answers wait is cut off. At most ``mostClients`` are served at once.
enum ControlProtocol {
  static let version = 1
  static let longestLine = 1 << 20
  static let mostUnanswered = 16
  static let mostQueuedEvents = 256 << 10
  static let mostQueuedAnswers = 8 << 20
  static let mostClients = 32

  /// The first line of a connection.
  static func greeting(name: String, key: String, pid: Int, program: String) -> JSONText {
    .object([
      ("p2pd_control", .int(version)), ("name", .string(name)), ("key", .string(key)), ("pid", .int(pid)),
      ("version", .string(program)),
    ])
  }

  static func result(_ id: Int, _ result: JSONText) -> JSONText {
    .object([("id", .int(id)), ("ok", .bool(true)), ("result", result)])
  }

  static func failure(_ id: Int?, _ fault: ControlFault) -> JSONText {
    var error: [(String, JSONText)] = [("code", .string(fault.code)), ("message", .string(fault.message))]
    if let remedy = fault.remedy { error.append(("remedy", .string(remedy))) }
    return .object([("id", id.map { .int($0) } ?? .null), ("ok", .bool(false)), ("error", .object(error))])
  }

  static func event(_ id: Int, _ name: String, _ members: [(String, JSONText)]) -> JSONText {
    .object([("id", .int(id)), ("event", .string(name))] + members)
  }
}

/// Why a request was not done.
struct ControlFault: Error, Equatable {
  /// A word for programs: `bad_request`, `version`, `unknown_op`, `no_pipe`, `no_protocol`, ...
  let code: String
  let message: String
  var remedy: String?
}

/// One request, read and checked.
struct ControlRequest: Equatable, Sendable {
  enum Operation: Equatable, Sendable {
    case status
    case pipes
    case kill(pipe: UInt64)
    case generations(holders: Bool)
    case reload(protocol: String?, dryRun: Bool)
    case rollback(protocol: String?)
    case stop
    case logs(lines: Int, follow: Bool)
    case tracePipe(UInt64, bytes: Int)
    case traceProtocol(String, bytes: Int)
    case attach(readOnly: Bool, protocol: String?)
    /// `quoted`: strings are shown as Lua would write them. `partial`: an unfinished chunk is no error.
    case evaluate(code: String, quoted: Bool, partial: Bool)
    case complete(text: String)
    case cancel(request: Int)
  }

  let id: Int
  let operation: Operation

  /// A request that cannot be read; `id` is its number where that can.
  struct Refusal: Error, Equatable {
    let id: Int?
    let fault: ControlFault
  }

  init(id: Int, operation: Operation) {
    self.id = id
    self.operation = operation
  }

  /// Reads one line, without its end.
  init(line: [UInt8]) throws(Refusal) {
    let json: JSONText
    do {
      json = try JSONReader.read(line)
    } catch {
      throw Refusal(id: nil, fault: ControlFault(code: "bad_request", message: "the line is no JSON: \(error)"))
    }
    guard case .object = json else {
      throw Refusal(id: nil, fault: ControlFault(code: "bad_request", message: "the line is no JSON object"))
    }
    guard let id = json["id"]?.int, (0...Self.largestNumber).contains(id) else {
      throw Refusal(
        id: nil, fault: ControlFault(code: "bad_request", message: "\"id\" must be a whole number from 0 on"))
    }
    do {
      operation = try Self.operation(json)
      self.id = id
    } catch {
      throw Refusal(id: id, fault: error)
    }
  }

  private static func operation(_ json: JSONText) throws(ControlFault) -> Operation {
    guard let version = json["v"]?.int else {
      throw ControlFault(code: "bad_request", message: "\"v\", the version of the protocol, is missing")
    }
    guard version == ControlProtocol.version else {
      throw ControlFault(
        code: "version", message: "this node speaks version \(ControlProtocol.version), not \(version)",
        remedy: "Use the p2pd-lua that started the node.")
    }
    let fields = Fields(json)
    guard let name = json["op"]?.string else {
      throw ControlFault(code: "bad_request", message: "\"op\" must be a string")
    }
    switch name {
    case "status": return .status
    case "pipes": return .pipes
    case "kill": return .kill(pipe: try fields.pipe())
    case "generations": return .generations(holders: try fields.flag("holders"))
    case "reload": return .reload(protocol: try fields.text("protocol"), dryRun: try fields.flag("dry_run"))
    case "rollback": return .rollback(protocol: try fields.text("protocol"))
    case "stop": return .stop
    case "logs":
      return .logs(
        lines: try fields.number("lines", in: 0...largestNumber) ?? usualLines, follow: try fields.flag("follow"))
    case "trace":
      let bytes = try fields.number("bytes", in: 0...largestPreview) ?? usualPreview
      if let name = try fields.text("protocol") { return .traceProtocol(name, bytes: bytes) }
      return .tracePipe(try fields.pipe(), bytes: bytes)
    case "attach": return .attach(readOnly: try fields.flag("read_only"), protocol: try fields.text("protocol"))
    case "evaluate":
      guard let code = try fields.text("code") else {
        throw ControlFault(code: "bad_request", message: "\"code\" is missing")
      }
      return .evaluate(code: code, quoted: try fields.flag("quoted"), partial: try fields.flag("partial"))
    case "complete": return .complete(text: try fields.text("text") ?? "")
    case "cancel":
      guard let request = try fields.number("request", in: 0...largestNumber) else {
        throw ControlFault(code: "bad_request", message: "\"request\" is missing")
      }
      return .cancel(request: request)
    default:
      throw ControlFault(
        code: "unknown_op", message: "this node knows no request \"\(name.prefix(40))\"",
        remedy: "Use the p2pd-lua that started the node.")
    }
  }

  /// The members of a request, with their types.
  private struct Fields {
    private let json: JSONText

    init(_ json: JSONText) { self.json = json }

    func text(_ name: String) throws(ControlFault) -> String? {
      guard let value = given(name) else { return nil }
      guard let text = value.string else { throw wrong(name, "a string") }
      return text
    }

    func flag(_ name: String) throws(ControlFault) -> Bool {
      guard let value = given(name) else { return false }
      guard let flag = value.bool else { throw wrong(name, "true or false") }
      return flag
    }

    func number(_ name: String, in range: ClosedRange<Int>) throws(ControlFault) -> Int? {
      guard let value = given(name) else { return nil }
      guard let number = value.int, range.contains(number) else {
        throw wrong(name, "a whole number from \(range.lowerBound) to \(range.upperBound)")
      }
      return number
    }

    func pipe() throws(ControlFault) -> UInt64 {
      guard let id = try number("pipe", in: 0...largestNumber) else { throw wrong("pipe", "the number of a pipe") }
      return UInt64(id)
    }

    /// null is the same as nothing.
    private func given(_ name: String) -> JSONText? {
      guard let value = json[name] else { return nil }
      if case .null = value { return nil }
      return value
    }

    private func wrong(_ name: String, _ expected: String) -> ControlFault {
      ControlFault(code: "bad_request", message: "\"\(name)\" must be \(expected)")
    }
  }

  /// What JSON's numbers carry exactly everywhere (RFC 8259 §6).
  private static let largestNumber = 1 << 53
  private static let usualLines = 100
  private static let usualPreview = 64
  /// A message's start is for a look at it; the whole of it is the business of a capture.
  static let largestPreview = 64 << 10
}
