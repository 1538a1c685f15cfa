// Programs that try to hold the thread for ever, or to survive being stopped. Each runs in a process of its own
// beside a well-behaved task; the engine must get control back, and the VM must serve on afterwards.
#include "harness.h"
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct program {
  const char *name, *source;
} program;

static const program programs[] = {
    {"plain loop", "while true do end"},
    {"pcall loop", "while true do pcall(function() while true do end end) end"},
    {"recursive pcall", "local function g() pcall(g) g() end g()"},
    {"coroutine.wrap in a pcall loop",
     "while true do local co = coroutine.wrap(function() while true do end end) pcall(co) end"},
    {"many short coroutines",
     "while true do local co = coroutine.create(function() for i = 1, 200 do end end) coroutine.resume(co) end"},
    {"20 coroutines deep",
     "local function deep(n) return coroutine.wrap(function() if n == 0 then while true do end end pcall(deep(n - 1)) "
     "end) end while true do pcall(deep(20)) end"},
    {"loop in an xpcall handler, error from the hook",
     "xpcall(function() while true do end end, function(m) while true do end end)"},
    {"loop in an xpcall handler, plain error", "xpcall(function() error('x') end, function(m) while true do end end)"},
    {"loop in __gc", "setmetatable({}, {__gc = function() while true do end end})"},
    {"loop in __close while being stopped",
     "local x <close> = setmetatable({}, {__close = function() while true do end end}) while true do end"},
    {"loop in __close inside pcall",
     "pcall(function() local x <close> = setmetatable({}, {__close = function() while true do end end}) while true do "
     "end end)"},
    {"string.rep of nothing", "string.rep('', 1e15)"},
    {"table.move over a huge range", "table.move({}, 1, 1e15, 2)"},
    {"table.insert with a fake __len", "table.insert(setmetatable({}, {__len = function() return 1e15 end}), 1, 1)"},
    {"table.remove with a fake __len", "table.remove(setmetatable({}, {__len = function() return 1e15 end}), 1)"},
    {"table.concat with __index = type", "table.concat(setmetatable({}, {__index = type}), '', 1, 1e15)"},
    {"table.sort with a fake __len",
     "table.sort(setmetatable({}, {__len = function() return 1 << 30 end, __index = math.abs and type, __newindex = "
     "rawequal}))"},
    {"pattern a?^n a^n", "string.find(('a'):rep(40), ('a?'):rep(40) .. ('a'):rep(40))"},
    {"pcall loop around a bad pattern",
     "while true do pcall(string.find, ('a'):rep(40), ('a?'):rep(40) .. ('a'):rep(40)) end"},
    {"pattern .- six times", "string.find(('a'):rep(30000), ('.-'):rep(6) .. 'b')"},
    {"plain find, 4 MB in 2 MB", "string.find(('a'):rep(4000000), ('a'):rep(2000000) .. 'b', 1, true)"},
    {"table.sort of 3 million numbers",
     "local t = {} for i = 1, 3000000 do t[i] = i * 7919 % 3000017 end table.sort(t)"},
    {"loop in a sort callback", "table.sort({3, 2, 1, 5, 4}, function(a, b) while true do end end)"},
    {"loop in a sort callback under pcall",
     "pcall(table.sort, {3, 2, 1, 5, 4}, function(a, b) while true do end end) while true do end"},
    {"recursive pcall in a sort callback",
     "table.sort({3, 2, 1}, function() local function g() pcall(g) g() end g() end)"},
    {"loop in a gsub callback", "string.gsub('aaa', 'a', function() while true do end end)"},
    {"unyieldable loop and a looping __close",
     "local x <close> = setmetatable({}, {__close = function() while true do end end}) string.gsub('aaa', 'a', "
     "function() while true do end end)"},
    {"string.rep of 1 GB in a pcall loop", "while true do pcall(string.rep, 'x', 1e9) end"},
    {"heap growth to the cap", "local t = {} while true do t[#t + 1] = {} end"},
    {"allocations at the cap in a pcall loop",
     "local t = {} pcall(function() while true do t[#t + 1] = ('x'):rep(1000) end end) while true do pcall(string.rep, "
     "'x', 1e6) end"},
    {"a source of 1.2 MB", "local s = ('x=x+1 '):rep(200000) load(s)"},
    {"a source of 12 MB",
     "local s = ('x=x+1 '):rep(2000000) local f, e = load(s) assert(not f and e) while true do end"},
    {"loop in a load reader", "load(function() while true do end end)"},
    {"recursion in __index", "local t = setmetatable({}, {__index = function(t, k) return t[k] end}) local _ = t.x"},
    {"loop in __tostring from print", "print(setmetatable({}, {__tostring = function() while true do end end}))"},
    {"error object with a looping __tostring",
     "error(setmetatable({}, {__tostring = function() while true do end end}))"},
    {"error object with a recursive pcall in __tostring",
     "error(setmetatable({}, {__tostring = function() local function g() pcall(g) g() end g() end}))"},
    {"coroutine.close with a looping <close>",
     "local function f() local co = coroutine.create(function() local x <close> = setmetatable({}, {__close = "
     "function() f() end}) coroutine.yield() end) coroutine.resume(co) coroutine.close(co) end f() while true do end"},
    {"resume that swallows the error",
     "while true do coroutine.resume(coroutine.create(function() table.sort({2, 1}, function() while true do end end) "
     "end)) end"},
    {"yields that never wait", "while true do coroutine.yield() end"},
    {"stop at the top of a file", NULL},
    {"format of many arguments", "string.format(('%99d'):rep(100000), table.unpack({}, 1, 100000))"},
};

