// Waits in every place a script can put them, cancellation, tasks started by tasks, failures and their tracebacks.
#include "harness.h"
#include <string.h>

#define RUN(code) harness_run(h, code, "go")

static void nested_coroutines(harness *h) {
  RUN("log('a') local r = recv() log('got ' .. r)");
  harness_deliver(h, "hello");
  expect_log(h, "a wait parks and goes on", "a|got hello|");

  RUN("local gen = coroutine.wrap(function() for i = 1, 3 do local x = recv() coroutine.yield(i .. x) end end) for i = "
      "1, 3 do log(gen()) end");
  harness_deliver(h, "A");
  harness_deliver(h, "B");
  harness_deliver(h, "C");
  expect_log(h, "a wait inside a generator", "1A|2B|3C|");

  RUN("local function lines() return coroutine.wrap(function() while true do local c = coroutine.wrap(function() local "
      "x = recv() "
      "coroutine.yield(x .. '!') end) local v = c() if v == 'end!' then return end coroutine.yield(v) end end) end "
      "for l in lines() do log(l) end log('done')");
  harness_deliver(h, "x");
  harness_deliver(h, "y");
  harness_deliver(h, "end");
  expect_log(h, "three coroutines deep", "x!|y!|done|");

  RUN("local co = coroutine.create(function() local x = recv() error('bad ' .. x) end) log(tostring(select(2, "
      "coroutine.resume(co)))) log(coroutine.status(co))");
  harness_deliver(h, "v");
  expect_log(h, "an error after a wait in a coroutine", "main.lua:1: bad v|dead|");

  RUN("local co = coroutine.create(function() recv() return 7 end) "
      "local t = host.spawn(function() sleep(1) log(coroutine.status(co)) log(tostring(select(2, "
      "coroutine.resume(co)))) "
      "log(tostring(pcall(coroutine.close, co))) end) log(tostring(select(2, coroutine.resume(co)))) host.join(t)");
  harness_advance(h, 2);
  harness_deliver(h, "v");
  expect_log(h, "others cannot resume or close a coroutine that waits for the engine",
             "normal|cannot resume a coroutine that is waiting for the engine|false|7|");

  RUN("local a, b = coroutine.running() log(type(a), b) log(coroutine.isyieldable())");
  expect_log(h, "running, isyieldable", "thread|0|1|");
}

static void odd_places(harness *h) {
  RUN("local ok, e = pcall(function() table.sort({2, 1}, function(a, b) recv() return a < b end) end) log(e)");
  expect_log(h, "a wait in a sort callback names the place",
             "main.lua:1: cannot wait here: 'recv' inside a function that 'table.sort' calls back|");

  RUN("local ok, e = pcall(function() string.gsub('a', 'a', function() recv() end) end) log(e)");
  expect_log(h, "in a gsub callback",
             "main.lua:1: cannot wait here: 'recv' inside a function that 'string.gsub' calls back|");

  RUN("local ok, e = pcall(function() table.sort({2, 1}, function(a, b) return coroutine.wrap(function() recv() return "
      "true end)() end) end) log(tostring(ok), e)");
  expect_log(h, "through a coroutine inside the callback",
             "false|main.lua:1: main.lua:1: cannot wait here: 'recv' inside a function that 'table.sort' calls back|");

  RUN("local ok, e = pcall(tostring, setmetatable({}, {__tostring = function() return recv() end})) log(e)");
  expect_log(h, "in __tostring called from C",
             "main.lua:1: cannot wait here: 'recv' inside a function that 'tostring' calls back|");

  RUN("local ok, e = pcall(function() local x = recv() error({code = 5}) end) log(tostring(ok) .. e.code)");
  harness_deliver(h, "x");
  expect_log(h, "pcall across a wait", "false5|");

  RUN("local ok, e = xpcall(function() local x = recv() error('E' .. x) end, function(m) return 'handled ' .. m end) "
      "log(e)");
  harness_deliver(h, "x");
  expect_log(h, "xpcall across a wait", "handled main.lua:1: Ex|");

  RUN("local t = setmetatable({}, {__index = function(_, k) return recv() .. k end, __add = function(a, b) return "
      "recv() .. b end}) log(t.zz) log(t + 1)");
  harness_deliver(h, "x");
  harness_deliver(h, "y");
  expect_log(h, "in metamethods called from Lua", "xzz|y1|");

  RUN("for l in function() local x = recv() if x ~= 'end' then return x end end do log(l) end log('over')");
  harness_deliver(h, "1");
  harness_deliver(h, "end");
  expect_log(h, "in an iterator", "1|over|");

  RUN("do local c <close> = setmetatable({}, {__close = function() log('closing ' .. recv()) end}) end log('after')");
  harness_deliver(h, "x");
  expect_log(h, "in a <close> handler", "closing x|after|");

  RUN("local co = coroutine.create(function() local c <close> = setmetatable({}, {__close = function() recv() end}) "
      "coroutine.yield() end) "
      "coroutine.resume(co) local ok, e = coroutine.close(co) log(tostring(ok), e)");
  expect_log(h, "in a <close> handler of coroutine.close",
             "false|main.lua:1: cannot wait here: 'recv' in a <close> handler of a coroutine that is being closed|");

  RUN("local x = host.at_once('now', 2) log(x)");
  expect_log(h, "an answer that comes before the wait begins", "now|");

  RUN("log('a') coroutine.yield() log('b')");
  RUN("log('other')");
  harness_ready(h);
  expect_log(h, "a bare yield lets others run", "a|other|b|");
}

