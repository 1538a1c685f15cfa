import LuaVM
import NIOCore
import P2PDNet

/// A pipe's settings out of an options table.
enum PipeConfReader {
  static func conf(_ options: OptionReader, isServer: Bool, destination: Destination? = nil) throws -> PipeConf {
    var conf = PipeConf()
    if let framing = options.string("framing").flatMap(Framing.init) { conf.framing = framing }
    try times(options, &conf)
    try sizes(options, &conf)
    if let value = options.bool("enable_msg_ids") { conf.enableMsgIDs = value }
    if let value = options.bool("reuse_addr") { conf.reuseAddr = value }
    if let value = options.bool("broadcast") { conf.broadcast = value }
    if let value = options.bool("no_delay") { conf.noDelay = value }
    if let value = options.bool("allow_half_open") { conf.allowHalfOpen = value }
    if let value = options.bool("dual_stack") { conf.dualStack = value }
    if let value = options.bool("multicast_loop") { conf.multicastLoop = value }
    if let value = options.string("interface") { conf.interface = value }
    conf.multicastGroups = try (options.strings("multicast") ?? []).map {
      guard let group = IPAddress($0), group.isMulticast else {
        throw Misuse("bad option 'multicast' of '\(options.function)' (\"\($0.prefix(60))\" is no multicast group)")
      }
      return group
    }
    conf.tls = try tls(options, isServer: isServer, destination: destination)
    return conf
  }

  private static func times(_ options: OptionReader, _ conf: inout PipeConf) throws {
    if let time = try options.seconds("con_timeout") { conf.conTimeout = time }
    if let time = try options.seconds("recv_timeout") { conf.recvTimeout = time }
    if let time = try options.seconds("dns_timeout") { conf.dnsTimeout = time }
    if let time = try options.seconds("flush_timeout") { conf.flushTimeout = time }
  }

  private static func sizes(_ options: OptionReader, _ conf: inout PipeConf) throws {
    if let value = try options.integer("max_message", in: 1...largest) { conf.maxMessage = value }
    if let value = try options.integer("max_qsize", in: 1...1 << 24) { conf.maxQsize = value }
    if let value = try options.integer("max_qbytes", in: 1...largest) { conf.maxQbytes = value }
    if let value = try options.integer("max_msg_ids", in: 1...1 << 24) { conf.maxMsgIDs = value }
    if let value = try options.integer("linger", in: 0...86_400) { conf.linger = value }
    if let value = try options.integer("multicast_ttl", in: 0...255) { conf.multicastTTL = value }
    if let value = try options.integer("backlog", in: 1...65_535) { conf.backlog = value }
  }

  /// `true`, or a table of its own.
  private static func tls(_ options: OptionReader, isServer: Bool, destination: Destination?) throws -> TLSSetup? {
    let given = options["tls"] ?? .nil
    if case .bool(let wanted) = given {
      guard wanted else { return nil }
      guard !isServer else {
        throw Misuse("bad option 'tls' of '\(options.function)' (a server needs { certificate = FILE, key = FILE })")
      }
      return try TLSSetup.client(serverName: name(of: destination))
    }
    guard case .table(let pairs) = given else { return nil }
    try check(pairs, options.function)
    let text = { (key: String) -> String? in
      guard case .string(let bytes)? = pairs.named(key) else { return nil }
      return String(decoding: bytes, as: UTF8.self)
    }
    var alpn: [String] = []
    if case .table(let list)? = pairs.named("alpn") {
      alpn = list.sequence.compactMap {
        if case .string(let bytes) = $0 { String(decoding: bytes, as: UTF8.self) } else { nil }
      }
    }
    if isServer {
      guard let certificate = text("certificate"), let key = text("key") else {
        throw Misuse("bad option 'tls' of '\(options.function)' (a server needs certificate and key)")
      }
      return try TLSSetup.server(
        certificateFile: certificate, keyFile: key, caFile: text("ca"), applicationProtocols: alpn)
    }
    var verify = true
    if case .bool(let wanted)? = pairs.named("verify") { verify = wanted }
    return try TLSSetup.client(
      serverName: text("server_name") ?? name(of: destination), caFile: text("ca"),
      certificateFile: text("certificate"),
      keyFile: text("key"), applicationProtocols: alpn, verify: verify)
  }

  private static func check(_ pairs: [(key: LuaValue, value: LuaValue)], _ function: String) throws {
    for (key, value) in pairs {
      let name = if case .string(let bytes) = key { String(decoding: bytes, as: UTF8.self) } else { key.short }
      guard let field = API.tlsOptions.fields.first(where: { $0.name == name }) else {
        throw Misuse(
          "unknown option 'tls.\(name)' of '\(function)'"
            + Spelling.hint(name, among: API.tlsOptions.fields.map(\.name)))
      }
      guard field.type.accepts(value) else {
        throw Misuse("bad option 'tls.\(name)' of '\(function)' (\(field.type.words) expected, got \(value.kindName))")
      }
    }
  }

  private static func name(of destination: Destination?) -> String? {
    if case .host(let name, _)? = destination { return name }
    return nil
  }

  /// A message lives in memory, so more than this is a mistake.
  private static let largest = 1 << 30
}

extension [(key: LuaValue, value: LuaValue)] {
  func named(_ name: String) -> LuaValue? {
    let wanted = [UInt8](name.utf8)
    return first { if case .string(wanted) = $0.key { true } else { false } }?.value
  }
}
