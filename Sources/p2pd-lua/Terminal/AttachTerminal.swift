import CNet
import Glibc
import P2PDNet

/// `attach` at a terminal: a person types lines, the node runs them. One thread waits for the keyboard, the node and
/// signals.
struct AttachTerminal {
  private let link: ControlLink
  private let console: Console
  private let readOnly: Bool
  private var line: PromptLine
  /// The lines of an unfinished chunk.
  private var chunk = ""
  /// The request the node is busy with.
  private var running: Int?

  init(_ link: ControlLink, history: History, readOnly: Bool, console: Console = .shared) {
    (self.link, self.readOnly, self.console) = (link, readOnly, console)
    line = PromptLine(history: history, console: console, takesTurns: true) { text in
      guard let found = try? link.call("complete", [("text", .string(text))]) else { return ([], 0) }
      return (found["names"]?.items.compactMap(\.string) ?? [], found["typed"]?.int ?? 0)
    }
  }

  var history: History { line.history }

  /// Comes back when the person is done; throws when the node has ended.
  mutating func run() throws {
    let signals = cnet_catch_signals()
    console.note(
      "Lua in \(Printable.line(link.greeting.name))\(readOnly ? ", read-only" : ""); help shows what is there. End with Control-D.\n"
    )
    line.show()
    defer {
      console.setLive(nil)
      cnet_terminal_restore()
    }
    var places = [STDIN_FILENO, link.descriptor, signals].map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
    while true {
      guard poll(&places, nfds_t(places.count), -1) >= 0 || errno == EINTR else { return }
      if places[2].revents != 0 {
        var number: UInt8 = 0
        _ = read(signals, &number, 1)
        cnet_terminal_restore()
        exit(128 + Int32(number))
      }
      if places[1].revents != 0 {
        let isOpen = link.fill()
        while let answer = try link.buffered() { if try take(answer) { return } }
        if !isOpen { throw link.gone }
      }
      if places[0].revents != 0 {
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = read(STDIN_FILENO, &bytes, bytes.count)
        if count < 0, errno == EINTR || errno == EAGAIN { continue }
        guard count > 0 else { return }
        if try perform(line.type(Array(bytes[..<count]))) { return }
      }
    }
  }

  /// True at the end.
  private mutating func perform(_ actions: [LineEditor.Action]) throws -> Bool {
    for action in actions {
      switch action {
      case .line(let typed):
        chunk += chunk.isEmpty ? typed : "\n" + typed
        if chunk.allSatisfy(\.isWhitespace) {
          chunk = ""
          return try goOn()
        }
        running = try link.send(
          "evaluate", [("code", .string(chunk)), ("quoted", .bool(true)), ("partial", .bool(true))])
      case .interrupt:
        if let running {
          try link.send("cancel", [("request", .int(running))])
        } else {
          if chunk.isEmpty { console.out("(Control-D ends the prompt)\n") }
          chunk = ""
          return try goOn()
        }
      case .end:
        // Control-D gives an unfinished chunk up first.
        guard !chunk.isEmpty else { return true }
        chunk = ""
        return try goOn()
      default: break
      }
    }
    return false
  }

  private mutating func goOn() throws -> Bool {
    running = nil
    return try perform(line.resume(prompt: chunk.isEmpty ? "> " : ">> "))
  }

  /// An event or an answer of the node. True at the end.
  private mutating func take(_ answer: JSONText) throws -> Bool {
    guard let id = answer["id"]?.int, id == running else {
      if answer["id"]?.int == nil { _ = try ControlLink.result(answer) }
      return false
    }
    if answer["event"]?.string == "print" {
      console.out(Printable.message(Array((answer["text"]?.string ?? "").utf8)) + "\n")
      return false
    }
    if answer["event"]?.string == "dropped" {
      console.note("(\(answer["count"]?.int ?? 0) printed lines left out: they came faster than they were shown)\n")
      return false
    }
    let result: JSONText
    do {
      result = try ControlLink.result(answer)
    } catch {
      console.note("\(error)\n")
      chunk = ""
      return try goOn()
    }
    if result["incomplete"]?.bool == true { return try goOn() }
    chunk = ""
    if let error = result["error"]?.string {
      console.note(Attach.words(error, result["traceback"]?.string) + "\n")
    } else if let values = result["values"]?.string, !values.isEmpty {
      console.out(Printable.message(Array(values.utf8)) + "\n")
    }
    return try goOn()
  }
}
