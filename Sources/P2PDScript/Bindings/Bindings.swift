import Logging
import LuaVM
import P2PDNet
import P2PDNode

/// The kinds of objects scripts hold.
struct ScriptClasses {
  let pipe, subscription, tuple, error, node, daemon, interface, route, timer, handle, gate, word: LuaClassID

  init(_ vm: LuaVM) throws {
    var pipe = LuaClass(name: "p2pd.pipe", methods: PipeMethods.methods + PipeReceive.methods)
    pipe.getter = Self.getter(PipeFace.self) { try PipeMethods.field($0, $1) }
    pipe.toString = { object in (object as? PipeFace)?.description ?? "p2pd.pipe" }
    pipe.close = bound(PipeMethods.closeVariable)
    pipe.hasData = true
    self.pipe = try vm.defineClass(pipe)

    var tuple = LuaClass(name: "p2pd.client_tup", methods: [])
    tuple.getter = Self.tupleField
    tuple.length = { _ in 2 }
    tuple.toString = { object in (object as? TupleObject)?.description ?? "" }
    tuple.equals = { a, b in
      guard let a = a as? TupleObject, let b = b as? TupleObject else { return false }
      return a.host == b.host && a.port == b.port
    }
    self.tuple = try vm.defineClass(tuple)

    var error = LuaClass(name: "p2pd.error", methods: [])
    error.toString = { object in (object as? ErrorObject)?.message ?? "" }
    self.error = try vm.defineClass(error)

    var node = LuaClass(name: "p2pd.node", methods: NodeMethods.methods)
    node.getter = Self.getter(NodeFace.self) { NodeMethods.field($0, $1) }
    node.toString = { object in "p2pd.node: \((object as? NodeFace)?.node.id.prefix(12) ?? "")" }
    self.node = try vm.defineClass(node)

    daemon = try vm.defineClass(LuaClass(name: "p2pd.daemon", methods: DaemonMethods.methods))
    var interface = LuaClass(name: "p2pd.interface", methods: InterfaceObject.methods)
    interface.getter = Self.getter(InterfaceObject.self) { try $0.field($1) }
    interface.toString = { object in (object as? InterfaceObject)?.interface.name ?? "" }
    self.interface = try vm.defineClass(interface)

    var route = LuaClass(name: "p2pd.route", methods: RouteObject.methods)
    route.getter = Self.getter(RouteObject.self) { try $0.field($1) }
    route.toString = { object in (object as? RouteObject).map { $0.bound?.description ?? $0.route.description } ?? "" }
    self.route = try vm.defineClass(route)

    timer = try vm.defineClass(LuaClass(name: "p2pd.timer", methods: TimerObject.methods))
    subscription = try vm.defineClass(LuaClass(name: "p2pd.subscription", methods: []))
    handle = try vm.defineClass(LuaClass(name: "p2pd.handle", methods: []))
    gate = try vm.defineClass(LuaClass(name: "p2pd.gate", methods: []))
    var word = LuaClass(name: "p2pd.word", methods: [])
    word.toString = { object in (object as? WordObject)?.text ?? "" }
    self.word = try vm.defineClass(word)
  }
}

/// A value that is only itself, and prints as a word: `json.null`.
final class WordObject {
  let text: String
  init(_ text: String) { self.text = text }
}
