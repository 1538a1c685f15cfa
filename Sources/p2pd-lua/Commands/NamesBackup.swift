import ArgumentParser
import P2PDNameServer

struct NamesBackup: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "backup",
    abstract: "Copy a name server's file, while it serves.",
    discussion: """
      The copy is of one moment, is checked as a whole (integrity_check), and takes
      the place of an older one at once or not at all. To put it back: stop the
      server, copy it over the file of --db, remove that file's -wal and -shm, start.

      EXAMPLE
        p2pd-lua names backup --db names.sqlite --to /backup/names.sqlite
      """)

  @Option(help: ArgumentHelp("The server's file.", valueName: "file"), completion: .file())
  var db: String

  @Option(help: ArgumentHelp("Where to put the copy.", valueName: "file"), completion: .file())
  var to: String

  @Flag(name: .shortAndLong, help: "Say nothing but errors.")
  var quiet = false

  func run() throws {
    do {
      let report = try NameBackup.make(of: db, to: to)
      if !quiet { Console.shared.note("\(report.names) names, \(report.bytes) bytes, checked.\n") }
    } catch {
      throw Failure("\(error)")
    }
  }
}
