/// One test of a file.
public struct TestCase: Sendable, Codable {
  public let file: String
  /// The groups it is in and its own name.
  public let names: [String]
  public let line: Int
  /// It has no body yet.
  public let isPending: Bool

  public var fullName: String { names.joined(separator: " ") }
}

/// How a test ended.
public struct TestResult: Sendable, Codable {
  public enum Outcome: String, Sendable, Codable { case passed, failed, pending }

  public var outcome = Outcome.passed
  public var problems: [TestProblem] = []
  /// What was open or running when the test was over: a line each.
  public var leaks: [String] = []
  /// What its nodes and scripts logged, and with `traces` what happened in the network; with the time since its start.
  public var log: [String] = []
  /// Seconds on the test's own clock.
  public var virtualSeconds = 0.0
  public var realSeconds = 0.0

  public init() {}
}

/// One thing that went wrong.
public struct TestProblem: Sendable, Codable {
  /// Begins with `file:line:` where the fault has a line.
  public var message: String
  /// The script's lines on the way to it, innermost first.
  public var trace: [String]
}

/// What is told while a file's tests run, in order.
public enum TestEvent: Sendable {
  case began(TestCase)
  /// The test file printed a line.
  case printed(String)
  case ended(TestCase, TestResult)
}

/// What a file's tests are run with.
public struct TestOptions: Sendable {
  /// Limits, module folders and sandbox of the scripts.
  public var script = ScriptOptions()
  /// The tests whose full name has this text in it; where none has, those that this Lua pattern matches.
  public var filter: String?
  /// Decides the network's luck and `math.random`.
  public var seed: UInt64 = 0
  /// What a test may take on its own clock, in seconds, and on the wall's.
  public var timeout = 3600.0
  public var realTimeout = 60.0
  /// Every handler of a file is reloaded, unchanged, before each message it gets.
  public var reloadsEveryMessage = false
  /// The log tells what happens in the network.
  public var traces = false
  /// Called, on a thread of its own, when a test cannot even be cancelled: the process must be ended.
  public var onRunaway: (@Sendable (TestCase) -> Void)?

  public init() {}
}
