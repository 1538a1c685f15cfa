import Glibc

/// How the kernel comes to a file, step by step: which folders it passes, which links it follows. Whoever watches only
/// the file's own folder does not see that a link three steps before it was pointed elsewhere.
struct PathTrail: Equatable {
  /// What a name stands for.
  enum Entry: Equatable {
    case folder, file, missing
    case link(String)
    case failed(Int32)
  }

  /// A name whose change may lead the path elsewhere: a link, the file itself, or the first name that is not there.
  struct Place: Hashable {
    var folder: String
    var name: String
  }

  private(set) var places: [Place] = []
  /// The folders that were passed, the one it ends in included.
  private(set) var folders: [String] = []
  /// What the path leads to; never a link.
  private(set) var end = Entry.missing
  /// Where that lies, without links; where it is missing, the nearest folder that is there.
  private(set) var endPath = "/"

  /// - Parameters:
  ///   - workingFolder: what a relative path is relative to.
  ///   - look: lstat(2) and readlink(2) of a path without links before its last name.
  init(_ path: String, from workingFolder: String, look: (String) -> Entry) {
    var rest = Self.names(path)
    if !path.hasPrefix("/") { rest += Self.names(workingFolder) }
    var here = "/"
    var links = 0
    folders.append(here)
    while let name = rest.popLast() {
      if name == ".." {
        here = Self.parent(here)
        continue
      }
      let next = here == "/" ? "/" + name : here + "/" + name
      let entry = look(next)
      switch entry {
      case .folder:
        here = next
        folders.append(next)
        continue
      case .link(let target):
        places.append(Place(folder: here, name: name))
        links += 1
        if links <= Self.mostLinks {
          if target.hasPrefix("/") { here = "/" }
          rest += Self.names(target)
          continue
        }
        end = .failed(ELOOP)
      case .file:
        places.append(Place(folder: here, name: name))
        end = rest.isEmpty ? .file : .failed(ENOTDIR)
      case .missing, .failed:
        places.append(Place(folder: here, name: name))
        end = entry
      }
      endPath = entry == .file ? next : here
      return
    }
    end = .folder
    endPath = here
  }

  /// The last name first.
  private static func names(_ path: String) -> [String] {
    path.split(separator: "/").filter { $0 != "." }.map(String.init).reversed()
  }

  private static func parent(_ path: String) -> String {
    guard let slash = path.lastIndex(of: "/"), slash != path.startIndex else { return "/" }
    return String(path[..<slash])
  }

  /// What the kernel follows (path_resolution(7)).
  private static let mostLinks = 40
}
