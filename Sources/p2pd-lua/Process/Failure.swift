import ArgumentParser
import Glibc

/// A failure told to the user: what happened, and what can be done about it.
struct Failure: Error, CustomStringConvertible {
  let message: String
  let remedy: String?

  init(_ message: String, remedy: String? = nil) {
    self.message = message
    self.remedy = remedy
  }

  /// A system call's failure, read from errno.
  init(errno what: String, remedy: String? = nil) {
    self.init("\(what): \(String(cString: strerror(errno)))", remedy: remedy)
  }

  var description: String { remedy.map { "\(message)\n  \($0)" } ?? message }
}

/// The exit statuses, as `--help` lists them.
enum Exit {
  static let failed = ExitCode(1)
  static let usage = ExitCode(2)
}
