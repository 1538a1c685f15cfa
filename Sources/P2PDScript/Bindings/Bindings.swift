import LuaVM
import P2PDNet
import P2PDNode

/// The kinds of objects scripts hold.
struct ScriptClasses {
  /// Those whose objects the engine holds itself.
  let pipe, tuple: LuaClassID

  init(_ vm: LuaVM) throws {
    pipe = try vm.defineClass(
      LuaClass(
        name: "p2pd.pipe", type: PipeFace.self, methods: PipeMethods.methods + PipeReceive.methods,
        quick: ("send", PipeMethods.quickSend), getter: Self.fields(PipeFace.self) { try PipeMethods.field($0, $1) },
        toString: Self.string(PipeFace.self) { $0.description },
        close: bound(PipeMethods.closeVariable), hasData: true, plain: true))
    tuple = try vm.defineClass(
      LuaClass(
        name: "p2pd.client_tup", type: TupleObject.self, getter: bound(Self.tupleField), length: { _ in .one(.int(2)) },
        toString: Self.string(TupleObject.self) { $0.description }, equals: bound(Self.tuplesEqual), plain: true))
    _ = try vm.defineClass(
      LuaClass(
        name: "p2pd.error", type: ErrorObject.self, getter: Self.fields(ErrorObject.self) { $0.field($1) },
        toString: Self.string(ErrorObject.self) { $0.message }))
    _ = try vm.defineClass(
      LuaClass(
        name: "p2pd.node", type: NodeFace.self, methods: NodeMethods.methods,
        getter: Self.fields(NodeFace.self) { NodeMethods.field($0, $1) },
        toString: Self.string(NodeFace.self) { "p2pd.node: \($0.node.id)" }))
    _ = try vm.defineClass(LuaClass(name: "p2pd.daemon", type: DaemonObject.self, methods: DaemonMethods.methods))
    _ = try vm.defineClass(
      LuaClass(
        name: "p2pd.interface", type: InterfaceObject.self, methods: InterfaceObject.methods,
        getter: Self.fields(InterfaceObject.self) { try $0.field($1) },
        toString: Self.string(InterfaceObject.self) { $0.interface.name }))
    _ = try vm.defineClass(
      LuaClass(
        name: "p2pd.route", type: RouteObject.self, methods: RouteObject.methods,
        getter: Self.fields(RouteObject.self) { try $0.field($1) },
        toString: Self.string(RouteObject.self) { $0.bound?.description ?? $0.route.description }))
    _ = try vm.defineClass(LuaClass(name: "p2pd.stun_client", type: StunObject.self, methods: StunObject.methods))
    _ = try vm.defineClass(
      LuaClass(
        name: "p2pd.turn_client", type: TurnObject.self, methods: TurnObject.methods,
        close: bound(TurnObject.closeVariable)))
    _ = try vm.defineClass(LuaClass(name: "p2pd.timer", type: TimerObject.self, methods: TimerObject.methods))
    _ = try vm.defineClass(LuaClass(name: "p2pd.subscription", type: SubscriptionObject.self))
    _ = try vm.defineClass(LuaClass(name: "p2pd.handle", type: TaskHandle.self))
    _ = try vm.defineClass(LuaClass(name: "p2pd.gate", type: GateObject.self))
    _ = try vm.defineClass(
      LuaClass(
        name: "p2pd.word", type: WordObject.self, toString: Self.string(WordObject.self) { $0.text }, plain: true))
  }

  /// What errors call an object.
  static let names: [ObjectIdentifier: String] = [
    ObjectIdentifier(PipeFace.self): "p2pd.pipe", ObjectIdentifier(TupleObject.self): "p2pd.client_tup",
    ObjectIdentifier(ErrorObject.self): "p2pd.error", ObjectIdentifier(NodeFace.self): "p2pd.node",
    ObjectIdentifier(DaemonObject.self): "p2pd.daemon", ObjectIdentifier(InterfaceObject.self): "p2pd.interface",
    ObjectIdentifier(RouteObject.self): "p2pd.route", ObjectIdentifier(TimerObject.self): "p2pd.timer",
    ObjectIdentifier(SubscriptionObject.self): "p2pd.subscription",
    ObjectIdentifier(StunObject.self): "p2pd.stun_client", ObjectIdentifier(TurnObject.self): "p2pd.turn_client",
  ]

  /// Reads a field by its name; what is none is nil.
  private static func fields<T: AnyObject>(_ type: T.Type, _ read: @escaping (T, String) throws -> LuaReturn?)
    -> HostFunction
  {
    bound { call in
      guard let object = call.object(0, as: T.self), let name = call.string(1) else { return .one(.nil) }
      return try read(object, name) ?? .one(.nil)
    }
  }

  private static func string<T: AnyObject>(_ type: T.Type, _ text: @escaping (T) -> String) -> HostFunction {
    { call in .string(call.object(0, as: T.self).map(text) ?? "") }
  }

  /// `client_tup[1]`, `client_tup.ip`
  private static func tupleField(_ call: borrowing LuaCall) throws -> LuaReturn {
    guard let tuple = call.object(0, as: TupleObject.self) else { return .one(.nil) }
    if let index = call.int(1) {
      return index == 1 ? .string(tuple.host) : index == 2 ? .one(.int(Int64(tuple.port))) : .one(.nil)
    }
    switch call.string(1) {
    case "ip": return .string(tuple.host)
    case "port": return .one(.int(Int64(tuple.port)))
    default: return .one(.nil)
    }
  }

  private static func tuplesEqual(_ call: borrowing LuaCall) throws -> LuaReturn {
    guard let a = call.object(0, as: TupleObject.self), let b = call.object(1, as: TupleObject.self) else {
      return .one(.bool(false))
    }
    return .one(.bool(a.host == b.host && a.port == b.port))
  }
}

/// A value that is only itself, and prints as a word: `json.null`.
final class WordObject {
  let text: String
  init(_ text: String) { self.text = text }
}
