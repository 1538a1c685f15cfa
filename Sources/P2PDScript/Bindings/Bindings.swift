import LuaVM
import P2PDNet
import P2PDNode

/// The kinds of objects scripts hold.
struct ScriptClasses {
  let pipe, subscription, tuple, error, node, daemon, interface, route, timer, handle, gate, word: LuaClassID

  init(_ vm: LuaVM) throws {
    pipe = try vm.defineClass(
      LuaClass(
        name: "p2pd.pipe", methods: PipeMethods.methods + PipeReceive.methods,
        getter: Self.fields(PipeFace.self) { try PipeMethods.field($0, $1) }, toString: Self.text(PipeFace.self) { $0.description },
        close: bound(PipeMethods.closeVariable), hasData: true))
    tuple = try vm.defineClass(
      LuaClass(
        name: "p2pd.client_tup", methods: [], getter: bound(Self.tupleField), length: { _ in .one(.int(2)) },
        toString: Self.text(TupleObject.self) { $0.description }, equals: bound(Self.tuplesEqual)))
    error = try vm.defineClass(
      LuaClass(
        name: "p2pd.error", methods: [], getter: Self.fields(ErrorObject.self) { try $0.field($1) },
        toString: Self.text(ErrorObject.self) { $0.message }))
    node = try vm.defineClass(
      LuaClass(
        name: "p2pd.node", methods: NodeMethods.methods, getter: Self.fields(NodeFace.self) { NodeMethods.field($0, $1) },
        toString: Self.text(NodeFace.self) { "p2pd.node: \($0.node.id)" }))
    daemon = try vm.defineClass(LuaClass(name: "p2pd.daemon", methods: DaemonMethods.methods))
    interface = try vm.defineClass(
      LuaClass(
        name: "p2pd.interface", methods: InterfaceObject.methods, getter: Self.fields(InterfaceObject.self) { try $0.field($1) },
        toString: Self.text(InterfaceObject.self) { $0.interface.name }))
    route = try vm.defineClass(
      LuaClass(
        name: "p2pd.route", methods: RouteObject.methods, getter: Self.fields(RouteObject.self) { try $0.field($1) },
        toString: Self.text(RouteObject.self) { $0.bound?.description ?? $0.route.description }))
    timer = try vm.defineClass(LuaClass(name: "p2pd.timer", methods: TimerObject.methods))
    subscription = try vm.defineClass(LuaClass(name: "p2pd.subscription", methods: []))
    handle = try vm.defineClass(LuaClass(name: "p2pd.handle", methods: []))
    gate = try vm.defineClass(LuaClass(name: "p2pd.gate", methods: []))
    word = try vm.defineClass(LuaClass(name: "p2pd.word", methods: [], toString: Self.text(WordObject.self) { $0.text }))
  }

  /// Reads a field by its name; what is none is nil.
  private static func fields<T: AnyObject>(_ type: T.Type, _ read: @escaping (T, String) throws -> LuaReturn?) -> HostFunction {
    bound { call in
      guard let object = call.object(0, as: T.self), let name = call.string(1) else { return .one(.nil) }
      return try read(object, name) ?? .one(.nil)
    }
  }

  private static func text<T: AnyObject>(_ type: T.Type, _ text: @escaping (T) -> String) -> HostFunction {
    { call in .text(call.object(0, as: T.self).map(text) ?? "") }
  }

  /// `client_tup[1]`, `client_tup.ip`
  private static func tupleField(_ call: borrowing LuaCall) throws -> LuaReturn {
    guard let tuple = call.object(0, as: TupleObject.self) else { return .one(.nil) }
    if let index = call.int(1) { return index == 1 ? .text(tuple.host) : index == 2 ? .one(.int(Int64(tuple.port))) : .one(.nil) }
    switch call.string(1) {
    case "ip": return .text(tuple.host)
    case "port": return .one(.int(Int64(tuple.port)))
    default: return .one(.nil)
    }
  }

  private static func tuplesEqual(_ call: borrowing LuaCall) throws -> LuaReturn {
    guard let a = call.object(0, as: TupleObject.self), let b = call.object(1, as: TupleObject.self) else { return .one(.bool(false)) }
    return .one(.bool(a.host == b.host && a.port == b.port))
  }
}

/// A value that is only itself, and prints as a word: `json.null`.
final class WordObject {
  let text: String
  init(_ text: String) { self.text = text }
}
