// What replacing code in a running VM needs: tasks cancelled with a code, ended by force in every place a script can be
// in, found by their tag; runs that cannot wait; modules read by the host; copies of plain data; environments that are
// provably collected.
#include "harness.h"
#include <stdlib.h>
#include <string.h>

#define RUN(code) harness_run(h, code, "go")
#define CLOSER(name) "local _ <close> = setmetatable({}, {__close = function(_, e) log('" name "') end}) "

static void cancel_codes(harness *h) {
  RUN("local ok, e = pcall(recv) log(e.code, e.reason, tostring(e), host.is_cancelled(e)) "
      "local ok, f = pcall(sleep, 1) log(f.code) recv()");
  uint64_t task = h->receiver;
  clua_cancel(h->vm, task, "reloaded", 8, "new code", 8);
  clua_cancel(h->vm, task, "cancelled", 9, "later", 5);
  harness_ready(h);
  expect_log(h, "the code is what the script sees, at every wait", "reloaded|new code|reloaded: new code|1|reloaded|");
  check(clua_last_end(h->vm)->kind == CLUA_FAILED_CANCELLED, "and the failure is a cancellation", NULL);
  expect_text("with its text", harness_error(h), "reloaded: new code");

  RUN("local t = host.spawn(function() recv() end) sleep(1) t:cancel('why', 'mine') log(tostring(select(2, t:join())))");
  harness_advance(h, 2);
  expect_log(h, "scripts can give a code too", "mine: why|");
  RUN("local ok, e = pcall(string.find, ('a'):rep(40), ('a?'):rep(40) .. ('a'):rep(40)) log(e.code, host.is_cancelled(e))");
  harness_ready(h);
  expect_log(h, "another error with a code is no cancellation", "too_complex|0|");
}

// Runs the code until it stands still, kills it, and says what its <close> handlers logged.
static void killed(harness *h, const char *what, const char *code, const char *log, const char *error) {
  RUN(code);
  uint64_t task = clua_last_started(h->vm);
  int abandoned = h->abandoned;
  check(clua_kill(h->vm, task, "enough", 6), what, "there is such a task");
  check(clua_kill(h->vm, task, "again", 5), what, "killing twice is killing once");
  clua_cancel(h->vm, task, "cancelled", 9, "late", 4);
  check(h->abandoned <= abandoned + 1, what, "the wait is broken off once");
  harness_ready(h);
  expect_log(h, what, log);
  expect_text(what, harness_error(h), error);
  check(clua_last_end(h->vm)->kind == CLUA_FAILED_CANCELLED, what, "it counts as cancelled");
  check(!clua_task_exists(h->vm, task) && !clua_kill(h->vm, task, "x", 1), what, "it is gone");
}