static void top_level(harness *h) {
  int32_t f = harness_load(h, "recv()", "top.lua");
  clua_values none = {NULL, 0, NULL};
  int32_t status = clua_start(h->vm, f, &none, 0, CLUA_NO_WAIT | CLUA_WANTS_RESULTS);
  check(status == CLUA_FAILED, "the top level of a file cannot wait", NULL);
  expect_text("and says so", clua_last_end(h->vm)->message,
              "top.lua:1: cannot wait here: 'recv' waits, and the top level of a file");
  clua_end_taken(h->vm);
  clua_release(h->vm, f);
}

static void cancelling(harness *h) {
  RUN("local c <close> = setmetatable({}, {__close = function(_, e) log('closed ' .. tostring(e)) end}) "
      "log(host.self() ~= 0) "
      "host.me = host.self() recv()");
  expect_log(h, "parked", "1|");
  int abandoned = h->abandoned;
  clua_cancel(h->vm, h->receiver, "cancelled", 9, "pipe closed", 11);
  check(h->abandoned == abandoned + 1, "the host hears that the wait was broken off", NULL);
  harness_ready(h);
  expect_log(h, "cancelling runs <close> with the reason", "closed cancelled: pipe closed|");
  expect_text("the failure is a cancellation", harness_error(h), "cancelled: pipe closed");
  check(clua_last_end(h->vm)->kind == CLUA_FAILED_CANCELLED, "of that kind", NULL);

  RUN("local ok, e = pcall(recv) log(host.is_cancelled(e), e.code, e.reason) local ok2, e2 = pcall(sleep, 1) "
      "log(tostring(e2)) log('still logs')");
  clua_cancel(h->vm, h->receiver, "cancelled", 9, "gone", 4);
  harness_ready(h);
  expect_log(h, "cancellation sticks; what does not wait still works", "1|cancelled|gone|cancelled: gone|still logs|");
  harness_advance(h, 5);

  RUN("log(recv()) log(recv())");
  uint64_t task = h->receiver, wait = h->receiver_wait;
  harness_deliver(h, "first");
  clua_value late = {.type = CLUA_STRING, .bits = (uint64_t)(uintptr_t)"late", .length = 4};
  clua_values values = {&late, 1, NULL};
  check(clua_resume(h->vm, task, wait, &values, false) == CLUA_IGNORED, "a late resume of an earlier wait is ignored",
        NULL);
  harness_deliver(h, "second");
  expect_log(h, "and does not reach the next wait", "first|second|");
}

static void families(harness *h) {
  RUN("local a, b = host.gather(function() sleep(2) return 'A' end, function() sleep(1) return 'B' end) log(a .. b)");
  harness_advance(h, 3);
  expect_log(h, "gather", "AB|");

  RUN("local ok, e = pcall(host.gather, function() local c <close> = setmetatable({}, {__close = function(_, e) "
      "log('sib ' .. tostring(e)) end}) sleep(100) end, "
      "function() error('boom') end) log(e)");
  harness_advance(h, 1);
  expect_log(h, "a failure cancels the siblings", "sib cancelled: sibling failed|main.lua:1: boom|");

  RUN("host.spawn_child(function() local c <close> = setmetatable({}, {__close = function(_, e) log(tostring(e)) end}) "
      "sleep(100) end) sleep(0.1) log('parent done')");
  harness_advance(h, 1);
  expect_log(h, "children end with their parent", "parent done|cancelled: the task that started it has ended|");

  RUN("local t = host.spawn(function(...) return select('#', ...), ... end, 1, nil, 'x', nil) log(host.join(t)) "
      "log(t:ended())");
  harness_ready(h);
  expect_log(h, "spawn passes arguments, join gives results", "1|4|1|0|x|0|1|1|");

  RUN("local t = host.spawn(function() while true do end end) log(host.join(t))");
  harness_ready(h);
  expect_log(h, "join of a task that was stopped", "0|main.lua:1: stopped: it ran for 1 s without a wait|");

  RUN("local t t = host.spawn(function() return host.join(t) end) log(host.join(t))");
  harness_ready(h);
  expect_log(h, "a task cannot join itself", "0|main.lua:1: a task cannot wait for itself|");

  RUN("local t = host.spawn(function() log('never') end) t:cancel('early') log(tostring(select(2, host.join(t))))");
  harness_ready(h);
  expect_log(h, "a task cancelled before it began", "cancelled: early|");

  RUN("local t = host.spawn(function() sleep(1) return 'r' end) local u = host.spawn(function() log('u', select(2, "
      "t:join())) end) log('me', select(2, t:join())) u:join()");
  harness_advance(h, 2);
  expect_log(h, "two tasks join one", "me|r|u|r|");

  RUN("host.host_spawn(log, 'from', 'host') log('first')");
  harness_ready(h);
  expect_log(h, "a host function starts a task", "first|from|host|");
}

