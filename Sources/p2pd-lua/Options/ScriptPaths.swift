import P2PDScript

/// The script files a user named.
enum ScriptPaths {
  /// A folder stands for the `.lua` files in it, in order, without its sub-folders and its tests.
  /// - Throws: ``Failure`` where a file is missing or a folder holds no script.
  /// - Parameter tests: a folder's tests belong to it too.
  static func expand(_ paths: [String], tests: Bool = false) throws -> [String] {
    try paths.flatMap { path -> [String] in
      guard Files.isDirectory(path) else {
        try mustExist(path)
        return [path]
      }
      let names = Files.names(in: path) ?? []
      let scripts = names.filter { ScriptFiles.isHandler($0) || (tests && ScriptFiles.isScript($0)) }
      guard !scripts.isEmpty else {
        throw Failure(
          "the folder \(path) holds no script",
          remedy: "Scripts are its files that end in .lua; tests (*_test.lua, *_spec.lua) are left out.")
      }
      return scripts.map { path.hasSuffix("/") ? path + $0 : "\(path)/\($0)" }
    }
  }

  static func mustExist(_ path: String) throws {
    guard !Files.exists(path) else { return }
    if !path.hasSuffix(".lua"), Files.exists(path + ".lua") {
      throw Failure("there is no file \(path)", remedy: "There is \(path).lua, though.")
    }
    throw Failure(
      "there is no file \(path)",
      remedy:
        "Check the name, or begin a handler of that name: \(Environment.program) new \(Environment.shellWord(path))")
  }
}