static void kills(harness *h) {
  killed(h, "kill in a wait", CLOSER("closed") "recv()", "closed|", "main.lua:1: ended: enough");
  check(strstr(harness_traceback(h), "'recv'") && strstr(harness_traceback(h), "main.lua:1: in "),
        "its traceback says where it stood", harness_traceback(h));
  killed(h, "kill in pcall", CLOSER("out") "pcall(function() " CLOSER("in") "while true do pcall(recv) end end) log('no')",
         "in|out|", "main.lua:1: ended: enough");
  killed(h, "kill in xpcall", "xpcall(function() recv() end, function() log('handler') end) log('no')", "",
         "main.lua:1: ended: enough");
  killed(h, "kill in coroutines",
         CLOSER("root") "local gen = coroutine.wrap(function() " CLOSER("outer")
         "local co = coroutine.create(function() " CLOSER("inner") "coroutine.yield() recv() end) "
         "coroutine.resume(co) log(coroutine.resume(co)) end) gen() log('no')",
         "inner|outer|root|", "main.lua:1: ended: enough");
  check(strstr(harness_traceback(h), "the coroutine was resumed by"), "with a traceback through them", NULL);
  killed(h, "kill in a <close> handler that waits",
         CLOSER("first") "do local c <close> = setmetatable({}, {__close = function() recv() end}) end log('no')",
         "first|", "main.lua:1: ended: enough");
  killed(h, "kill in an iterator", "for x in recv do log('no') end", "", "main.lua:1: ended: enough");
  killed(h, "kill after a yield of its own", CLOSER("c") "while true do coroutine.yield() end", "c|",
         "main.lua:1: ended: enough");
  killed(h, "kill of a run that was interrupted", CLOSER("c") "while true do end", "c|", "main.lua:1: ended: enough");
  killed(h, "kill of a coroutine that was interrupted",
         "local co = coroutine.wrap(function() " CLOSER("c") "while true do end end) pcall(co)", "c|",
         "main.lua:1: ended: enough");
  killed(h, "<close> handlers of a killed task cannot wait",
         "local c <close> = setmetatable({}, {__close = function() log(tostring(select(2, pcall(function() recv() end)))) end}) recv()",
         "main.lua:1: cannot wait here: 'recv' in a <close> handler of a coroutine that is being closed|",
         "main.lua:1: ended: enough");
  double began = now_ms();
  killed(h, "<close> handlers that run for ever",
         "local function forever() while true do end end "
         "local function deep(n) local c <close> = setmetatable({}, {__close = forever}) "
         "if n == 0 then recv() else coroutine.wrap(deep)(n - 1) end end deep(30)",
         "", "main.lua:1: ended: enough");
  check(now_ms() - began < 400, "have one short time together", NULL);

  RUN("local t = host.spawn(function() log('never') end) log(host.task_id(t) ~= 0) host.kill_id(host.task_id(t)) "
      "log(t:join())");
  harness_ready(h);
  expect_log(h, "kill of a task that did not begin", "1|0|ended: by host|");
  RUN("local t = host.spawn(function() recv() end) log(t:join())");
  harness_ready(h);
  clua_kill(h->vm, h->receiver, "enough", 6);
  harness_ready(h);
  expect_log(h, "who joins a killed task is told", "0|main.lua:1: ended: enough|");
  RUN("local t = host.spawn(function() recv() end) " CLOSER("joiner") "t:join()");
  clua_kill(h->vm, clua_last_started(h->vm), "enough", 6);
  harness_ready(h);
  expect_log(h, "kill in a join", "joiner|");
  harness_deliver(h, "x");
  RUN("host.spawn_child(function() local c <close> = setmetatable({}, {__close = function(_, e) log(tostring(e)) end}) "
      "sleep(9) end) recv()");
  harness_ready(h);
  clua_kill(h->vm, h->receiver, "enough", 6);
  harness_ready(h);
  expect_log(h, "children of a killed task are cancelled", "cancelled: the task that started it has ended|");
}

static void kills_of_the_running_task(harness *h) {
  static const char *const codes[] = {
      CLOSER("c") "pcall(host.kill_id, host.self()) log('no')",
      CLOSER("c") "coroutine.wrap(host.kill_id)(host.self()) log('no')",
      CLOSER("c") "coroutine.wrap(function() pcall(function() host.kill_id(host.self()) log('no') end) end)() log('no')",
      // A callback of a C function is left by an error; the handler that meets it first is lost.
      CLOSER("c") CLOSER("lost") "table.sort({3, 2, 1}, function() host.kill_id(host.self()) log('no') end) log('no')",
      CLOSER("c") "host.kill_id(host.self()) recv() log('no')",
      CLOSER("c") "return host.kill_id(host.self()), log('no')"};
  for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
    RUN(codes[i]);
    harness_ready(h);
    expect_log(h, "a task the host ends while it runs", "c|");
    expect_text(codes[i], harness_error(h), "main.lua:1: ended: by host");
    check(clua_last_end(h->vm)->kind == CLUA_FAILED_CANCELLED, codes[i], "it counts as cancelled");
  }
  RUN("local c <close> = setmetatable({}, {__close = function() host.kill_id(host.self()) log('closed') end}) "
      "host.kill_id(host.self()) log('no')");
  harness_ready(h);
  expect_log(h, "killed again while its <close> handlers run", "closed|");
}

