import Glibc
import P2PDNames
import P2PDNet

/// The user's names file and the keys remembered of names, on the disk. Every call blocks, so none belongs on an event
/// loop's thread; what is read is what the files hold now, so a change counts from the next lookup on.
public struct NameBook: Sendable {
  private let file: String?
  private let folder: String?

  public init(file: String?, pinFolder: String?) {
    self.file = file
    folder = pinFolder
  }

  /// Whether keys are remembered beyond this process.
  public var keepsPins: Bool { folder != nil }

  /// The user's names; none where there is no file. Throws ``NetError`` that names file and line.
  public func names() throws(NetError) -> NamesFile {
    guard let file else { return NamesFile(path: "") }
    guard let text = try Self.read(file) else { return NamesFile(path: file) }
    return try NamesFile(text: text, path: file, keyOfAddress: Self.keyOfAddress)
  }

  /// The keys remembered. Throws ``NetError``.
  public func pins() throws -> KnownNames {
    // A folder that is not there yet is made when there is something to put into it.
    guard let folder, access(folder, F_OK) == 0 else { return KnownNames() }
    return try Self.pins(in: StateFolder(folder))
  }

  /// Remembers a name's key unless one is remembered already, also where two processes do so at once.
  /// - Returns: the key that is remembered now.
  public func pin(_ name: PeerName, _ key: [UInt8]) throws -> [UInt8] {
    guard let folder else { return key }
    return try change(in: folder) { known in
      if let before = known[name] { return before }
      guard known.pin(name, key) else {
        throw NetError(.limit, "remember the key of \(name)", cause: "\(KnownNames.most) are remembered already")
      }
      return key
    }
  }

  /// Takes a name's key out. False: none was remembered.
  public func forget(_ name: PeerName) throws -> Bool {
    guard let folder, access(folder, F_OK) == 0 else { return false }
    return try change(in: folder) { $0.forget(name) }
  }

  private func change<T>(in path: String, _ body: (inout KnownNames) throws -> T) throws -> T {
    let folder = try StateFolder(path)
    return try folder.locked {
      let before = try Self.pins(in: folder)
      var known = before
      let result = try body(&known)
      if known != before { try folder.write(Array(known.text.utf8), to: Self.pinFile) }
      return result
    }
  }

  private static func pins(in folder: StateFolder) throws -> KnownNames {
    guard let bytes = try folder.read(pinFile, maximum: KnownNames.largest) else { return KnownNames() }
    return try KnownNames(text: String(decoding: bytes, as: UTF8.self), path: folder.path(of: pinFile))
  }

  private static func read(_ path: String) throws(NetError) -> String? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    if descriptor < 0, errno == ENOENT || errno == ENOTDIR { return nil }
    let what = "read \(path)"
    guard descriptor >= 0 else { throw failure(what) }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 64 << 10)
    while true {
      let count = buffer.withUnsafeMutableBytes { Glibc.read(descriptor, $0.baseAddress, $0.count) }
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else { throw failure(what) }
      if count == 0 { break }
      bytes += buffer.prefix(count)
      guard bytes.count <= NamesFile.largest else {
        throw NetError(.tooLarge, what, cause: "a file of names has at most \(NamesFile.largest >> 10) KiB")
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  private static func failure(_ what: String) -> NetError {
    NetError(errno == EACCES || errno == EPERM ? .permission : .io, what, cause: String(cString: strerror(errno)))
  }

  /// What an address is to ``P2PDNames``.
  static let keyOfAddress: AddressReader = { text throws(NetError) in
    do throws(NodeAddressError) {
      return try NodeAddress(text).key.bytes
    } catch {
      throw error.netError
    }
  }

  public static let pinFile = "known_names"
}
