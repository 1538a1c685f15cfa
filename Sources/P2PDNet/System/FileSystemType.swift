import CNet

/// Which kind of file system a path lies on.
package enum FileSystemType {
  /// statfs(2)'s f_type; nil where the path cannot be reached.
  package static func of(_ path: String) -> Int64? {
    let type = cnet_filesystem_type(path)
    return type < 0 ? nil : type
  }
}
