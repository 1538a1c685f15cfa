extension TestPrelude {
  /// The laboratory: nodes on simulated hosts, and the network between them.
  static let lab = #"""
    local type, error, tostring, pairs, ipairs, select = type, error, tostring, pairs, ipairs, select

    local lab = {}
    local callbacks = { "msg_cb", "up_cb", "path_cb", "end_cb" }

    local function is_handler(t)
      return type(t) == "table" and (t.msg_cb or t.up_cb or t.end_cb or t.start) ~= nil
    end

    local function raise(err) error(tostring(err), 3) end

    function lab.node(what, options)
      if type(what) == "string" then
        local node, err = host.lab_script(what, options)
        return node or raise(err)
      end
      if what == nil or type(what) == "table" and options == nil and not is_handler(what) then
        local node, err = host.lab_node(what)
        return node or raise(err)
      end
      if not is_handler(what) then
        error("bad argument #1 to 'node' (a handler's path, its table or options expected, got " .. type(what) .. ")", 2)
      end
      local node, err = host.lab_node(options)
      if not node then raise(err) end
      local given = {}
      for _, name in ipairs(callbacks) do given[name] = what[name] end
      local name = options and options.protocol or what.protocol
      if name and name ~= "" then node:host(name, given) end
      node:host("", given)
      if what.start then what.start() end
      return node
    end

    function lab.dial(node, options)
      local client, err = host.lab_client()
      if not client then raise(err) end
      local pipe, why = client:connect(node:address(), options)
      return pipe or raise(why)
    end

    -- (a, b, value, extra), or (value, extra) for all links.
    local function link(what)
      return function(a, b, value, extra)
        if type(a) == "number" then return host.lab_link(what, nil, nil, a, b) end
        host.lab_link(what, a, b, value, extra)
      end
    end
    lab.latency, lab.loss, lab.bandwidth = link "latency", link "loss", link "bandwidth"
    function lab.partition(a, b) host.lab_link("cut", a, b, 1) end
    function lab.heal(a, b) host.lab_link("cut", a, b, 0) end
    function lab.reset(a, b) host.lab_reset(a, b) end
    function lab.vanish(node) host.lab_vanish(node) end
    lab.stop = host.lab_stop

    lab.now, lab.sleep, lab.write, lab.read = host.lab_now, host.lab_sleep, host.lab_write, host.lab_read
    lab.errors, lab.log, lab.state, lab.reload = host.lab_errors, host.lab_log, host.lab_state, host.lab_reload
    lab.pipes = host.lab_pipes

    function lab.wait_until(what, condition, seconds)
      local deadline = lab.now() + (seconds or 5)
      while not condition() do
        if lab.now() >= deadline then error("waited in vain until " .. what, 2) end
        lab.sleep(0.005)
      end
    end

    for name, f in pairs(lab) do module[name] = f end

    -- Given to the environment of each test file, with the words as globals.
    module[1] = function(table, env, seed)
      for i = 1, 7 do table[i] = nil end
      for name, f in pairs(engine.words) do env[name] = f end
      table.seed = seed
      math.randomseed(seed)
    end
    """#
}