static void tags(harness *h) {
  int32_t f = harness_load(h, "if m == 'spawn' then host.spawn(recv) end recv()", "tag.lua");
  clua_value m = {.type = CLUA_STRING, .bits = (uint64_t)(uintptr_t)"spawn", .length = 5};
  clua_values one = {&m, 1, NULL}, none = {NULL, 0, NULL};
  uint64_t found[8];
  for (uint64_t tag = 0x101; tag <= 0x103; tag++) clua_start(h->vm, f, tag == 0x102 ? &one : &none, tag, 0);
  clua_start(h->vm, f, &none, 0x202, 0);
  check(clua_tasks(h->vm, 0x101, ~0ull, found, 8) == 1, "tasks of one tag", NULL);
  check(clua_tasks(h->vm, 0x102, ~0ull, found, 8) == 2, "a spawned task has its tag", NULL);
  check(clua_tasks(h->vm, 0x100, 0xf00, found, 8) == 4, "tasks under a mask", NULL);
  check(clua_tasks(h->vm, 0x100, 0xf00, found, 1) == 4, "more than there is room for", NULL);
  check(clua_tasks(h->vm, 0x301, ~0ull, found, 8) == 0, "none", NULL);
  uint32_t count = clua_tasks(h->vm, 0, 0, found, 8);
  check(count == 5, "all", NULL);
  for (uint32_t i = 0; i < count; i++) clua_kill(h->vm, found[i], "done", 4);
  harness_ready(h);
  check(clua_tasks(h->vm, 0, 0, found, 8) == 0, "and they end", NULL);
  clua_release(h->vm, f);
}

// A run as of a file's top level. True if it ended well.
static bool staged(harness *h, const char *source) {
  int32_t f = harness_load(h, source, "staged.lua");
  clua_values none = {NULL, 0, NULL};
  uint64_t task;
  const char *text = "nothing can wait here: move it into start";
  check(clua_spawn(h->vm, f, &none, 3, CLUA_WANTS_RESULTS, text, strlen(text), &task) == CLUA_OK, "spawn", NULL);
  clua_release(h->vm, f);
  bool ok = false;
  for (int32_t status; (status = clua_run_one(h->vm)) != CLUA_NO_TASK;) {
    if (status != CLUA_WAITING && clua_last_end(h->vm)->task == task) ok = status == CLUA_DONE;
    harness_settle(h, status);
  }
  return ok;
}

static void staged_runs(harness *h) {
  check(staged(h, "log('ran') for x in coroutine.wrap(function() coroutine.yield(1) end) do log(x) end"), "a staged run", NULL);
  expect_log(h, "runs, also its own coroutines", "ran|1|");
  static const char *const waits[] = {"recv()", "coroutine.yield()", "coroutine.wrap(function() sleep(1) end)()",
                                      "host.join(host.spawn(function() end))"};
  for (size_t i = 0; i < sizeof waits / sizeof *waits; i++) {
    check(!staged(h, waits[i]), "cannot wait", waits[i]);
    check(strstr(harness_error(h), "staged.lua:1: nothing can wait here: move it into start") != NULL, waits[i],
          harness_error(h));
  }
  check(staged(h, "log(host.can_wait(), (pcall(recv)))"), "is told before", NULL);
  expect_log(h, "it tries", "0|0|");
  clua_stats before, after;
  clua_get_stats(h->vm, &before);
  check(staged(h, "local n = 0 while n < 12e6 do n = n + 1 end"), "a long one", NULL);
  clua_get_stats(h->vm, &after);
  check(after.slices > before.slices, "takes turns with others", NULL);
  check(!staged(h, "while true do pcall(function() while true do end end) end"), "an endless one is stopped", NULL);
  expect_text("by the time limit", harness_error(h), "staged.lua:1: stopped: it ran for 1 s without a wait");
}

