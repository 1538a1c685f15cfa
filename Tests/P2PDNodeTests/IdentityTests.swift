import Glibc
import P2PDNet
import Testing

@testable import P2PDNode

@Suite struct IdentityTests {
  private func mode(_ path: String) throws -> UInt32 {
    var status = stat()
    try #require(stat(path, &status) == 0)
    return status.st_mode & 0o777
  }

  private func put(_ text: String, _ path: String, mode: UInt32 = 0o600) throws {
    let file = try #require(fopen(path, "w"))
    fputs(text, file)
    fclose(file)
    chmod(path, mode)
  }

  private func loading(_ path: String) async throws -> NetError {
    try await failure { try Identity.load(from: StateFolder(path)) }
  }

  @Test func itIsMadeOnceAndKept() async throws {
    try await withTemporaryFolder { base in
      let path = base + "/a/b"
      let first = try Identity.load(from: StateFolder(path))
      #expect(try Identity.load(from: StateFolder(path)).id == first.id)
      #expect(try mode(path) == 0o700)
      #expect(try mode(base + "/a") == 0o700)
      #expect(try mode(path + "/node.key") == 0o600)
      #expect(access(path + "/node.key.new", F_OK) != 0)
      let message = Array("hello".utf8)
      #expect(first.key.isValid(signature: try first.sign(message), of: message))
      #expect(!first.key.isValid(signature: try first.sign(message), of: message + [0]))
    }
    #expect(Identity.ephemeral().id != Identity.ephemeral().id)
  }

  @Test func aKeyThatOthersCanReadIsRefused() async throws {
    try await withTemporaryFolder { path in
      _ = try Identity.load(from: StateFolder(path))
      for mode in [0o640, 0o604, 0o660, 0o700 | 0o001] as [UInt32] {
        chmod(path + "/node.key", mode)
        let error = try await loading(path)
        #expect(error.code == .permission)
        #expect(error.description.contains("chmod 600 '\(path)/node.key'"))
      }
      chmod(path + "/node.key", 0o600)
      _ = try Identity.load(from: StateFolder(path))
    }
  }

  @Test(arguments: [
    "", "\n", "p2pd-node-key-1 \n", "p2pd-node-key-1 AAAA\n", "p2pd-node-key-2 AAAA\n", "garbage", "\0\0\0\0",
  ])
  func aDamagedKeyIsNeverReplaced(_ text: String) async throws {
    try await withTemporaryFolder { path in
      try put(text, path + "/node.key")
      let error = try await loading(path)
      #expect(error.code == .io)
      #expect(error.description.contains("damaged"))
      let file = try #require(fopen(path + "/node.key", "r"))
      defer { fclose(file) }
      var bytes = [UInt8](repeating: 0, count: 100)
      #expect(fread(&bytes, 1, 100, file) == strlen(text), "the file is as it was")
    }
  }

  @Test func oneWrongCharacterIsDamage() async throws {
    try await withTemporaryFolder { path in
      _ = try Identity.load(from: StateFolder(path))
      let folder = try StateFolder(path)
      var bytes = try #require(try folder.read("node.key", maximum: 4096))
      bytes[30] = bytes[30] == 0x41 ? 0x42 : 0x41
      try folder.write(bytes, to: "node.key")
      #expect(try await loading(path).description.contains("damaged"))
    }
  }

  @Test func oddThingsInItsPlace() async throws {
    try await withTemporaryFolder { path in
      try #require(mkdir(path + "/node.key", 0o700) == 0)
      #expect(try await loading(path).description.contains("no regular file"))
      rmdir(path + "/node.key")
      try #require(symlink("/dev/zero", path + "/node.key") == 0)
      #expect(try await loading(path).code == .permission)
      unlink(path + "/node.key")
      try #require(mkfifo(path + "/node.key", 0o600) == 0)
      #expect(try await loading(path).description.contains("no regular file"), "and it does not wait for a writer")
      unlink(path + "/node.key")
      // What a process left behind that died while it made a key.
      try put("half", path + "/node.key.new", mode: 0o444)
      _ = try Identity.load(from: StateFolder(path))
    }
  }

