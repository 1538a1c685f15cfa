// Interrupts as often as the watchdog can, through recursion, coroutines, collections, sort, gsub, <close> and waits,
// and refuses an allocation now and then: results stay exact. Seconds to run: STRESS_SECONDS, 4 by default.
#include "harness.h"
#include <stdlib.h>
#include <string.h>

static const char source[] =
    "local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end\n"
    "local function deep(n) if n == 0 then return 0 end return 1 + deep(n - 1) end\n"
    "local k = #m % 6\n"
    "if k == 0 then assert(fib(18) == 2584)\n"
    "elseif k == 1 then for i = 1, 20 do assert(deep(150) == 150) end\n"
    "elseif k == 2 then\n"
    "  local s = 0\n"
    "  for v in coroutine.wrap(function() for i = 1, 200 do local t = {} for j = 1, 20 do t[j] = i .. j end "
    "coroutine.yield(#t) end end) do s = s + v end\n"
    "  assert(s == 4000)\n"
    "elseif k == 3 then\n"
    "  local t = {} for i = 1, 300 do t[i] = {i} end table.sort(t, function(a, b) return a[1] > b[1] end) "
    "assert(t[1][1] == 300 and t[300][1] == 1)\n"
    "elseif k == 4 then\n"
    "  local closed = 0\n"
    "  local ok = pcall(function()\n"
    "    local x <close> = setmetatable({}, {__close = function() for i = 1, 500 do closed = closed + 1 end end})\n"
    "    for i = 1, 2000 do local s = ('%d'):format(i):gsub('%d', 'x') end error('e') end)\n"
    "  assert(not ok and closed == 500)\n"
    "else\n"
    "  local g = coroutine.wrap(function() for i = 1, 3 do sleep(1) local n = 0 for j = 1, 20000 do n = n + j end "
    "coroutine.yield(n) end end)\n"
    "  for i = 1, 3 do assert(g() == 200010000) end\n"
    "  local t = host.spawn(function() return fib(12) end) assert(select(2, host.join(t)) == 144)\n"
    "end\n"
    "log('.')";

int main(void) {
  const char *seconds = getenv("STRESS_SECONDS");
  double until = now_ms() + (seconds ? atof(seconds) : 4) * 1000;
  clua_limits limits = default_limits;
  limits.slice_us = 1;
  limits.run_us = 4000000000u;
  limits.close_us = 1000000;
  harness *h = harness_open(&limits, false);
  int32_t f = harness_load(h, source, "stress.lua");
  int sent = 0, logged = 0;
  while (now_ms() < until) {
    for (int i = 0; i < 24; i++, sent++) {
      harness_start(h, f, &"aaaaaaaaaaaaaaaaaaaaaaaaaaa"[sent % 6]);
      if (*harness_error(h)) check(false, "a task failed", harness_error(h));
    }
    harness_advance(h, 10);
    logged += (int)h->length / 2;
    h->length = 0;
    if (sent % 480 == 0) clua_gc_cycle(h->vm);
  }
  clua_stats s;
  clua_get_stats(h->vm, &s);
  check(s.errors == 0 && s.kills == 0, "no task failed", harness_error(h));
  check(logged == sent, "every task ran to its end", NULL);
  check(s.tasks_live == 0, "no task is left", NULL);
  check(s.slices > 100, "tasks were interrupted", NULL);
  printf("stress: %d tasks, %d interruptions\n", sent, (int)s.slices);

  limits.run_us = 3000;  // and now stopped as often as possible
  harness *short_lived = harness_open(&limits, false);
  int32_t spin = harness_load(
      short_lived,
      "local c <close> = setmetatable({}, {__close = function() log('c') end}) local x = 0 while true do x = x + 1 "
      "pcall(coroutine.wrap(function() for i = 1, 100 do x = x .. '' x = x + 0 end end)) end",
      "spin.lua");
  for (int i = 0; i < 200; i++) {
    harness_start(short_lived, spin, "");
    harness_ready(short_lived);
  }
  clua_get_stats(short_lived->vm, &s);
  check(s.kills == 200 && s.tasks_live == 0, "200 of 200 loops stopped", NULL);
  check(short_lived->length == 400, "each closed its variable", NULL);
  clua_release(short_lived->vm, spin);
  harness_close(short_lived);
  clua_release(h->vm, f);
  harness_close(h);
  return finish("stress");
}
