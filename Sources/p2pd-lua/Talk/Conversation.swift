import Glibc
import NIOCore
import P2PDNet
import P2PDScript

/// What `connect` does once it is connected: standard input goes to the pipe, the pipe goes to standard output, and
/// somebody has to notice the end. Confined to its event loop.
final class Conversation: PipeSink, @unchecked Sendable {
  struct Settings: Sendable {
    /// A person types at a terminal.
    var isInteractive = false
    /// The pipe keeps message boundaries: each is shown on a line of its own.
    var hasMessages = true
    /// Bytes as they are: no line ends taken away or added.
    var isRaw = false
    /// A typed line gets this at its end where the pipe is a stream.
    var lineEnd = "\n"
    /// Size of the pieces of a raw input.
    var pieceSize = 64 << 10
    /// Most bytes of one message.
    var messageLimit = 16 << 20
    /// Seconds without a message, once the input is over, after which the conversation is.
    var patience: TimeAmount = .seconds(5)
    var showsProgress = false
    var showsNotes = true
  }

  /// How it ended: the exit status, and what to say about it.
  struct Outcome: Sendable {
    var status: Int32 = 0
    var words: String?
  }

  let settings: Settings
  private let loop: any EventLoop
  private let console: Console
  private let ended: EventLoopPromise<Outcome>
  private let reader: InputReader
  private var output: OutputQueue?
  private var pipe: Pipe?
  private var splitter: InputSplitter
  private var editor: PromptLine?
  private var progress: Progress?
  /// What was read and is not sent yet.
  private var unsent: ArraySlice<[UInt8]> = []
  private var inputIsOver = false
  private var patienceTimer: Scheduled<Void>?
  private var lastWord: Outcome?
  /// The start of a character whose other bytes come with the next piece of a stream.
  private var tail: [UInt8] = []

  init(_ settings: Settings, history: History, console: Console = .shared, on loop: any EventLoop) {
    self.settings = settings
    self.loop = loop
    self.console = console
    ended = loop.makePromise()
    reader = InputReader(loop: loop)
    let inPieces = settings.isRaw || !settings.hasMessages
    splitter = InputSplitter(mode: inPieces ? .pieces(settings.pieceSize) : .lines, limit: settings.messageLimit)
    if settings.isInteractive { editor = PromptLine(history: history, console: console) }
    if settings.showsProgress { progress = Progress(total: InputReader.remaining, now: seconds) }
    output = OutputQueue(
      write: { console.out($0) },
      drained: { [weak self] in self?.outputDrained() },
      failed: { [weak self] number in self?.outputFailed(number) })
  }

  /// Fulfilled when everything is over and written out.
  var outcome: EventLoopFuture<Outcome> { ended.futureResult }

  /// The lines typed, for the next time.
  var history: History? { editor?.history }

  private var seconds: Double { Double(loop.now.uptimeNanoseconds) / 1e9 }

  /// Begins to read, once the pipe is open. Call it on the loop.
  func start(_ pipe: Pipe) {
    self.pipe = pipe
    guard pipe.isOpen else { return }
    // Messages come from the moment it is open, and whoever reads them may have gone already.
    if lastWord != nil { return _ = pipe.close() }
    editor?.show()
    reader.start { [weak self] in self?.input($0) }
  }

  /// A signal asks for the end.
  func interrupt(status: Int32) {
    if pipe == nil { _exit(status) }  // still connecting: there is nothing to bring to an end
    end(Outcome(status: status))
  }

  /// There will be no pipe.
  func abandon() { ended.succeed(Outcome()) }

  // MARK: Input

  private func input(_ piece: InputReader.Piece) {
    switch piece {
    case .bytes(let bytes):
      if editor != nil {
        typed(bytes)
        reader.more()
        return
      }
      do {
        unsent = try splitter.add(bytes)[...]
      } catch {
        return end(
          Outcome(
            status: 1,
            words:
              "a line of the input is longer than a message may be (\(settings.messageLimit) bytes); --raw sends it in pieces"
          ))
      }
      sendOn()
    case .end:
      if let last = splitter.finish() { unsent.append(last) }
      inputIsOver = true
      sendOn()
    case .failed(let number):
      end(Outcome(status: 1, words: "cannot read standard input: \(String(cString: strerror(number)))"))
    }
  }