static void modules_read_by_the_host(harness *h) {
  clua_value directories[] = {{.type = CLUA_STRING, .bits = (uint64_t)(uintptr_t)"/here", .length = 5},
                              {.type = CLUA_STRING, .bits = (uint64_t)(uintptr_t)"/li%1b", .length = 6}};
  clua_values values = {directories, 2, NULL}, none = {NULL, 0, NULL}, files;
  int32_t e, f;
  harness_read_files(h);
  const char *const texts[][2] = {{"/here/a.lua", "#!/usr/bin/lua\nlocal b = require 'sub.b' return {b = b}"},
                                  {"/li%1b/sub/b/init.lua", "return 'b'"},
                                  {"/here/bad.lua", "\nlocal x = ="},
                                  {"/here/fails.lua", "\n\nerror('at load')"},
                                  {"/x/data.lua", "return 'data', ..."}};
  memcpy(h->files, texts, sizeof texts);
  check(clua_make_environment(h->vm, &values, "gen7", 4, &e) == CLUA_OK, "environment", NULL);
  const char *source =
      "local log = require('host').log "
      "log(require('a').b, require('a') == require('a')) "
      "for _, n in ipairs{'bad', 'fails', 'forbidden', 'absent'} do log((select(2, pcall(require, n)))) end "
      "log(dofile('/x/data.lua')) log(loadfile('/x/data.lua')(5)) log(select(2, loadfile('/etc/passwd')))";
  check(clua_load(h->vm, source, strlen(source), "reads.lua", 9, e, &f) == CLUA_OK, "load", NULL);
  harness_settle(h, clua_start(h->vm, f, &none, 0, CLUA_NO_WAIT));
  h->log[h->length] = 0;
  char *absent = strstr(h->log, "module 'absent' not found:\n\tno field package.preload['absent']\n\tno file '/here/absent.lua'\n\tno file");
  check(absent != NULL, "what was looked for is told", h->log);
  if (absent) {
    char *end = strchr(absent, '|');
    memmove(absent, end, strlen(end) + 1);
    h->length = strlen(h->log);
  }
  expect_log(h, "modules come from the host",
             "b|1|error loading module 'bad' from file '/here/bad.lua':\n\t/here/bad.lua:2: unexpected symbol near '='|"
             "/here/fails.lua:3: at load|reads.lua:1: it is forbidden||data|data|5|cannot open '/etc/passwd'|");
  check(strncmp(h->asked, "gen7 /here/a.lua|gen7 /here/sub/b.lua|gen7 /here/sub/b/init.lua|gen7 /li%1b/sub/b.lua|"
                          "gen7 /li%1b/sub/b/init.lua|gen7 /here/bad.lua|", 120) == 0,
        "asked in order, by tag and path", h->asked);
  check(clua_environment_files(h->vm, e, &files) == CLUA_OK && files.nodes[0].length == 4, "the loaded files are listed",
        NULL);
  static const char *const want[] = {"sub.b", "/li%1b/sub/b/init.lua", "a", "/here/a.lua"};
  for (int i = 0; i < 4; i++) {
    const clua_value *s = &files.nodes[2 + 2 * i];
    check(s->type == CLUA_STRING && strcmp((const char *)(uintptr_t)s->bits, want[i]) == 0, "in order", want[i]);
  }
  clua_set_reader(h->vm, -1);
  clua_release(h->vm, f);
  clua_release(h->vm, e);
}

static void state(harness *h) {
  RUN("local s = {rooms = {{name = 'a', [1.5] = true, n = 7}}, empty = {}, list = {1, 2, 3}} "
      "s.me, s.again, s[s.list] = s, s.empty, s.rooms "
      "local c = host.copy_state(s) log(c ~= s, c.me == c, c.again == c.empty, c.empty ~= s.empty, c[c.list] == c.rooms, "
      "c.rooms[1].name, c.rooms[1][1.5], c.rooms[1].n) log(#c.list, c[s.list] == nil) "
      "log(host.check_state(s)) log(host.copy_state(5), host.copy_state('x'), host.copy_state(false), "
      "host.copy_state(nil) == nil, host.check_state(nil), host.check_state(false))");
  expect_log(h, "a copy has the shape of the original", "1|1|1|1|1|a|1|7|3|1|1|5|x|0|1|1|1|");
  RUN("local f = function() end local function bad(v) local c, p, w = host.copy_state(v) log(c == nil, p, w) end "
      "bad(f) bad{rooms = {1, 2, {cb = f}}} bad{['a b'] = {[10] = coroutine.create(f)}} bad{x = setmetatable({}, {})} "
      "bad{[true] = {io.stdout}} bad{a = {[f] = 1}} bad{t = host.spawn(f)} bad{{[{}] = {f}}} "
      "bad{y = setmetatable({}, {__metatable = false})} log(select(2, host.check_state({z = f}, 'pipe.data')))");
  harness_ready(h);
  expect_log(h, "what is no plain data is named",
             "1|state|is a function|1|state.rooms[3].cb|is a function|1|state[\"a b\"][10]|is a coroutine|"
             "1|state.x|has a metatable|1|state[true][1]|is a FILE*|1|state.a|has a key that is a function|"
             "1|state.t|is a task|1|state[1][a table][1]|is a function|1|state.y|has a metatable|pipe.data.z|is a function|");
  RUN("local t = host.thing(4) local c = host.copy_state{t, [t] = t} log(c[1] == t, c[t] == t)");
  expect_log(h, "objects of a class that allows it are kept", "1|1|");
  RUN("local s, last = {}, nil last = s for i = 1, 200000 do last.next = {i} last = last.next end "
      "local c, n = host.copy_state(s), 0 while c do c = c.next n = n + 1 end log(n)");
  harness_ready(h);
  expect_log(h, "a long chain of tables", "200001|");
  clua_stats before, after;
  clua_get_stats(h->vm, &before);
  RUN("local s = {} for i = 1, 100000 do s[i] = {id = i, name = 'n' .. i} end sleep(1) log(#host.copy_state(s))");
  harness_advance(h, 2);
  clua_get_stats(h->vm, &after);
  expect_log(h, "a large state", "100000|");
  check(after.slices > before.slices, "is copied in slices", NULL);
}

