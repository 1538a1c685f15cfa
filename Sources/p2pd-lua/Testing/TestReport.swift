import Glibc
import P2PDNet
import P2PDScript
import Synchronization

/// What `test` shows, as the tests come to their ends.
final class TestReport: Sendable {
  enum Style: Sendable { case short, verbose, json }

  private struct Sums {
    var passed = 0
    var failed = 0
    var pending = 0
    var leaky = 0
    var virtual = 0.0
    var groups: [String] = []
    /// Of the file that runs.
    var ofFile = (passed: 0, failed: 0, pending: 0)
    var began = ContinuousClock.now
    var fileBegan = ContinuousClock.now
  }

  private let style: Style
  private let strict: Bool
  private let seed: UInt64
  private let paint = Paint()
  private let sums = Mutex(Sums())

  init(style: Style, strict: Bool, seed: UInt64) {
    (self.style, self.strict, self.seed) = (style, strict, seed)
  }

  func began(_ file: String) {
    sums.withLock {
      ($0.ofFile, $0.groups, $0.fileBegan) = ((0, 0, 0), [], .now)
    }
    if style == .verbose { out(paint.bold(file)) }
  }

  func note(_ event: TestEvent) {
    switch event {
    case .began: break
    case .printed(let line): if style == .json { Console.shared.note(line + "\n") } else { out(line) }
    case .ended(let test, let result): ended(test, result)
    }
  }

  func ended(_ file: String, failure: String?) {
    let (ofFile, began) = sums.withLock { sums in
      if failure != nil {
        sums.failed += 1
        sums.ofFile.failed += 1
      }
      return (sums.ofFile, sums.fileBegan)
    }
    if let failure {
      if style == .json { return out(JSONText.object([("file", .string(file)), ("error", .string(failure))]).text) }
      out("\(paint.red("FAIL")) \(file) could not be run")
      out(indented(failure, 5))
    } else if style == .short {
      let words = ofFile.failed > 0 ? paint.red("FAIL") : paint.green("ok  ")
      var text = "\(words) \(file)  \(ofFile.passed) passed"
      if ofFile.failed > 0 { text += ", \(ofFile.failed) failed" }
      if ofFile.pending > 0 { text += ", \(ofFile.pending) pending" }
      out(text + paint.faint("  (\(seconds((ContinuousClock.now - began) / .seconds(1))))"))
    }
  }

  /// The test cannot even be cancelled.
  func runaway(_ test: TestCase) {
    out("\(paint.red("FAIL")) \(test.fullName)  (\(test.file):\(test.line))")
    out("     it does not end and cannot be cancelled: it is in a call that blocks, like os.execute or io.read")
    out(count(sums.withLock { $0 }, failed: 1))
  }

  /// The closing line. True when all is well.
  func finish(filter: String?) -> Bool {
    let all = sums.withLock { $0 }
    let ran = all.passed + all.failed + all.pending
    if style == .json {
      out(
        JSONText.object([
          ("passed", .int(all.passed)), ("failed", .int(all.failed)), ("pending", .int(all.pending)),
          ("leaky", .int(all.leaky)), ("seed", .int(Int(clamping: seed))),
        ]).text)
      return ran > 0 && all.failed == 0
    }
    if all.failed > 0 { out("Again with the same luck: --seed \(seed)") }
    if ran == 0 { out(filter.map { "no test has \"\($0)\" in its name" } ?? "no test was found") }
    out(count(all, failed: 0))
    return ran > 0 && all.failed == 0
  }

  private func count(_ all: Sums, failed: Int) -> String {
    var text = "\(all.passed) passed, \(all.failed + failed) failed"
    if all.pending > 0 { text += ", \(all.pending) pending" }
    if all.leaky > 0 { text += "; \(all.leaky) left something behind" }
    let took = (ContinuousClock.now - all.began) / .seconds(1)
    return text + paint.faint("  (\(seconds(took)); \(seconds(all.virtual)) on the tests' clocks)")
  }

  // MARK: One test