static void failures_and_traces(harness *h) {
  RUN("local function inner(x) sleep(0.1)\n local y = x.z.w end\n local function outer() inner({}) end outer()");
  harness_advance(h, 1);
  expect_text("an error names the line", harness_error(h), "main.lua:2: attempt to index a nil value (field 'z')");
  check(strstr(harness_traceback(h), "main.lua:2: in ") && strstr(harness_traceback(h), "'inner'") &&
            strstr(harness_traceback(h), "main.lua:3: in "),
        "the traceback shows the script's lines", harness_traceback(h));

  RUN("local function deep() error('deep') end\nlocal gen = coroutine.wrap(function()\n deep() end)\nlocal function "
      "use() gen() end\nuse()");
  check(strstr(harness_traceback(h), "main.lua:1: in ") && strstr(harness_traceback(h), "main.lua:3: in ") &&
            strstr(harness_traceback(h), "main.lua:4: in ") && strstr(harness_traceback(h), "main.lua:5: in ") &&
            strstr(harness_traceback(h), "\n\t-- the coroutine was resumed by:\n\t"),
        "a traceback goes through coroutines", harness_traceback(h));

  RUN("local function f(n) return 1 + f(n + 1) end f(1)");
  harness_ready(h);
  expect_text("a stack overflow", harness_error(h), "main.lua:1: stack overflow");
  check(strstr(harness_traceback(h), "(skipping") != NULL, "has a bounded traceback", NULL);
  RUN("local function f() local ok, e = pcall(f) if not ok then error(e, 0) end end f()");
  harness_ready(h);
  check(strstr(harness_error(h), "C stack overflow") != NULL, "nested pcalls end in an error", harness_error(h));
  RUN("local function f() return coroutine.wrap(f)() end f()");
  harness_ready(h);
  check(strstr(harness_error(h), "C stack overflow") != NULL, "nested coroutines end in an error", NULL);

  RUN("host.fail()");
  expect_text("a host function's error has the caller's position", harness_error(h), "main.lua:1: it failed");
  RUN("\nhost.fail_in_prelude()");
  expect_text("also through a prelude", harness_error(h), "main.lua:2: it failed");
  RUN("host.twice(5)");
  expect_text("bad argument", harness_error(h), "main.lua:1: bad argument #1 to 'twice' (string expected)");
  RUN("error(host.thing(7))");
  expect_text("an object as error prints itself", harness_error(h), "a thing");
  RUN("local ok, e = pcall(function() assert(host.make()) end) log(e.number) local ok, e = pcall(host.raise_thing) "
      "log(e.number) assert(nil, e)");
  expect_log(h, "objects as errors stay what they are", "0|77|");
  expect_text("assert passes an object on", harness_error(h), "a thing");
  RUN("error(setmetatable({}, {__tostring = function(e) error(e) end}))");
  expect_text("an error that cannot be printed", harness_error(h), "(error object is a table value)");
  RUN("error(nil)");
  expect_text("error(nil)", harness_error(h), "nil");
  RUN("os.exit(3)");
  check(h->exits == 1 && h->exit_code == 3, "os.exit asks the host", NULL);
  expect_text("and ends the task", harness_error(h), "main.lua:1: os.exit");
  RUN("pcall(os.exit, true) log('never')");
  check(h->exits == 2 && h->exit_code == 0, "os.exit(true)", NULL);
  expect_log(h, "pcall does not catch it", "");
}

static void slicing(harness *h) {
  int32_t f = harness_load(
      h, "if m == 'spin' then local n = 0 while n < 12e6 do n = n + 1 end log('spun') else log(m) end", "main.lua");
  check(harness_start(h, f, "spin") == CLUA_WAITING, "a long run is interrupted", NULL);
  harness_start(h, f, "other");
  harness_ready(h);
  expect_log(h, "others are served meanwhile", "other|spun|");
  clua_release(h->vm, f);
  RUN("local gen = coroutine.wrap(function() local n = 0 while true do n = n + 1 if n % 2000000 == 0 then "
      "coroutine.yield(n) end end end) log(gen()) log(gen())");
  harness_ready(h);
  expect_log(h, "interrupting inside a generator keeps its yields intact", "2000000|4000000|");
}

int main(void) {
  clua_limits limits = default_limits;
  harness *h = harness_open(&limits, false);
  nested_coroutines(h);
  odd_places(h);
  top_level(h);
  cancelling(h);
  families(h);
  failures_and_traces(h);
  slicing(h);
  clua_stats s;
  clua_get_stats(h->vm, &s);
  check(s.tasks_live == 0, "no task is left", NULL);
  harness_close(h);
  return finish("waits");
}
