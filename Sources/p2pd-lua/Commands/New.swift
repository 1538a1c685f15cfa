import ArgumentParser
import Glibc

struct New: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Write a commented handler and its test.",
    discussion: """
      Writes NAME.lua and NAME_test.lua into the current folder, or into the one
      NAME begins with. Files that are there already are left alone.

      EXAMPLES
        p2pd-lua new guess
        p2pd-lua test guess_test.lua
        p2pd-lua run guess.lua
      """)

  @Argument(help: "The protocol's name: letters, digits, '-' and '_'; a folder may stand before it.")
  var name: String

  func validate() throws {
    guard HandlerTemplate.isName(HandlerTemplate.split(name).name) else {
      throw ValidationError(
        "\"\(name)\" is no protocol name: give up to 63 letters, digits, '-' or '_', beginning with a letter.")
    }
  }

  func run() throws {
    let (folder, name) = HandlerTemplate.split(name)
    let prefix = folder.isEmpty ? "" : folder + "/"
    let handler = "\(prefix)\(name).lua"
    let test = "\(prefix)\(name)_test.lua"
    for path in [handler, test] where Files.exists(path) {
      throw Failure("\(path) is there already", remedy: "Choose another name, or move the file away.")
    }
    if !folder.isEmpty, !Files.isDirectory(folder) {
      throw Failure("there is no folder \(folder)", remedy: "Make it first: mkdir -p \(Environment.shellWord(folder))")
    }
    let template = HandlerTemplate(name: name, program: Environment.program, path: handler)
    for (path, text) in [(handler, template.handler), (test, template.test)] {
      guard Files.create(path, with: Array(text.utf8)) else {
        throw Failure(errno: "cannot write \(path)")
      }
    }
    let program = Environment.program
    Console.shared.out(
      """
      \(handler)\(String(repeating: " ", count: test.count - handler.count))  the handler
      \(test)  its test

      Test it:  \(program) test \(Environment.shellWord(test))
      Run it:   \(program) run \(Environment.shellWord(handler))

      """)
  }
}
