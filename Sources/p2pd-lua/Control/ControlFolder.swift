import CNet
import Glibc
import P2PDNode

/// Where the control sockets of running nodes lie: `$XDG_RUNTIME_DIR/p2pd-lua`, or `control` in the state folder where
/// there is no runtime folder. Mode 0700, owned by the user. A socket is named by the first letters of its node's key.
struct ControlFolder: Sendable {
  let path: String

  /// The folder for a new socket; made where it is missing.
  /// - Parameter stateFolder: the state folder in force; nil where nothing says where the user's home is.
  static func open(stateFolder: String?) throws -> ControlFolder {
    guard let path = runtimePath ?? stateFolder.map(inState) else {
      throw Failure(
        "there is no folder for it: neither XDG_RUNTIME_DIR nor HOME nor XDG_STATE_HOME is set",
        remedy: "Set XDG_RUNTIME_DIR, give --state-dir, or --no-control to go without.")
    }
    let folder = ControlFolder(path: path)
    guard Files.makeFolder(path) else { throw Failure(errno: "cannot make the folder \(path)") }
    if let problem = folder.problem { throw Failure(problem) }
    return folder
  }

  /// Every folder in which sockets may lie. The runtime folder may not be what it was when a node was started (another
  /// login, su), so both places are looked at.
  static func all(stateFolder: String?) -> [ControlFolder] {
    var paths: [String] = []
    for path in [runtimePath, stateFolder.map(inState), StateFolder.defaultPath.map(inState)] {
      if let path, !paths.contains(path), Files.isDirectory(path) { paths.append(path) }
    }
    return paths.map { ControlFolder(path: $0) }
  }

  /// XDG Base Directory 0.8: a path that is not absolute is to be ignored.
  private static var runtimePath: String? {
    guard let base = Environment.value("XDG_RUNTIME_DIR"), base.hasPrefix("/"), Files.isDirectory(base) else {
      return nil
    }
    return base + "/p2pd-lua"
  }

  private static func inState(_ folder: String) -> String { folder + "/control" }

  /// Why the folder is not to be trusted: whoever can write into it could put a socket of his own there.
  private var problem: String? {
    var info = stat()
    guard lstat(path, &info) == 0 else { return "cannot look at \(path): \(String(cString: strerror(errno)))" }
    guard info.st_mode & S_IFMT == S_IFDIR else { return "\(path) is no folder" }
    guard info.st_uid == geteuid() else { return "\(path) belongs to user \(info.st_uid), not to you" }
    if info.st_mode & 0o077 != 0, chmod(path, 0o700) != 0 {
      return "others can reach \(path), and its mode cannot be changed"
    }
    return nil
  }

  // MARK: Sockets

  /// The paths of the sockets that lie here, in order.
  var sockets: [String] {
    (Files.names(in: path) ?? []).filter { $0.hasSuffix(Self.ending) && !$0.hasPrefix(".") }.map { "\(path)/\($0)" }
  }

  /// A listening socket, in place under its final name only when it is listening, so that nobody takes it for one that a
  /// killed node left behind.
  struct Listening: Sendable {
    let descriptor: Int32
    let path: String
    private let device: dev_t
    private let inode: ino_t

    fileprivate init?(descriptor: Int32, path: String) {
      var info = stat()
      guard lstat(path, &info) == 0 else { return nil }
      self.descriptor = descriptor
      self.path = path
      (device, inode) = (info.st_dev, info.st_ino)
    }

    /// Takes the name away, unless another node has it by now.
    func remove() {
      var info = stat()
      if lstat(path, &info) == 0, info.st_dev == device, info.st_ino == inode { unlink(path) }
    }
  }

  /// Listens under the key's name. Where a living node of the same key has it, this process's number is added.
  func listen(key: String) throws -> Listening {
    let name = String(key.prefix(Self.nameLength))
    let longest = "\(path)/\(Self.fresh(name))"
    guard longest.utf8.count <= Int(cnet_unix_longest_path) else {
      throw Failure(
        "the path of its socket would have \(longest.utf8.count) bytes, and \(cnet_unix_longest_path) are possible: "
          + "\(path)/\(name)\(Self.ending)",
        remedy: "Set XDG_RUNTIME_DIR to a shorter folder, give a shorter --state-dir, or --no-control to go without.")
    }
    return try locked {
      var final = "\(path)/\(name)\(Self.ending)"
      if Self.isAlive(final) { final = "\(path)/\(name).\(getpid())\(Self.ending)" }
      let fresh = "\(path)/\(Self.fresh(name))"
      unlink(fresh)
      let descriptor = cnet_unix_listen(fresh, Self.backlog)
      guard descriptor >= 0 else {
        throw Failure("cannot listen at \(final): \(String(cString: strerror(-descriptor)))")
      }
      guard rename(fresh, final) == 0, let listening = Listening(descriptor: descriptor, path: final) else {
        let failure = Failure(errno: "cannot listen at \(final)")
        close(descriptor)
        unlink(fresh)
        throw failure
      }
      return listening
    }
  }

  /// Takes a socket away that a killed node left behind. Looked at once more while no node is starting.
  func removeStale(_ socket: String) {
    try? locked { if !Self.isAlive(socket) { unlink(socket) } }
  }

  private static func isAlive(_ socket: String) -> Bool {
    let descriptor = cnet_unix_connect(socket, Self.probeTime)
    if descriptor >= 0 { close(descriptor) }
    // Only a refusal says that nobody listens; a node that is too busy to take the connection is alive.
    return descriptor != -ECONNREFUSED && descriptor != -ENOENT
  }

  /// Runs `body` while no other process starts a node or cleans up here.
  private func locked<T>(_ body: () throws -> T) throws -> T {
    let folder = Glibc.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard folder >= 0 else { throw Failure(errno: "cannot open the folder \(path)") }
    defer { close(folder) }
    while flock(folder, LOCK_EX) != 0 {
      guard errno == EINTR else { throw Failure(errno: "cannot lock the folder \(path)") }
    }
    return try body()
  }

  private static func fresh(_ name: String) -> String { ".\(name).\(getpid())" }

  private static let ending = ".sock"
  /// 80 bits of the key: enough to tell nodes apart, short enough for sun_path.
  private static let nameLength = 16
  private static let backlog: Int32 = 16
  private static let probeTime: Int32 = 1000
}