  /// Sends what was read, waiting whenever the peer is slower, then asks for more.
  private func sendOn() {
    guard let pipe, pipe.isOpen else { return }
    while let message = unsent.popFirst() {
      let outcome = message.withUnsafeBytes { pipe.send($0) }
      progress?.advance(message.count + (settings.hasMessages && !settings.isRaw ? 1 : 0))
      if let line = progress?.line(now: seconds) { console.setLive(line) }
      switch outcome {
      case .sent: continue
      case .full:
        pipe.whenWritable { [weak self] error in
          if error == nil { self?.sendOn() }
        }
        return
      case .failed(let error):
        guard pipe.isOpen, error.code != .closed else { return }  // the pipe's end says it better
        return end(Outcome(status: 1, words: "\(error)"))
      }
    }
    if inputIsOver { inputEnded() } else { reader.more() }
  }

  private func inputEnded() {
    console.setLive(nil)
    guard settings.patience > .zero else { return end(Outcome()) }
    pipe?.closeOutput()
    waitForSilence()
  }

  /// The peer may still answer; each message buys it time.
  private func waitForSilence() {
    patienceTimer?.cancel()
    patienceTimer = loop.assumeIsolated().scheduleTask(in: settings.patience) { [weak self] in self?.end(Outcome()) }
  }

  private func typed(_ bytes: [UInt8]) {
    guard var editor else { return }
    let actions = editor.type(bytes)
    self.editor = editor
    for action in actions {
      switch action {
      case .line(let line): say(line)
      case .end, .interrupt: return end(Outcome())
      default: break
      }
    }
  }

  private func say(_ line: String) {
    guard let pipe else { return }
    let text = settings.hasMessages ? line : line + settings.lineEnd
    let outcome = Array(text.utf8).withUnsafeBytes { pipe.send($0) }
    if case .failed(let error) = outcome, pipe.isOpen { console.note("not sent: \(error)\n") }
  }

  // MARK: Output

  func pipe(_ pipe: Pipe, message: UnsafeRawBufferPointer, from peer: Peer) -> Bool {
    guard let output else { return true }
    if output.isFull { return false }
    output.put(shown(message))
    if patienceTimer != nil { waitForSilence() }
    return true
  }

  private func shown(_ message: UnsafeRawBufferPointer) -> [UInt8] {
    guard console.outputIsTerminal, !settings.isRaw else {
      return settings.hasMessages && !settings.isRaw ? Array(message) + [UInt8(ascii: "\n")] : Array(message)
    }
    if settings.hasMessages {
      let text = Printable.message(message)
      return Array((text.hasSuffix("\n") ? text : text + "\n").utf8)
    }
    let bytes = tail + message
    let whole = bytes.count - Printable.unfinished(bytes)
    tail = Array(bytes[whole...])
    return Array(Printable.message(bytes[..<whole]).utf8)
  }

  /// On the queue's thread.
  private func outputDrained() {
    loop.execute { self.pipe?.ready() }
  }

  /// On the queue's thread.
  private func outputFailed(_ number: Int32) {
    // Nobody reads any more (`connect ... | head -1`): that is no error of ours.
    let words = number == EPIPE ? nil : "cannot write to standard output: \(String(cString: strerror(number)))"
    loop.execute { self.end(Outcome(status: words == nil ? 0 : 1, words: words)) }
  }

  // MARK: The end

  /// Closes the pipe; the outcome follows when it has ended.
  private func end(_ outcome: Outcome) {
    if lastWord == nil { lastWord = outcome }
    patienceTimer?.cancel()
    patienceTimer = nil
    pipe?.close()
  }

  func pipeEnded(_ pipe: Pipe, reason: EndReason) {
    patienceTimer?.cancel()
    var outcome = lastWord ?? Outcome()
    if lastWord == nil {
      switch reason {
      case .closed: if settings.isInteractive, settings.showsNotes { outcome.words = "the peer closed the pipe" }
      case .local: break
      case .reset: outcome = Outcome(status: 1, words: "the peer cut the pipe off (reset)")
      case .timeout: outcome = Outcome(status: 1, words: "the peer was silent for too long")
      case .error(let error): outcome = Outcome(status: 1, words: "\(error)")
      }
    }
    if pipe.lost > 0 {
      let words = "\(pipe.lost) bytes could not be sent"
      outcome = Outcome(status: max(1, outcome.status), words: outcome.words.map { "\($0); \(words)" } ?? words)
    }
    let last = outcome
    console.setLive(nil)
    output?.whenEmpty { [ended] in ended.succeed(last) }
    output = nil
  }
}
