import ArgumentParser

/// The program's own name and number.
enum Program {
  static let version = "0.1.0"
}

struct Version: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Show the program's version.")

  func run() {
    Console.shared.out("p2pd-lua \(Program.version)\n")
  }
}
