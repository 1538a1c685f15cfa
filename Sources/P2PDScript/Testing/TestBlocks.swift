extension TestPrelude {
  /// busted's words that describe tests. Groups may be nested.
  static let blocks = #"""
    local error, type, pcall, setmetatable = error, type, pcall, setmetatable
    local function group(name, parent)
      return { name = name, parent = parent, children = {}, setup = {}, teardown = {}, before = {}, after = {} }
    end

    local root = group("", nil)
    engine.root = root
    local here = root          -- the group that is being described
    engine.running = nil       -- the test that runs: { finally = {...} }

    -- A test that ends itself as not written yet.
    local Pending = { __name = "pending" }
    engine.Pending = Pending

    local function need_name(name, word)
      if type(name) ~= "string" then error(word .. " needs a name (a string)", 3) end
      if engine.running then error(word .. " stands outside of tests", 3) end
    end

    -- The line of the script's that is being run.
    local function line_of_caller()
      for line in host.traceback("", 2):gmatch("[^\n]+") do
        local file, number = line:match("^%s*(.-):(%d+): in ")
        if file and file:sub(1, 1) ~= "[" then return math.tointeger(tonumber(number)) end
      end
      return 0
    end

    local function describe(name, body)
      need_name(name, "describe")
      local inner = group(name, here)
      here.children[#here.children + 1] = inner
      here = inner
      body()
      here = inner.parent
    end

    local function it(name, body)
      need_name(name, "it")
      here.children[#here.children + 1] = { name = name, body = body, parent = here, line = line_of_caller() }
    end

    local function pending(name, _)
      if engine.running then error(setmetatable({ reason = name }, Pending), 0) end
      need_name(name, "pending")
      here.children[#here.children + 1] = { name = name, parent = here, line = line_of_caller() }
    end

    local function collector(field, word)
      return function(f)
        if type(f) ~= "function" then error(word .. " needs a function", 2) end
        if engine.running then error(word .. " stands outside of tests", 2) end
        local list = here[field]
        list[#list + 1] = f
      end
    end

    local function finally(f)
      if not engine.running then error("finally stands inside a test", 2) end
      local list = engine.running.finally
      list[#list + 1] = f
    end

    local setup, teardown = collector("setup", "setup"), collector("teardown", "teardown")
    engine.words = {
      describe = describe, context = describe, insulate = describe, expose = describe,
      it = it, spec = it, test = it, pending = pending, finally = finally,
      setup = setup, lazy_setup = setup, strict_setup = setup,
      teardown = teardown, lazy_teardown = teardown, strict_teardown = teardown,
      before_each = collector("before", "before_each"), after_each = collector("after", "after_each"),
      assert = engine.assert,
    }

    function engine.groups_of(case)
      local list, up = {}, case.parent
      while up do
        table.insert(list, 1, up)
        up = up.parent
      end
      return list
    end
    """#

  /// What the engine calls to run what was described: four steps for each test, each a task of its own, so that a test
  /// that was ended by force does not take its cleaning up with it.
  static let running = #"""
    local type, tostring, xpcall, getmetatable, ipairs, pairs = type, tostring, xpcall, getmetatable, ipairs, pairs
    local groups_of, Pending = engine.groups_of, engine.Pending

    local cases = {}

    -- The script's lines on the way to an error; those of the engine are left out, and the one the message names already.
    local function script_lines(trace, message)
      local lines, named = {}, message:match("^([^\n]-:%d+):")
      for line in trace:gmatch("[^\n]+") do
        line = line:match("^%s*(.*)$")
        local place = line:match("^([^%[].-:%d+): in ")
        if place and not (#lines == 0 and place == named) then lines[#lines + 1] = line end
      end
      return lines
    end

    local function problem(err)
      if getmetatable(err) == Pending then return { pending = true, message = tostring(err.reason or "") } end
      local message = type(err) == "string" and err or engine.is_plain(err) and engine.show(err) or tostring(err)
      return { message = message, trace = script_lines(host.traceback("", 2), message), cancelled = host.is_cancelled(err) }
    end

    -- Calls each of a list; answers with what went wrong.
    local function attempt(list, f)
      local ok, what = xpcall(f, problem)
      if not ok then list[#list + 1] = what end
      return ok
    end

    -- Runs the file and gives its tests as plain data.
    module[2] = function(chunk)
      chunk()
      local list = {}
      local function walk(group, names)
        for _, item in ipairs(group.children) do
          local path = table.move(names, 1, #names, 1, {})
          path[#path + 1] = item.name
          if item.children then
            walk(item, path)
          else
            cases[#cases + 1] = item
            list[#list + 1] = { names = path, line = item.line, pending = item.body == nil }
          end
        end
      end
      walk(engine.root, {})
      return list
    end

    -- Which of them will run: a group is torn down after its last one.
    module[3] = function(indices)
      for _, index in ipairs(indices) do
        for _, group in ipairs(groups_of(cases[index])) do group.last = index end
      end
    end

    -- Before the first test of a group: its setup.
    module[4] = function(index)
      local problems = {}
      for _, group in ipairs(groups_of(cases[index])) do
        if not group.is_set_up then
          group.is_set_up = true
          for _, f in ipairs(group.setup) do attempt(problems, f) end
          group.broken = problems[1]
        elseif group.broken then
          problems[1] = group.broken
        end
      end
      return problems
    end

    module[5] = function(index)
      local case, problems = cases[index], {}
      engine.running = { finally = {} }
      attempt(problems, function()
        for _, group in ipairs(groups_of(case)) do
          for _, f in ipairs(group.before) do f() end
        end
        case.body()
      end)
      return problems
    end

    module[6] = function(index)
      local problems, groups = {}, groups_of(cases[index])
      local finally = engine.running and engine.running.finally or {}
      for i = #finally, 1, -1 do attempt(problems, finally[i]) end
      for i = #groups, 1, -1 do
        for _, f in ipairs(groups[i].after) do attempt(problems, f) end
      end
      engine.running = nil
      return problems
    end

    module[7] = function(index)
      local problems, groups = {}, groups_of(cases[index])
      for i = #groups, 1, -1 do
        if groups[i].last == index then
          for _, f in ipairs(groups[i].teardown) do attempt(problems, f) end
        end
      end
      return problems
    end
    """#
}