// Some end by themselves with an error, or may: what counts is that they end.
static void child(const program *p, int fd) {
  clua_limits limits = default_limits;
  limits.run_us = 150000;
  harness *h = harness_open(&limits, false);
  int32_t good = harness_load(h, "log(m)", "good.lua");
  int32_t bad = harness_load(h, p->source ? p->source : "while true do end", "bad.lua");
  double start = now_ms(), longest;
  int32_t status;
  if (p->source == NULL) {
    clua_values none = {NULL, 0, NULL};
    status = clua_start(h->vm, bad, &none, 0, CLUA_NO_WAIT);
    harness_settle(h, status);
  } else {
    status = harness_start(h, bad, "");
  }
  longest = now_ms() - start;
  clua_stats s;
  bool yields = strstr(p->name, "yields") != NULL;
  int turns = 0;
  for (;;) {
    clua_get_stats(h->vm, &s);
    if (s.tasks_ready == 0 || (yields && ++turns > 100)) break;
    double turn = now_ms();
    clua_run_ready_begin(h->vm);
    harness_settle(h, clua_run_one(h->vm));
    clua_run_ready_end(h->vm);
    turn = now_ms() - turn;
    if (turn > longest) longest = turn;
    char error[4096];
    snprintf(error, sizeof error, "%s", harness_error(h));
    if (s.tasks_ready) harness_start(h, good, "served");
    clua_get_stats(h->vm, &s);
    if (s.tasks_ready == 0) dprintf(fd, "%s\n", error);
  }
  double total = now_ms() - start;
  h->length = 0;
  harness_start(h, good, "on");
  bool serves = h->length == 3;
  dprintf(fd, "%d %d %d %.0f %.0f %d\n", serves, (int)s.kills, (int)s.errors, total, longest, (int)s.slices);
  harness_close(h);
  _exit(0);
}

static void run(const program *p, double patience_ms) {
  int fds[2], status = 0;
  if (pipe(fds)) return;
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) {
    close(fds[0]);
    child(p, fds[1]);
  }
  close(fds[1]);
  double start = now_ms();
  bool ended = false;
  while (!ended && now_ms() - start < patience_ms) {
    ended = waitpid(pid, &status, WNOHANG) == pid;
    if (!ended) usleep(2000);
  }
  if (!ended) {
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
  }
  char report[4096] = "";
  ssize_t n = read(fds[0], report, sizeof report - 1);
  close(fds[0]);
  if (n > 0) report[n] = 0;
  char *last = report;
  for (char *q = report; *q; q++)
    if (*q == '\n' && q[1]) last = q + 1;
  int serves = 0, kills = 0, errors = 0, slices = 0;
  double total = 0, longest = 0;
  sscanf(last, "%d %d %d %lf %lf %d", &serves, &kills, &errors, &total, &longest, &slices);
  check(ended && WIFEXITED(status) && WEXITSTATUS(status) == 0 && serves, p->name, ended ? report : "still running");
  if (getenv("RUNAWAYS_VERBOSE"))
    printf("%-52s %s total %5.0f ms, longest %5.0f ms, %d slices\n", p->name,
           kills    ? "stopped "
           : errors ? "error   "
                    : "finished",
           total, longest, slices);
}

int main(void) {
  for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) run(&programs[i], 30000);
  return finish("runaways");
}