// What the search says of the environment with this sentinel; "" if nothing holds it.
static const char *holder(harness *h, thing *t) {
  static char text[1000];
  int32_t f;
  uint64_t task;
  clua_values none = {NULL, 0, NULL};
  text[0] = 0;
  if (clua_holder_search(h->vm, t, &f) != CLUA_OK) return "no memory";
  check(clua_spawn(h->vm, f, &none, 0, CLUA_WANTS_RESULTS, "no", 2, &task) == CLUA_OK, "spawn", NULL);
  clua_release(h->vm, f);
  for (int32_t status; (status = clua_run_one(h->vm)) != CLUA_NO_TASK;) {
    const clua_end *e = clua_last_end(h->vm);
    if (status == CLUA_DONE && e->task == task && e->values.count && e->values.nodes[0].type == CLUA_STRING)
      snprintf(text, sizeof text, "%s", (const char *)(uintptr_t)e->values.nodes[0].bits);
    harness_settle(h, status);
    if (status == CLUA_FAILED) snprintf(text, sizeof text, "failed: %s", harness_error(h));
  }
  return text;
}

static void holders(harness *h) {
  static const char *const cases[][2] = {
      {"held = host.thing(3) held.data = {on = {reply = function() return x end}}", "(a thing).data.on.reply^_ENV"},
      {"host.spawn(function() local mine = x host.recv() end)", "(coroutine) at e:1^_ENV"},
      {"host.spawn(function() local co = coroutine.wrap(function() local mine = x host.recv() end) co() end)", "^_ENV"},
  };
  clua_values directories = {NULL, 0, NULL}, none = {NULL, 0, NULL};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char source[400];
    snprintf(source, sizeof source, "local host = require 'host' x = {} %s return held", cases[i][0]);
    thing *t = calloc(1, sizeof *t);
    h->live_things++;
    int32_t e, f, kept = 0;
    uint64_t found[2];
    check(clua_make_environment(h->vm, &directories, "t", 1, &e) == CLUA_OK, "environment", NULL);
    check(clua_set_sentinel(h->vm, e, t) == CLUA_OK, "sentinel", NULL);
    check(clua_load(h->vm, source, strlen(source), "e", 1, e, &f) == CLUA_OK, "load", NULL);
    int32_t status = clua_start(h->vm, f, &none, 5, CLUA_WANTS_RESULTS);
    const clua_value *result = clua_last_end(h->vm)->values.nodes;
    if (status == CLUA_DONE && result->type == CLUA_OBJECT) {
      clua_values one = {result, 1, NULL};
      check(clua_make_reference(h->vm, &one, &kept) == CLUA_OK, "reference", NULL);
    }
    harness_settle(h, status);
    harness_ready(h);
    check(strncmp(holder(h, t), "registry[", 9) == 0, "the host's own reference is found first", NULL);
    clua_release(h->vm, f);
    clua_release(h->vm, e);
    const char *text = holder(h, t);
    check(strstr(text, cases[i][1]) != NULL, "what holds an environment is named", text);
    clua_release(h->vm, kept);
    for (uint32_t k = clua_tasks(h->vm, 5, ~0ull, found, 2); k > 0; k--) clua_kill(h->vm, found[k - 1], "x", 1);
    harness_ready(h);
    check(holder(h, t)[0] == 0, "nothing holds it any more", holder(h, t));
    clua_gc_cycle(h->vm);
    check(h->live_things == 0, "and it goes", NULL);
  }
}

