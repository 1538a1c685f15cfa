import ArgumentParser
import CNet
import Glibc

struct Status: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show how a running node is doing.",
    discussion: """
      Who the node is and where it is reached, the protocols it hosts, and over the
      last 10 seconds: messages and bytes a second, and how late its event loop
      came to what was due.

      EXAMPLES
        p2pd-lua status                  the node that runs
        p2pd-lua status chat             the one of that name, or key
        p2pd-lua status --watch          again every second, until Control-C
        p2pd-lua status --json | jq .memory

      EXIT STATUS
        0  there is the report
        1  no such node, or it does not answer; --watch: or it has ended
      """)

  @Argument(
    help: "The node, by its name or the first letters of its key.", completion: .custom { _, _, _ in NodeChoice.names })
  var name: String?

  @Flag(help: "Write JSON; with --watch one object a line.")
  var json = false

  @Flag(name: .shortAndLong, help: "Show it again every second.")
  var watch = false

  @OptionGroup(title: "Node options") var choice: NodeChoice

  func validate() throws { try choice.check(name) }

  func run() throws {
    let link = try choice.open(name)
    let console = Console.shared
    guard watch else {
      let report = try link.call("status")
      console.out(json ? report.pretty + "\n" : StatusText.status(report))
      return
    }
    var frame = LiveFrame()
    let redraws = !json && console.outputIsTerminal && Environment.value("TERM") != "dumb"
    while true {
      let report = try link.call("status")
      let isRead: Bool
      if json {
        isRead = console.out(report.text + "\n")
      } else if redraws {
        isRead = console.out(
          frame.draw(StatusText.status(report), rows: Int(cnet_terminal_rows(STDOUT_FILENO)), columns: console.columns))
      } else {
        isRead = console.out(StatusText.status(report) + "\n")
      }
      guard isRead else { return }
      try pause(link)
    }
  }

  /// A second, or until the node ends.
  private func pause(_ link: ControlLink) throws {
    var place = pollfd(fd: link.descriptor, events: Int16(POLLIN), revents: 0)
    if poll(&place, 1, 1000) > 0, !link.fill() { throw link.gone }
  }
}
