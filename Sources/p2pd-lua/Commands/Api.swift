import ArgumentParser
import P2PDScript

/// For developers: the texts made from the table of the Lua API.
struct Api: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Write the reference, the editor types and the luacheck globals of the Lua API.",
    discussion: """
      All three are made from one table in the engine. A test regenerates them and
      fails where they differ from what lies in the tree.
        p2pd-lua api                  lists the files
        p2pd-lua api --write .        writes them below the folder
        p2pd-lua api --diff .         names those that differ; status 1 if one does
      """,
    shouldDisplay: false)

  @Option(help: ArgumentHelp("Write the files below this folder.", valueName: "folder"))
  var write: String?

  @Option(help: ArgumentHelp("Compare the files below this folder.", valueName: "folder"))
  var diff: String?

  func validate() throws {
    if write != nil, diff != nil { throw ValidationError("Give --write or --diff, not both.") }
  }

  func run() throws {
    var stale = false
    for file in APIDocument.files {
      guard let root = write ?? diff else {
        Console.shared.out("\(file.path)\n")
        continue
      }
      let path = "\(root)/\(file.path)"
      let text = Array(file.text.utf8)
      let same = Files.read(path, atMost: Self.largestFile) == text
      if diff != nil {
        if !same {
          Console.shared.out(
            "\(path) is not what the API table gives; write it anew with: p2pd-lua api --write \(root)\n")
        }
        stale = stale || !same
      } else if !same {
        let folder = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
        guard Files.makeFolder(folder), Files.replace(path, with: text, mode: 0o644) else {
          throw Failure(errno: "cannot write \(path)")
        }
        Console.shared.out("\(path)\n")
      }
    }
    if stale { throw Exit.failed }
  }

  private static let largestFile = 16 << 20
}
