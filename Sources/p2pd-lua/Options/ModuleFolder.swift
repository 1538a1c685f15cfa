import Glibc

/// The folders of Lua modules that come with the program.
enum ModuleFolder {
  /// P2PD_LUA_LIB, or else `scripts/lib` in the checkout the program was built in, or `share/p2pd-lua/lib` beside the
  /// `bin` it was installed to.
  static var all: [String] {
    if let given = Environment.value("P2PD_LUA_LIB"), !given.isEmpty {
      return given.split(separator: ":").map(String.init)
    }
    guard var folder = executableFolder else { return [] }
    for _ in 0..<searchDepth {
      for candidate in ["\(folder)/scripts/lib", "\(folder)/share/p2pd-lua/lib"] where Files.isDirectory(candidate) {
        return [candidate]
      }
      guard let slash = folder.lastIndex(of: "/") else { return [] }
      folder = String(folder[..<slash])
    }
    return []
  }

  private static var executableFolder: String? {
    guard let real = realpath("/proc/self/exe", nil) else { return nil }
    defer { free(real) }
    let path = String(cString: real)
    return path.lastIndex(of: "/").map { String(path[..<$0]) }
  }

  /// `.build/<triple>/release` lies three folders below the checkout.
  private static let searchDepth = 5
}