  @Test func aFolderThatCannotBeUsed() async throws {
    try await withTemporaryFolder { path in
      try put("x", path + "/file")
      #expect(try await failure { try StateFolder(path + "/file") }.description.contains("no folder"))
      #expect(try await failure { try StateFolder(path + "/file/below") }.code == .io)
      if geteuid() != 0 {
        chmod(path, 0o500)
        #expect(try await loading(path).code == .permission)
      }
    }
    // A file system on which nothing can be made, for root too.
    #expect(try await failure { try StateFolder("/proc/p2pd-test") }.description.contains("/proc/p2pd-test"))
  }

  /// A disk of one page, in a mount namespace of one thread; only root can make one.
  @Test(.enabled(if: geteuid() == 0)) func aFullDisk() async throws {
    try await withTemporaryFolder { path in
      let outcome = try await OwnThread.run { () throws -> (NetError?, String, Bool) in
        try OwnThread.mountTinyDisk(at: path)
        let folder = try StateFolder(path)
        // Room for a folder entry, but not for a byte more.
        let filler = try #require(fopen(path + "/filler", "w"))
        while fputc(0x61, filler) != EOF, fflush(filler) == 0 {}
        fclose(filler)
        do {
          _ = try Identity.load(from: folder)
          return (nil, "", false)
        } catch let error as NetError {
          unlink(path + "/filler")
          let isClean = access(path + "/node.key.new", F_OK) != 0 && access(path + "/node.key", F_OK) != 0
          return (error, try Identity.load(from: folder).id, isClean)
        }
      }
      #expect(outcome.0?.code == .limit)
      #expect(outcome.0?.description.contains("No space left") == true)
      #expect(outcome.1.utf8.count == NodeKey.idLength, "and with room it starts")
      #expect(outcome.2, "nothing is left behind")
    }
  }

  @Test func manyStartsAtOnceGetOneKey() async throws {
    try await withTemporaryFolder { path in
      let ids = try await withThrowingTaskGroup(of: String.self) { group in
        for _ in 0..<16 { group.addTask { try Identity.load(from: StateFolder(path)).id } }
        return try await group.reduce(into: Set<String>()) { $0.insert($1) }
      }
      #expect(ids.count == 1)
    }
  }

  @Test func onlyOneClaim() async throws {
    try await withTemporaryFolder { path in
      let folder = try StateFolder(path)
      var claim = folder.claim()
      #expect(claim != nil)
      #expect(folder.claim() == nil)
      claim = nil
      #expect(folder.claim() != nil)
    }
  }
}

/// A thread that may leave the process's mount namespace without taking the other tests with it.
private enum OwnThread {
  static func run<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
      let box = Unmanaged.passRetained(Box { continuation.resume(with: Result(catching: body)) })
      var thread = pthread_t()
      let started = pthread_create(
        &thread, nil,
        { raw in
          if let raw { Unmanaged<Box>.fromOpaque(raw).takeRetainedValue().body() }
          return nil
        }, box.toOpaque())
      if started == 0 { pthread_detach(thread) } else { box.release() }
    }
  }

  private final class Box {
    let body: () -> Void
    init(_ body: @escaping () -> Void) { self.body = body }
  }

  static func mountTinyDisk(at path: String) throws {
    typealias Unshare = @convention(c) (CInt) -> CInt
    typealias Mount =
      @convention(c) (UnsafePointer<CChar>, UnsafePointer<CChar>, UnsafePointer<CChar>, UInt, UnsafePointer<CChar>) ->
      CInt
    let unshare = unsafeBitCast(try #require(dlsym(nil, "unshare")), to: Unshare.self)
    let mount = unsafeBitCast(try #require(dlsym(nil, "mount")), to: Mount.self)
    let newMounts: CInt = 0x20000
    let privateRecursive: UInt = 1 << 18 | 1 << 14
    try #require(unshare(newMounts) == 0)
    try #require(mount("none", "/", "none", privateRecursive, "") == 0)
    try #require(mount("tiny", path, "tmpfs", 0, "size=4096,mode=700") == 0)
  }
}
