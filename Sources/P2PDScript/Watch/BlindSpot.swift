import Glibc
import P2PDNet

/// Why the kernel does not tell of every change, so that the files must be looked at now and then.
enum BlindSpot: Hashable, Sendable {
  /// No inotify descriptor; the errno.
  case noInotify(Int32)
  /// The user's watches are used up.
  case watchLimit
  /// A folder that cannot be watched; the errno.
  case refused(String, Int32)
  /// A folder that others can write to without this kernel knowing; the file system's name.
  case remote(String, kind: String)

  /// For the log: what is the matter and what can be done about it.
  var description: String {
    switch self {
    case .noInotify(EMFILE):
      "inotify has no instance left for this user (or this process no descriptor); "
        + "raise the limit with: sysctl fs.inotify.max_user_instances=1024"
    case .noInotify(let number): "inotify is not available (\(String(cString: strerror(number))))"
    case .watchLimit:
      "this user's inotify watches are used up; raise the limit with: sysctl fs.inotify.max_user_watches=524288"
    case .refused(let folder, let number):
      "the folder \(folder) cannot be watched (\(String(cString: strerror(number)))); let this user read it"
    case .remote(let folder, let kind): "the folder \(folder) is on \(kind), where other machines' changes are not told"
    }
  }

  /// The blind spot a folder is by the file system it lies on; nil for a local one, whose changes the kernel knows.
  ///
  /// Looking at the type once spares a node with local files from waking up every two seconds for ever.
  static func remote(_ folder: String) -> BlindSpot? {
    FileSystemType.of(folder).flatMap { remoteKinds[$0] }.map { .remote(folder, kind: $0) }
  }

  /// statfs(2)'s f_type, from linux/magic.h and the file systems' own sources. FUSE is sshfs, and the shared folders of
  /// virtual machines and of Docker on other systems; 9p is WSL's and QEMU's.
  private static let remoteKinds: [Int64: String] = [
    0x6969: "NFS", 0x517b: "SMB", 0xff53_4d42: "SMB", 0xfe53_4d42: "SMB", 0x6573_5546: "FUSE", 0x0102_1997: "9p",
    0x5346_414f: "AFS", 0x6b41_4653: "AFS", 0x00c3_6400: "Ceph", 0x0bd0_0bd0: "Lustre", 0x0116_1970: "GFS2",
    0x7461_636f: "OCFS2", 0x7375_7245: "Coda", 0x786f_4256: "VirtualBox", 0x4750_4653: "GPFS",
    0xaad7_aaea: "PanFS", 0xbacb_acbc: "VMware",
  ]
}
