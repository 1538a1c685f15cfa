import P2PDScript

/// A script's failure as the command line tells it.
enum ScriptFailure {
  static func explained<T>(_ body: () async throws -> T) async throws -> T {
    do {
      return try await body()
    } catch let error as ScriptError {
      var words = error.description
      if !error.traceback.isEmpty, !words.contains(error.traceback) { words += "\n" + error.traceback }
      throw Failure(words, remedy: "Look closer: \(Environment.program) check \(Environment.shellWord(error.file))")
    }
  }
}
