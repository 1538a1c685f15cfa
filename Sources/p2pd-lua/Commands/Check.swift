import ArgumentParser
import P2PDNet
import P2PDScript

struct Check: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Load scripts without a network and say what is wrong with them.",
    usage: "p2pd-lua check [<options>] <scripts> ...",
    discussion: """
      Reports syntax errors, callbacks that are misspelt or no functions, and names
      the API does not have (p2pd.conect, pipe:sendd). The scripts' top level is
      run, their handlers are not. A finding begins with file:line:, as editors
      like it.

      EXAMPLES
        p2pd-lua check ping.lua
        p2pd-lua check --strict handlers/*.lua

      EXIT STATUS
        0  no errors
        1  an error; with --strict: or a warning
      """)

  @Argument(help: "The scripts, or folders of scripts.", completion: .file(extensions: ["lua"]))
  var scripts: [String]

  @Flag(help: "Count warnings as errors.")
  var strict = false

  @OptionGroup(title: "Script options") var limits: ScriptLimitOptions

  func run() async throws {
    let options = try limits.scriptOptions()
    let loop = Engine.loop
    var errors = 0
    var warnings = 0
    for path in try ScriptPaths.expand(scripts, tests: true) {
      if path == ConfigFile.fileName || path.hasSuffix("/" + ConfigFile.fileName) {
        do {
          _ = try ConfigFile(path: path, servers: ServerList())
          Console.shared.out("\(path): settings, nothing to complain about\n")
        } catch {
          Console.shared.out("\(error)\n")
          errors += 1
        }
        continue
      }
      let report = await ScriptCheck.check(path, options: options, on: loop)
      for warning in report.warnings { Console.shared.out("\(warning)\n") }
      warnings += report.warnings.count
      if let error = report.error {
        Console.shared.out("\(error)\n")
        errors += 1
      } else if report.warnings.isEmpty {
        Console.shared.out("\(path): \(Self.words(report.kind))\n")
      }
    }
    if errors > 0 || strict && warnings > 0 { throw Exit.failed }
  }

  private static func words(_ kind: ScriptCheck.Kind) -> String {
    switch kind {
    case .handler(let name): "a handler of protocol \"\(name)\", nothing to complain about"
    case .tests(let count): "\(count) tests for the test command, nothing to complain about"
    case .script: "a script for exec, nothing to complain about"
    }
  }
}
