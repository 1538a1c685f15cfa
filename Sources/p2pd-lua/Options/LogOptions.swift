import ArgumentParser
import Logging
import P2PDScript

extension Logger.Level: @retroactive ExpressibleByArgument {
  public init?(argument: String) { self.init(rawValue: argument == "warn" ? "warning" : argument) }
}

/// How much is logged to standard error, and in which shape.
struct LogOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Least level that is logged.",
      discussion: "Default: info for run, notice for exec, warning for the rest (P2PD_LOG_LEVEL)", valueName: "level"))
  var logLevel: Logger.Level?

  @Option(
    help: ArgumentHelp(
      "Shape of the log lines on standard error.",
      discussion: "Default: text (P2PD_LOG_FORMAT)", valueName: "format"))
  var logFormat: LogFormat?

  @Flag(name: .shortAndLong, help: "Log errors only and leave out hints and progress.")
  var quiet = false

  func validate() throws {
    _ = try settings(defaultLevel: .info)
  }

  func settings(defaultLevel: Logger.Level, _ config: ConfigFile? = nil) throws -> (
    level: Logger.Level, format: LogFormat
  ) {
    let fromEnvironment = try Environment.value("P2PD_LOG_LEVEL", as: Logger.Level.self)
    let format = try logFormat ?? Environment.value("P2PD_LOG_FORMAT", as: LogFormat.self)
    let fromFile = config?.logLevel.flatMap(Logger.Level.init(rawValue:))
    return (
      logLevel ?? (quiet ? .error : fromEnvironment ?? fromFile ?? defaultLevel),
      format ?? config?.logFormat.flatMap(LogFormat.init(rawValue:)) ?? .text
    )
  }

  /// The logger of this run.
  /// - Parameters:
  ///   - defaultLevel: what is logged where nobody said.
  ///   - config: what says so where neither options nor the environment do.
  ///   - ring: gets every line too.
  func logger(
    _ label: String = "p2pd", defaultLevel: Logger.Level = .info, _ config: ConfigFile? = nil, ring: LogRing? = nil
  ) throws -> Logger {
    let (level, format) = try settings(defaultLevel: defaultLevel, config)
    let console = Console.shared
    return Logger(label: label) { label in
      ConsoleLog(
        label: label, logLevel: level, format: format, colours: format == .text && console.colours,
        withDate: !console.errorIsTerminal, ring: ring)
    }
  }
}
