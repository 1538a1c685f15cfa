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
        p2pd-lua run echo.lua                       host it; prints its address
        p2pd-lua connect p2pd1...                   talk to it from elsewhere
        echo "ECHO hi" | p2pd-lua connect p2pd1...  or from a script
        p2pd-lua new guess                          begin a protocol of your own
        p2pd-lua status                             how the running node is doing

      EXIT STATUS
        0    done
        1    it failed; standard error says why
        2    the command line is wrong
        130  ended by SIGINT; 143: by SIGTERM (run: by a second signal only)
        exec gives the script's own status.

      ENVIRONMENT
        P2PD_STATE_DIR, P2PD_PORT, P2PD_LISTEN, P2PD_OFFLINE, P2PD_MEMORY,
        P2PD_TIME_LIMIT, P2PD_SANDBOX, P2PD_NO_WATCH, P2PD_LOG_LEVEL,
        P2PD_LOG_FORMAT, P2PD_NO_PORT_MAPPING
                          stand in for the options of these names; those win
        P2PD_STUN, P2PD_TURN, P2PD_BROKERS, P2PD_NTP, P2PD_NAMES
                          the servers to use, URLs separated by commas, or none
        P2PD_MDNS         off: names are neither asked nor told on the local network
        P2PD_CA           roots that their certificates are checked against
        P2PD_CONFIG       the configuration file to read, or none
        P2PD_NODE         the running node that status, stop and the like mean
        P2PD_LUA_LIB      folders of Lua modules, separated by colons
        NO_COLOR          no colours, whatever the terminal

      SHELL COMPLETIONS
        p2pd-lua --generate-completion-script bash
        writes the script for bash; zsh and fish likewise. Put it where the shell
        looks: ~/.local/share/bash-completion/completions/p2pd-lua,
        ~/.zfunc/_p2pd-lua, ~/.config/fish/completions/p2pd-lua.fish.
      """,
    version: "p2pd-lua \(Program.version)",
    subcommands: [
      Run.self, Exec.self, Connect.self, Explain.self, Check.self, TestCommand.self, New.self, Status.self, Pipes.self,
      Logs.self,
      Trace.self, Attach.self, Reload.self, Rollback.self, Generations.self, Stop.self, Id.self, Addr.self, Ifs.self,
      Netcheck.self, Names.self, Version.self, Api.self,
    ])
}

@main
enum Main {
  static func main() async {
    // Before the first thread: the allocator reads its settings when it makes a heap.
    cnet_tune_malloc()
    Files.fillStandardDescriptors()
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
    // What was logged before it stands before it.
    LogQueue.shared.flush(within: .seconds(1))
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
    LogQueue.shared.flush(within: .seconds(1))
    cnet_terminal_restore()
    exit(code.rawValue)
  }
}
