extension Prelude {
  /// Tasks, timeouts and queues, written in Lua over four host functions, so that a script's values never leave the VM:
  /// `host.task()` makes a handle, `host.run(handle, f)` starts it, `host.join(handle, seconds)` and
  /// `host.join_all(handles...)` wait, and a gate (`host.gate()`) parks tasks until somebody wakes them.
  static let tasks = #"""
    local pack, unpack, type, setmetatable, error, select = table.pack, table.unpack, type, setmetatable, error, select

    local Task = { __name = "p2pd.task", __metatable = false }
    local task_methods = {}
    Task.__index = task_methods
    function Task:__tostring() return "p2pd.task: " .. host.task_state(self[1]) end
    engine.task_methods = task_methods

    local kinds = engine.kinds
    local function is_task(value) return kinds[value] == "p2pd.task" end

    -- quiet: somebody waits for it, so a failure is theirs and not the log's
    local function start(generation, quiet, f, ...)
      local args = pack(...)
      local task = setmetatable({ host.task(generation, quiet) }, Task)
      kinds[task] = "p2pd.task"
      host.run(task[1], function()
        -- The error value itself, for who joins; the engine keeps the traceback.
        local guard <close> = setmetatable({}, { __close = function(_, err) task.error = err end })
        task.results = pack(f(unpack(args, 1, args.n)))
      end)
      return task
    end

    local function raise(task, message)
      if task.error ~= nil then error(task.error, 0) end
      error(message, 0)
    end

    function engine.spawn(generation, f, ...)
      if not engine.callable(f) then engine.bad_argument(1, "spawn", "function", f) end
      return start(generation, false, f, ...)
    end

    local function join(task, timeout)
      local ok, err = host.join(task[1], timeout)
      if ok == false then raise(task, err) end
      if not ok then return nil, err end
      local results = task.results
      return unpack(results, 1, results.n)
    end

    function engine.join(task, timeout)
      if not is_task(task) then engine.bad_argument(1, "join", "p2pd.task", task) end
      return join(task, timeout)
    end

    function task_methods.join(task, timeout)
      if not is_task(task) then engine.bad_argument(1, "join", "p2pd.task", task) end
      return join(task, timeout)
    end
    function task_methods.cancel(task, reason)
      if not is_task(task) then engine.bad_argument(1, "cancel", "p2pd.task", task) end
      host.cancel(task[1], reason)
    end
    function task_methods.done(task)
      if not is_task(task) then engine.bad_argument(1, "done", "p2pd.task", task) end
      return host.task_state(task[1]) ~= "running"
    end

    -- Whatever way the waiting ends, the children end with it.
    local Children = {
      __close = function(children)
        for i = 1, #children do host.cancel(children[i][1], children.reason) end
      end,
    }

    function engine.with_timeout(generation, seconds, f, ...)
      if type(seconds) ~= "number" then engine.bad_argument(1, "with_timeout", "number", seconds) end
      if not engine.callable(f) then engine.bad_argument(2, "with_timeout", "function", f) end
      local child = start(generation, true, f, ...)
      local guard <close> = setmetatable({ child, reason = "timeout" }, Children)
      local ok, err = host.join(child[1], seconds)
      if ok == false then raise(child, err) end
      if not ok then
        host.cancel(child[1], "timeout")
        host.wait_end(child[1])
        -- It may have ended well at the last moment.
        if child.results then return unpack(child.results, 1, child.results.n) end
        return nil, host.error("timeout", ("with_timeout: not done in %g s"):format(seconds))
      end
      return unpack(child.results, 1, child.results.n)
    end

    function engine.gather(generation, ...)
      local count = select("#", ...)
      local tasks = { reason = "another task of gather failed" }
      for i = 1, count do
        local f = select(i, ...)
        if not is_task(f) and not engine.callable(f) then engine.bad_argument(i, "gather", "function", f) end
      end
      local guard <close> = setmetatable(tasks, Children)
      local handles = {}
      for i = 1, count do
        local f = select(i, ...)
        tasks[i] = is_task(f) and f or start(generation, true, f)
        handles[i] = tasks[i][1]
      end
      local failed, message = host.join_all(unpack(handles, 1, count))
      if failed then
        for i = 1, count do host.cancel(handles[i], tasks.reason) end
        for i = 1, count do host.wait_end(handles[i]) end
        raise(tasks[failed], message)
      end
      local results = {}
      for i = 1, count do results[i] = tasks[i].results[1] end
      return unpack(results, 1, count)
    end

    local Queue = { __name = "p2pd.queue", __metatable = false }
    local queue_methods = {}
    Queue.__index = queue_methods
    function Queue:__len() return self.last - self.first + 1 end
    function Queue:__tostring() return ("p2pd.queue: %d waiting"):format(#self) end
    engine.queue_methods = queue_methods

    local function check_queue(queue, name)
      if kinds[queue] ~= "p2pd.queue" then engine.bad_argument(1, name, "p2pd.queue", queue) end
    end

    function engine.queue(size)
      if size ~= nil and (math.type(size) ~= "integer" or size < 1) then engine.bad_argument(1, "queue", "positive integer", size) end
      local queue = { first = 1, last = 0, size = size or math.huge, space = host.gate(), items = host.gate() }
      kinds[queue] = "p2pd.queue"
      return setmetatable(queue, Queue)
    end

    local function closed() return nil, host.error("closed", "the queue is closed") end

    function queue_methods.put(queue, value, timeout)
      check_queue(queue, "put")
      if value == nil then engine.bad_argument(1, "put", "value", value) end
      local deadline = timeout and host.now() + timeout
      while not queue.closed and #queue >= queue.size do
        if not host.gate_wait(queue.space, deadline and deadline - host.now()) then
          return nil, host.error("timeout", "the queue is full")
        end
      end
      if queue.closed then return closed() end
      queue.last = queue.last + 1
      queue[queue.last] = value
      host.gate_wake(queue.items, 1)
      return true
    end

    function queue_methods.get(queue, timeout)
      check_queue(queue, "get")
      local deadline = timeout and host.now() + timeout
      while #queue == 0 do
        if queue.closed then return closed() end
        if not host.gate_wait(queue.items, deadline and deadline - host.now()) then
          return nil, host.error("timeout", "the queue is empty")
        end
      end
      local value = queue[queue.first]
      queue[queue.first] = nil
      queue.first = queue.first + 1
      if queue.first > queue.last then queue.first, queue.last = 1, 0 end
      host.gate_wake(queue.space, 1)
      return value
    end

    function queue_methods.close(queue)
      check_queue(queue, "close")
      queue.closed = true
      host.gate_wake(queue.items, math.huge)
      host.gate_wake(queue.space, math.huge)
    end
    """#
}
