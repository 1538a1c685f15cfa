import Glibc
import LuaVM
import P2PDNet

/// `p2pd.conf.lua`: a Lua file that returns a table of settings. It runs in a VM of its own, without files, processes or
/// a network, in bounded time and memory: it computes values, and that is all it can do. What it may set is the table
/// ``API/configFile``; everything else is an error with the nearest key there is.
public struct ConfigFile: Sendable {
  /// nil: there is none, and everything is as without.
  public var path: String?
  public var servers: ServerList
  public var offline: Bool?
  public var caFile: String?
  public var portMapping: Bool?
  public var nickname: String?
  public var mdns: Bool?
  public var name: String?
  public var port: UInt16?
  public var listen: [IPAddress]?
  public var interfaces: [String]?
  public var maxPipes: Int?
  /// MiB.
  public var memory: Int?
  /// Seconds.
  public var timeLimit: Double?
  public var sandbox: Bool?
  /// The words of the command line's options.
  public var logLevel: String?
  public var logFormat: String?

  public static let fileName = "p2pd.conf.lua"

  /// No file. `servers` are the known ones.
  public init(servers: ServerList) { self.servers = servers }

  /// Reads a file, blocking: it runs for a second at most.
  /// - Parameter servers: what a file that names none leaves in force.
  /// - Throws: ``ScriptError`` with file and line.
  public init(path: String, servers: ServerList) throws(ScriptError) {
    self.init(servers: servers)
    self.path = path
    let source = try ScriptFiles.read(path)
    guard source.count <= Self.largest else {
      throw ScriptError(
        file: path, message: "\(path): a configuration of more than \(Self.largest >> 10) KiB is refused")
    }
    do {
      let vm = try LuaVM(limits: LuaLimits(memory: Self.memoryLimit, runTime: Self.runTime), sandbox: true)
      defer { vm.close() }
      try read(Self.run(source, path, vm), vm)
    } catch let failure as LuaFailure {
      throw ScriptError(file: path, failure)
    } catch let misuse as Misuse {
      throw ScriptError(file: path, message: "\(path): \(misuse.message)")
    } catch {
      throw ScriptError(file: path, message: "\(path): \(error)")
    }
  }

  /// Looks for the file beside a script (or in a folder of scripts), then in the user's configuration folder.
  /// - Parameter environment: `XDG_CONFIG_HOME` and `HOME` say where that is.
  public static func find(beside script: String?, environment: [String: String]) -> String? {
    var folders: [String] = []
    if let script {
      var info = stat()
      let isFolder = stat(script, &info) == 0 && info.st_mode & S_IFMT == S_IFDIR
      folders.append(isFolder ? script : ScriptFiles.directory(script))
    }
    if let config = environment["XDG_CONFIG_HOME"], config.hasPrefix("/") {
      folders.append(config + "/p2pd-lua")
    } else if let home = environment["HOME"], !home.isEmpty {
      folders.append(home + "/.config/p2pd-lua")
    }
    return folders.map { ($0.hasSuffix("/") ? $0 : $0 + "/") + fileName }.first { access($0, F_OK) == 0 }
  }

  // MARK: Reading

  private static func run(_ source: [UInt8], _ path: String, _ vm: LuaVM) throws -> LuaValue {
    let environment = try vm.makeEnvironment(directory: ScriptFiles.directory(path))
    defer { vm.release(environment) }
    let chunk = try vm.load(source, name: path, environment: environment)
    defer { vm.release(chunk) }
    let result = try vm.callNow(chunk).first ?? .nil
    guard case .table = result else {
      let got = result.isNil ? "nothing: is 'return { ... }' missing at the end?" : "a \(result.kindName)"
      throw Misuse("a configuration returns a table of settings, this returned \(got)")
    }
    return result
  }

  private mutating func read(_ table: LuaValue, _ vm: LuaVM) throws {
    let known = try OptionReader(table, API.configFile, function: Self.fileName, argument: 1, vm: vm)
    if let pairs = known.table("servers") {
      servers = try ServersOption(pairs, function: Self.fileName).applied(to: servers)
    }
    offline = known.bool("offline")
    caFile = known.string("ca").map { ScriptFiles.absolute($0, in: ScriptFiles.directory(path ?? "")) }
    portMapping = known.bool("port_mapping")
    nickname = known.string("nickname")
    mdns = known.bool("mdns")
    name = known.string("name")
    port = try known.integer("port", in: 0...65_535).map { UInt16($0) }
    listen = try known.strings("listen")?.map { text in
      guard let ip = IPAddress(text) else {
        throw Misuse("bad option 'listen' of '\(Self.fileName)' (\"\(text.prefix(60))\" is no address)")
      }
      return ip
    }
    interfaces = try known.strings("interfaces")
    maxPipes = try known.integer("max_pipes", in: 1...1_000_000)
    memory = try known.integer("memory", in: 1...(1 << 20))
    if let seconds = known["time_limit"]?.asNumber {
      guard (0.01...3600).contains(seconds) else {
        throw Misuse("bad option 'time_limit' of '\(Self.fileName)' (0.01 to 3600 seconds expected, got \(seconds))")
      }
      timeLimit = seconds
    }
    sandbox = known.bool("sandbox")
    logLevel = known.string("log_level")
    logFormat = known.string("log_format")
  }

  private static let largest = 256 << 10
  private static let memoryLimit = 16 << 20
  private static let runTime = 1.0
}