  private func ended(_ test: TestCase, _ given: TestResult) {
    var result = given
    if strict, !result.leaks.isEmpty, result.outcome == .passed { result.outcome = .failed }
    let newGroups = sums.withLock { sums -> [String] in
      sums.virtual += result.virtualSeconds
      if !result.leaks.isEmpty { sums.leaky += 1 }
      switch result.outcome {
      case .passed: (sums.passed, sums.ofFile.passed) = (sums.passed + 1, sums.ofFile.passed + 1)
      case .failed: (sums.failed, sums.ofFile.failed) = (sums.failed + 1, sums.ofFile.failed + 1)
      case .pending: (sums.pending, sums.ofFile.pending) = (sums.pending + 1, sums.ofFile.pending + 1)
      }
      let groups = Array(test.names.dropLast())
      let common = zip(groups, sums.groups).prefix { $0 == $1 }.count
      sums.groups = groups
      return groups.indices.dropFirst(common).map { String(repeating: "  ", count: $0 + 1) + groups[$0] }
    }
    switch style {
    case .json: return out(json(test, result))
    case .verbose:
      for line in newGroups { out(line) }
      let indent = String(repeating: "  ", count: test.names.count)
      out(
        "\(indent)\(word(result.outcome)) \(test.names.last ?? "")"
          + paint.faint("  (\(seconds(result.realSeconds)); \(seconds(result.virtualSeconds)) on its clock)"))
      details(result, indent.count + 5, withLog: true)
    case .short:
      guard result.outcome == .failed || !result.leaks.isEmpty else { return }
      let word = result.outcome == .failed ? paint.red("FAIL") : paint.yellow("LEAK")
      out("\(word) \(test.fullName)  \(paint.faint("(\(test.file):\(test.line))"))")
      details(result, 5, withLog: result.outcome == .failed)
    }
  }

  private func details(_ result: TestResult, _ indent: Int, withLog: Bool) {
    for problem in result.problems {
      out(indented(problem.message, indent))
      for line in problem.trace { out(indented("from " + line, indent)) }
    }
    for leak in result.leaks { out(indented("left behind: " + leak, indent)) }
    if withLog { for line in result.log { out(paint.faint(indented("log: " + line, indent))) } }
  }

  private func word(_ outcome: TestResult.Outcome) -> String {
    switch outcome {
    case .passed: paint.green("ok  ")
    case .failed: paint.red("FAIL")
    case .pending: paint.yellow("pending")
    }
  }

  private func json(_ test: TestCase, _ result: TestResult) -> String {
    JSONText.object([
      ("file", .string(test.file)), ("line", .int(test.line)), ("name", .string(test.fullName)),
      ("outcome", .string(result.outcome.rawValue)), ("milliseconds", .int(Int(result.virtualSeconds * 1000))),
      ("problems", .array(result.problems.map { .string(([$0.message] + $0.trace).joined(separator: "\n")) })),
      ("leaks", .array(result.leaks.map { .string($0) })),
    ]).text
  }

  private func indented(_ text: String, _ columns: Int) -> String {
    let space = String(repeating: " ", count: columns)
    return text.split(separator: "\n", omittingEmptySubsequences: false).map { space + $0 }.joined(separator: "\n")
  }

  private func seconds(_ value: Double) -> String {
    let milliseconds = Int((value * 1000).rounded())
    if milliseconds < 1000 { return "\(milliseconds) ms" }
    let tenths = (milliseconds + 50) / 100
    return "\(tenths / 10).\(tenths % 10) s"
  }

  private func out(_ text: String) { Console.shared.out(text + "\n") }
}

/// Colours, on a terminal only.
struct Paint: Sendable {
  private let isOn = Console.shared.outputIsTerminal && Console.shared.colours

  func red(_ text: String) -> String { painted(text, "31") }
  func green(_ text: String) -> String { painted(text, "32") }
  func yellow(_ text: String) -> String { painted(text, "33") }
  func bold(_ text: String) -> String { painted(text, "1") }
  func faint(_ text: String) -> String { painted(text, "2") }

  private func painted(_ text: String, _ code: String) -> String { isOn ? "\u{1b}[\(code)m\(text)\u{1b}[0m" : text }
}
