import ArgumentParser
import CNet
import Glibc

/// The root of the command line.
struct P2PDLua: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "p2pd-lua",
    abstract: "Write a network protocol in Lua and run it as a peer that others can reach.",
    discussion: """
      EXAMPLES
        p2pd-lua run scripts/handlers/echo.lua      host a protocol; prints the address to connect to
        p2pd-lua connect p2pd1...                   talk to it from another terminal
        echo "ECHO hi" | p2pd-lua connect p2pd1...  or from a script
        p2pd-lua new guess                          start a protocol of your own

      EXIT STATUS
        0  done      1  it failed; standard error says why      2  the command line is wrong
        130, 143     ended by a second SIGINT or SIGTERM (exec: by the first)
        exec gives the script's own status.

      ENVIRONMENT
        P2PD_STATE_DIR, P2PD_PORT, P2PD_LISTEN, P2PD_OFFLINE, P2PD_MEMORY, P2PD_TIME_LIMIT, P2PD_SANDBOX, P2PD_LOG_LEVEL,
        P2PD_LOG_FORMAT stand in for the options of these names; an option given wins. P2PD_LUA_LIB names the folder of
        Lua modules. NO_COLOR turns colours off.

      SHELL COMPLETIONS
        bash   p2pd-lua --generate-completion-script bash > ~/.local/share/bash-completion/completions/p2pd-lua
        zsh    p2pd-lua --generate-completion-script zsh > ~/.zsh/completion/_p2pd-lua
        fish   p2pd-lua --generate-completion-script fish > ~/.config/fish/completions/p2pd-lua.fish
      """,
    version: "p2pd-lua \(Program.version)",
    subcommands: [
      Run.self, Exec.self, Connect.self, Check.self, New.self, Id.self, Addr.self, Ifs.self, Version.self, Api.self,
    ])
}

@main
enum Main {
  static func main() async {
    // Before the first thread: the allocator reads its settings when it makes a heap.
    cnet_tune_malloc()
    cnet_ignore_sigpipe()
    cnet_raise_descriptor_limit()
    do {
      var command = try P2PDLua.parseAsRoot()
      if var command = command as? any AsyncParsableCommand {
        try await command.run()
      } else {
        try command.run()
      }
      end(.success)
    } catch {
      end(report(error))
    }
  }

  /// Says what went wrong and gives the exit status for it.
  private static func report(_ error: any Error) -> ExitCode {
    if let failure = error as? Failure {
      Console.shared.note("p2pd-lua: \(failure)\n")
      return Exit.failed
    }
    let code = P2PDLua.exitCode(for: error)
    // What the parser says of a wrong command line, its help and its completion scripts; nothing for an exit code.
    let text = P2PDLua.fullMessage(for: error)
    if !text.isEmpty {
      if code.isSuccess { Console.shared.out(text + "\n") } else { Console.shared.note(text + "\n") }
    }
    return code == .validationFailure ? Exit.usage : code
  }

  private static func end(_ code: ExitCode) -> Never {
    cnet_terminal_restore()
    exit(code.rawValue)
  }
}
