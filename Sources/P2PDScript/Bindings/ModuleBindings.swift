import Logging
import LuaVM
import P2PDNet

/// The functions of the module, and what the prelude needs of the engine.
extension ScriptHost {
  func installBindings() throws {
    let functions: [(String, HostFunction)] =
      [
        ("pipe_open", bound { [unowned self] in try pipeOpen($0) }),
        ("daemon", bound { [unowned self] in try daemon($0) }),
        ("node", bound { [unowned self] in try startNode($0) }),
        ("after", bound { [unowned self] in try after($0) }),
        ("every", bound { [unowned self] in try every($0) }),
        ("sleep", bound { [unowned self] in try sleep($0) }),
        ("now", bound { [unowned self] in try now($0) }),
        ("list_interfaces", bound { [unowned self] in try listInterfaces($0) }),
        ("interface", bound { [unowned self] in try interface($0) }),
        ("resolve", bound { [unowned self] in try resolve($0) }),
        ("stun_client", bound { [unowned self] in try stunClient($0) }),
        ("turn_client", bound { [unowned self] in try turnClient($0) }),
        ("ntp", bound { [unowned self] in try ntp($0) }),
        ("names_lookup", bound { [unowned self] in try lookUpName($0) }),
        ("names_delete", bound { [unowned self] in try deleteName($0) }),
        ("error", bound { [unowned self] in try makeError($0) }),
        ("log", bound { [unowned self] in try log($0) }),
        ("await_output", bound { [unowned self] in awaitOutput($0) }),
        ("word", bound { .object(WordObject(try $0.string(0, 1, "word"))) }),
        ("reload", bound { [unowned self] in try reload($0) }),
        ("watch", bound { [unowned self] in try watch($0) }),
        ("pipes", bound { [unowned self] in try pipes($0) }),
        ("type_name", bound { .string($0.kindName(0)) }),
        ("callbacks", bound { [unowned self] in try callbacks($0) }),
        ("remove_callback", bound { [unowned self] in try removeCallback($0) }),
      ] + taskFunctions
    try vm.defineModule("p2pd", functions: [], hidden: functions, prelude: Prelude.text)
    vm.onPrint = { [unowned self] tag, line in printed(line, tag: tag) }
    vm.onExit = { [unowned self] code in exited(code) }
    vm.readModule = { [unowned self] tag, path in try readModule(path, for: tag) }
  }

  /// `p2pd.error(code, message)`
  private func makeError(_ call: borrowing LuaCall) throws -> LuaReturn {
    let error = ErrorObject(code: try call.string(0, 1, "error"), message: try call.string(1, 2, "error"))
    return .object(error)
  }

  private func log(_ call: borrowing LuaCall) throws -> LuaReturn {
    let generation = try owner(call)
    let text = try call.string(2, 2, "log")
    switch call.string(1) {
    case "debug": generation.logger.debug("\(text)")
    case "warn": generation.logger.warning("\(text)")
    case "error": generation.logger.error("\(text)")
    default: generation.logger.info("\(text)")
    }
    return .none
  }

  /// What `require`, `loadfile` and `dofile` read: a file of the script's, so a change in it is a change of the script.
  private func readModule(_ path: String, for tag: String) throws -> [UInt8]? {
    guard let generation = Int64(tag).flatMap({ generations[$0] }) else { return try ScriptFiles.readIfThere(path) }
    return try generation.sources.read(path)
  }
}
