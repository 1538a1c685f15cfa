extension Prelude {
  /// Methods of engine objects that are best said in Lua.
  static let pipes = #"""
    local pipe_methods = host.class_methods("p2pd.pipe")
    local recv = pipe_methods.recv

    function pipe_methods.messages(pipe, sub)
      return function() return recv(pipe, sub) end
    end

    -- Only Lua can tell whether a function is one that was added before.
    local removable = {
      ["p2pd.pipe"] = { "msg", "up", "path", "end" }, ["p2pd.node"] = { "msg", "up", "path", "end" },
      ["p2pd.daemon"] = { "msg" },
    }
    for class, kinds in pairs(removable) do
      local methods = host.class_methods(class)
      for _, kind in ipairs(kinds) do
        local name = "del_" .. kind .. "_cb"
        methods[name] = function(object, f)
          local list = host.callbacks(object, kind)
          if type(f) ~= "function" then engine.bad_argument(1, name, "function", f) end
          for i = 1, #list do
            if list[i] == f then return host.remove_callback(object, kind, i) end
          end
        end
      end
    end
    """#
}
