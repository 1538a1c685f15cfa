import ArgumentParser
import P2PDNames
import P2PDNet
import P2PDNode

/// `names list`
struct NameList: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list",
    abstract: "List the names in your names file and those whose keys are remembered.",
    discussion: """
      EXAMPLES
        p2pd-lua names list
        p2pd-lua names list --json | jq -r '.[].name'
      """)

  @Flag(help: "Write JSON.")
  var json = false

  @OptionGroup(title: "State options") var state: StateOptions

  func run() throws {
    let book = NameBook(file: NamesConfiguration.userFile, pinFolder: state.ephemeral ? nil : state.folder)
    var rows: [(name: String, id: String, from: String)] = []
    do {
      let file = try book.names()
      for (name, entry) in file.entries {
        let what = entry.address == nil ? "the key" : "the address"
        rows.append(("\(name)", id(entry.key), "\(file.path):\(entry.line), \(what)"))
      }
      for (name, key) in try book.pins().keys { rows.append(("\(name)", id(key), "remembered at its first use")) }
    } catch {
      throw Failure("\(error)")
    }
    rows.sort { ($0.name, $0.from) < ($1.name, $1.from) }
    if json {
      let all = rows.map { row in
        JSONText.object([("name", .string(row.name)), ("id", .string(row.id)), ("from", .string(row.from))])
      }
      Console.shared.out(JSONText.array(all).pretty + "\n")
      return
    }
    var table = TextTable()
    for row in rows { table.add([row.name, row.id, row.from]) }
    Console.shared.out(rows.isEmpty ? "no names\n" : table.text)
  }

  private func id(_ key: [UInt8]) -> String { NodeKey(bytes: key)?.description ?? "" }
}

/// `names forget`
struct NameForget: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "forget",
    abstract: "Forget the key remembered of a name: its next use takes the key it has then.",
    discussion: """
      For a name whose owner has a new key, and says so by another way than the name.

      EXAMPLE
        p2pd-lua names forget example.peer
      """)

  @Argument(help: "The name.")
  var name: String

  @OptionGroup(title: "State options") var state: StateOptions

  func run() throws {
    let book = NameBook(file: nil, pinFolder: state.folder)
    do {
      let full = try NameService.read(name)
      guard try book.forget(full) else { throw Failure("no key is remembered of \(full)") }
      Console.shared.out("the key of \(full) is forgotten\n")
    } catch let error as NetError {
      throw Failure("\(error)")
    }
  }
}
