import ArgumentParser

/// `p2pd-lua names ...`: the servers of names, and what they know.
struct Names: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Serve names of nodes, or ask the servers of names.",
    subcommands: [
      NameLookup.self, NamePush.self, NameDelete.self, NameList.self, NameForget.self, NamesServe.self,
      NamesBackup.self,
    ])
}