static void collected(harness *h) {  // staged and dropped: nothing is left, and the sentinels say so
  clua_value directory = {.type = CLUA_STRING, .bits = (uint64_t)(uintptr_t)"/tmp", .length = 4};
  clua_values values = {&directory, 1, NULL}, none = {NULL, 0, NULL};
  const char *source =
      "x = {} for i = 1, 20 do x[i] = function() return x end end local host = require 'host' "
      "x.t = host.spawn(function() local y = x host.recv() end) return {msg_cb = function() return x end}";
  clua_stats first = {0}, s;
  uint64_t found[4];
  for (int i = 0; i < 10000; i++) {
    int32_t e, f;
    uint64_t task;
    thing *t = calloc(1, sizeof *t);
    h->live_things++;
    check(clua_make_environment(h->vm, &values, "t", 1, &e) == CLUA_OK, "environment", NULL);
    check(clua_set_sentinel(h->vm, e, t) == CLUA_OK && t->references == 1, "sentinel", NULL);
    check(clua_load(h->vm, source, strlen(source), "e", 1, e, &f) == CLUA_OK, "load", NULL);
    check(clua_spawn(h->vm, f, &none, 77, CLUA_WANTS_RESULTS | CLUA_TABLES_AS_REFS, "no", 2, &task) == CLUA_OK, "spawn",
          NULL);
    clua_release(h->vm, f);
    for (int32_t status; (status = clua_run_one(h->vm)) != CLUA_NO_TASK;) {
      const clua_end *end = clua_last_end(h->vm);
      if (status == CLUA_DONE && end->task == task) clua_release(h->vm, (int32_t)end->values.nodes[0].bits);
      harness_settle(h, status);
    }
    uint32_t live = clua_tasks(h->vm, 77, ~0ull, found, 4);
    check(live == 1, "its task waits", NULL);
    for (uint32_t k = 0; k < live; k++) clua_kill(h->vm, found[k], "dropped", 7);
    harness_ready(h);
    clua_release(h->vm, e);
    if (i % 1000 == 999) {
      clua_gc_cycle(h->vm);
      check(h->live_things == 0, "every environment was collected", NULL);
      clua_get_stats(h->vm, &s);
      if (i == 999) first = s;
      check(s.memory_used < first.memory_used + 8000, "memory stays", NULL);
      check(s.references == first.references, "references stay", NULL);
      check(s.tasks_live == 0, "no task stays", NULL);
    }
  }
  int32_t e;
  check(clua_make_environment(h->vm, &values, "t", 1, &e) == CLUA_OK, "environment", NULL);
  for (int i = 0; i < 2; i++) {
    thing *t = calloc(1, sizeof *t);
    h->live_things++;
    check(clua_set_sentinel(h->vm, e, t) == CLUA_OK, "sentinel", NULL);
    clua_gc_cycle(h->vm);
    check(h->live_things == 1, "a sentinel lives while its environment does, and the next one replaces it", NULL);
  }
  clua_release(h->vm, e);
  int steps = 0;
  for (; h->live_things && steps < 100000; steps++) clua_gc_step(h->vm);
  check(h->live_things == 0, "bounded steps collect it as well", NULL);
}

int main(void) {
  clua_limits limits = default_limits;
  limits.memory = 256u << 20;
  harness *h = harness_open(&limits, false);
  cancel_codes(h);
  kills(h);
  kills_of_the_running_task(h);
  tags(h);
  staged_runs(h);
  modules_read_by_the_host(h);
  clua_stats s;
  clua_get_stats(h->vm, &s);
  check(s.tasks_live == 0, "no task is left", NULL);
  harness_close(h);
  limits.run_us = 20000000;
  h = harness_open(&limits, false);
  state(h);
  harness_close(h);
  h = harness_open(&limits, false);
  holders(h);
  collected(h);
  harness_close(h);
  return finish("generations");
}
