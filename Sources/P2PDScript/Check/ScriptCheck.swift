import Logging
import LuaVM
import NIOCore

/// `p2pd-lua check`: is a script sound, as far as can be told without the network? It is compiled; a handler's top
/// level is run and what it returns is checked; names of the API that do not exist are found by reading its words.
public enum ScriptCheck {
  /// What kind of script it is.
  public enum Kind: Sendable, Equatable {
    /// A handler for `p2pd-lua run`, and the name of its protocol.
    case handler(String)
    /// A script for `p2pd-lua exec`: it is compiled, but not run.
    case script
    /// Tests for `p2pd-lua test`, and how many.
    case tests(Int)
  }

  public struct Warning: Sendable, Equatable, CustomStringConvertible {
    public let file: String
    public let line: Int
    public let text: String
    public var description: String { "\(file):\(line): \(text)" }
  }

  public struct Report: Sendable {
    public let kind: Kind
    /// Why it cannot run; nil for a sound script.
    public let error: ScriptError?
    public let warnings: [Warning]
  }

  /// Checks one file. Nothing is opened, and nothing of the script stays loaded.
  public static func check(_ path: String, options: ScriptOptions, on loop: any EventLoop) async -> Report {
    do {
      let source = try ScriptFiles.read(path)
      let warnings = NameScan.findings(in: source).map { Warning(file: path, line: $0.line, text: $0.text) }
      if TestFile.isTest(path) {
        return Report(
          kind: .tests(try await TestFile.count(path, options: options)), error: nil, warnings: warnings)
      }
      let looksLikeHandler = NameScan.returnsTable(source)
      let (kind, error) = try await load(path, options, looksLikeHandler, on: loop)
      return Report(kind: kind, error: error, warnings: warnings)
    } catch {
      let shown = error as? ScriptError ?? ScriptError(file: path, message: "\(path): \(error)")
      return Report(kind: .script, error: shown, warnings: [])
    }
  }

  private static func load(
    _ path: String, _ options: ScriptOptions, _ looksLikeHandler: Bool, on loop: any EventLoop
  ) async throws -> (Kind, ScriptError?) {
    let quiet = Logger(label: "check", factory: { _ in SwiftLogNoOpLogHandler() })
    let host = try await ScriptHost.make(on: loop, options: options, logger: quiet)
    await host.onLoop { $0.isChecking = !looksLikeHandler }
    do {
      let name = try await host.loadProtocol(path).name
      await host.onLoop { $0.close() }
      return (.handler(name), nil)
    } catch {
      await host.onLoop { $0.close() }
      // Its top level wants the network: a script that does something and ends.
      if error.message.contains(ScriptHost.needsNetwork) { return (.script, nil) }
      return (.handler(ScriptFiles.baseName(path)), error)
    }
  }
}
