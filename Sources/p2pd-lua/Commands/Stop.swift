import ArgumentParser
import CNet

struct Stop: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "End a running node in good order.",
    discussion: """
      The same as SIGTERM: no new pipes, what is queued is sent, the scripts'
      end_cbs run. Comes back when the process is gone.

      EXAMPLES
        p2pd-lua stop
        p2pd-lua stop chat

      EXIT STATUS
        0  the node has ended
        1  no such node, or it does not end
      """)

  @Argument(
    help: "The node, by its name or the first letters of its key.", completion: .custom { _, _, _ in NodeChoice.names })
  var name: String?

  @OptionGroup(title: "Node options") var choice: NodeChoice

  func validate() throws { try choice.check(name) }

  func run() throws {
    let link = try choice.open(name)
    let node = link.greeting
    _ = try link.call("stop")
    // The connection ends a little before the process does.
    while try link.next(seconds: Self.patience) != nil {}
    if node.pid > 0, cnet_wait_process(Int32(clamping: node.pid), Int32(Self.patience * 1000)) == 0 {
      throw Failure("the node \(node.name) does not end", remedy: "End it the hard way: kill -9 \(node.pid)")
    }
    Console.shared.out("\(Printable.line(node.name)) (pid \(node.pid)) has ended\n")
  }

  /// The node ends itself after 5 s, whatever hangs.
  private static let patience = 10.0
}
