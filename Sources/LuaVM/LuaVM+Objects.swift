internal import CLua

public typealias LuaClassID = Int32

/// The quick way of a method that is called all the time: `object:method(bytes)` or `object:method(bytes, another)`. C calls
/// it with the object, the bytes and the other object or nil, all Lua's and valid during the call; objects are those given
/// to ``LuaVM/makeObject(_:_:)``, the first one of the method's class. True: done, and the method returns true. False: the
/// host function is called at once, with the same arguments.
public typealias LuaQuickMethod =
  @convention(c) (
    UnsafeMutableRawPointer?, UnsafePointer<CChar>?, Int, UnsafeMutableRawPointer?
  ) -> Bool

/// How the host's objects of one kind look to Lua. Argument 0 of every function is the object.
public struct LuaClass {
  /// Shown in error messages, e.g. "p2pd.pipe".
  public var name: String
  public var methods: [(String, HostFunction)]
  /// The one of the methods that has a quick way.
  public var quick: (method: String, body: LuaQuickMethod)?
  /// `(object, key)`, asked for keys that are no method: named fields, and integers such as `client_tup[1]`.
  public var getter: HostFunction?
  /// `(object, key, value)`; without it setting a field raises.
  public var setter: HostFunction?
  public var length: HostFunction?
  public var toString: HostFunction?
  /// `(object, error)` when a `<close>` variable goes out of scope.
  public var close: HostFunction?
  public var call: HostFunction?
  /// `(a, b)`, for two different objects.
  public var equals: HostFunction?
  /// `object.data` is a slot of the Lua object, for any Lua value.
  public var hasData: Bool
  /// One Lua object per Swift object, as long as Lua holds it.
  public var identity: Bool
  /// May be part of plain data: `host.copy_state` keeps such an object as it is.
  public var plain: Bool
  /// Objects of exactly this type get this class as `LuaValue.object`.
  public var type: AnyClass?

  public init(
    name: String, type: AnyClass? = nil, methods: [(String, HostFunction)] = [],
    quick: (method: String, body: LuaQuickMethod)? = nil, getter: HostFunction? = nil, setter: HostFunction? = nil,
    length: HostFunction? = nil, toString: HostFunction? = nil, close: HostFunction? = nil, call: HostFunction? = nil,
    equals: HostFunction? = nil, hasData: Bool = false, identity: Bool = true, plain: Bool = false
  ) {
    self.name = name
    self.type = type
    self.methods = methods
    self.quick = quick
    self.getter = getter
    self.setter = setter
    self.length = length
    self.toString = toString
    self.close = close
    self.call = call
    self.equals = equals
    self.hasData = hasData
    self.identity = identity
    self.plain = plain
  }
}

extension LuaVM {
  /// `require(name)` gives each environment its own copy of this table. `prelude` is trusted Lua text, run once with `(module, host)`:
  /// it may add functions to the module. `host` has the `hidden` functions and CLua's: `spawn(f, ...)`, `spawn_child`, `join(task)`
  /// -> true, results... | false, error, `join_any(task, ...)` -> index, `cancel(task, reason, code)`, `task_id`, `task_ended`, `self()`,
  /// `can_wait()`, `cancelled(reason)`, `is_cancelled(e)`, `class_methods(name)`, `traceback`, `copy_state(value, name)` -> copy |
  /// nil, path, what (`"state.rooms[3].cb", "is a function"`), `check_state(value, name)` -> true | nil, path, what.
  public func defineModule(
    _ name: String, functions: [(String, HostFunction)], hidden: [(String, HostFunction)] = [], prelude: String? = nil
  ) throws(LuaFailure) {
    let names = CNames()
    let visible = named(functions, names), unseen = named(hidden, names)
    var prelude = prelude
    let kind = withExtendedLifetime(names) {
      let name = names.pointer(name)
      guard var text = prelude.take() else {
        return clua_define_module(raw, name, visible, visible.count, unseen, unseen.count, nil, 0)
      }
      return text.withUTF8 { p in
        p.withMemoryRebound(to: CChar.self) {
          clua_define_module(raw, name, visible, visible.count, unseen, unseen.count, $0.baseAddress, $0.count)
        }
      }
    }
    if kind != CLUA_OK { throw lastFailure(kind) }
  }

  /// A class of host objects. Preludes add methods in Lua through `host.class_methods(name)`.
  public func defineClass(_ c: LuaClass) throws(LuaFailure) -> LuaClassID {
    let names = CNames()
    let methods = named(c.methods, names)
    var id: LuaClassID = 0
    let kind = withExtendedLifetime(names) {
      methods.withUnsafeBufferPointer { methods in
        var description = clua_class(
          name: names.pointer(c.name), methods: methods.baseAddress, method_count: methods.count,
          quick_method: c.quick.map { names.pointer($0.method) }, quick: c.quick?.body, getter: bridge.add(c.getter),
          setter: bridge.add(c.setter), length: bridge.add(c.length), to_string: bridge.add(c.toString),
          close: bridge.add(c.close),
          call: bridge.add(c.call), equals: bridge.add(c.equals), has_data: c.hasData, identity: c.identity,
          plain: c.plain)
        return clua_define_class(raw, &description, &id)
      }
    }
    if kind != CLUA_OK { throw lastFailure(kind) }
    if let type = c.type { bridge.classes[ObjectIdentifier(type)] = id }
    return id
  }

  /// The Lua object of `o`, which it retains until collected: a new one, or with `identity` the one that exists.
  public func makeObject(_ c: LuaClassID, _ o: AnyObject) throws(LuaFailure) -> LuaRef {
    let key = ObjectIdentifier(type(of: o))
    if bridge.classes[key] == nil { bridge.classes[key] = c }
    var id: Int32 = 0
    let kind = clua_make_object(raw, c, Unmanaged.passUnretained(o).toOpaque(), &id)
    if kind != CLUA_OK { throw lastFailure(kind) }
    return LuaRef(id: id)
  }

  private func named(_ functions: [(String, HostFunction)], _ names: CNames) -> [clua_named_function] {
    functions.map { clua_named_function(name: names.pointer($0.0), function: bridge.add($0.1)) }
  }
}
