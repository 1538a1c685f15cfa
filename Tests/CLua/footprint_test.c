// What tasks, environments and bursts leave behind in the VM's memory, and the cap on it as scripts see it.
#include "harness.h"
#include <stdlib.h>
#include <string.h>

static void leaks(void) {  // many failing and succeeding tasks leave nothing
  clua_limits limits = default_limits;
  harness *h = harness_open(&limits, false);
  int32_t f = harness_load(
      h, "if #m % 3 == 0 then error({f = print}) elseif #m % 3 == 1 then error(host.thing(1)) end return m",
      "leak.lua");
  size_t before = 0;
  for (int i = 0; i < 20000; i++) {
    harness_start(h, f, i % 3 == 0 ? "abc" : i % 3 == 1 ? "a" : "ab");
    if (i % 4000 == 3999) {
      clua_gc_cycle(h->vm);
      clua_stats s;
      clua_get_stats(h->vm, &s);
      if (getenv("MEMORY_VERBOSE")) printf("   after %d: %zu bytes\n", i, s.memory_used);
      if (i == 3999)
        before = s.memory_used;
      else
        check(s.memory_used < before + 16000, "20 000 failures leave no memory behind", NULL);
    }
  }
  clua_release(h->vm, f);

  for (int i = 0; i < 400; i++) {
    clua_value directory = {.type = CLUA_STRING, .bits = (uint64_t)(uintptr_t)"/tmp", .length = 4};
    clua_values values = {&directory, 1, NULL};
    int32_t e, g;
    const char *source = "x = {} for i = 1, 100 do x[i] = function() return x end end require('host')";
    check(clua_make_environment(h->vm, &values, "t", 1, &e) == CLUA_OK, "environment", NULL);
    check(clua_load(h->vm, source, strlen(source), "e", 1, e, &g) == CLUA_OK, "load", NULL);
    clua_values none = {NULL, 0, NULL};
    harness_settle(h, clua_start(h->vm, g, &none, 0, 0));
    clua_release(h->vm, g);
    clua_release(h->vm, e);
    if (i == 100 || i == 399) {
      clua_gc_cycle(h->vm);
      clua_stats s;
      clua_get_stats(h->vm, &s);
      if (i == 100)
        before = s.memory_used;
      else
        check(s.memory_used < before + 16000, "environments that are let go leave nothing", NULL);
    }
  }
  harness_close(h);
}

static void bursts(void) {  // many tasks at once: their coroutines are kept for the next burst, then given up slowly
  clua_limits limits = default_limits;
  harness *h = harness_open(&limits, false);
  int32_t f = harness_load(h, "sleep(1) return m", "burst.lua");
  for (int i = 0; i < 3000; i++) harness_start(h, f, "x");
  harness_advance(h, 2);
  clua_stats s;
  clua_get_stats(h->vm, &s);
  check(s.tasks_live == 0 && s.coroutines_made <= 3001 && s.coroutines_idle > 2500, "a burst of tasks", NULL);
  uint32_t idle = s.coroutines_idle;
  for (int i = 0; i < 3000; i++) harness_start(h, f, "x");
  harness_advance(h, 2);
  clua_get_stats(h->vm, &s);
  check(s.coroutines_made < 3300, "the next burst finds them", NULL);
  int32_t quick = harness_load(h, "local x = 1", "quick.lua");
  for (int i = 0; i < 50000; i++) harness_start(h, quick, "x");
  clua_release(h->vm, quick);
  clua_get_stats(h->vm, &s);
  check(s.coroutines_idle < idle && s.coroutines_idle <= 300, "then they go", NULL);
  if (getenv("MEMORY_VERBOSE")) printf("   idle %u, then %u\n", idle, s.coroutines_idle);
  clua_release(h->vm, f);
  harness_close(h);
}

static void pages(void) {  // small blocks of every size, in waves: what a burst took is given back
  clua_limits limits = default_limits;
  limits.run_us = 20000000;
  harness *h = harness_open(&limits, false);
  clua_stats s;
  clua_gc_cycle(h->vm);
  clua_get_stats(h->vm, &s);
  uint32_t before = s.pages, most = 0;
  int32_t f = harness_load(h,
                           "local seed = 7 local function random(n) seed = seed * 1103515245 + 12345 "
                           "return (seed >> 16) % n end "
                           "local t = {} for i = 1, 60000 do local k = random(20000) + 1 "
                           "if t[k] then assert(#t[k] == t[-k]) end "
                           "t[k] = (string.char(97 + k % 26)):rep(random(300)) t[-k] = #t[k] "
                           "t[k + 0.5] = random(2) == 0 and {k} or {k, {k}, x = k, y = 1, z = 2} end "
                           "for k, v in pairs(t) do if math.type(k) == 'float' then assert(v[1] == k - 0.5) end end log('whole')",
                           "pages.lua");
  for (int wave = 0; wave < 5; wave++) {
    harness_start(h, f, "x");
    harness_ready(h);
    expect_log(h, "blocks keep what is in them", "whole|");
    clua_get_stats(h->vm, &s);
    if (s.pages > most) most = s.pages;
    clua_gc_cycle(h->vm);
    clua_get_stats(h->vm, &s);
    check(s.pages < before + 60, "the pages of a burst go back", NULL);
  }
  check(most > before + 150, "it had taken many", NULL);
  if (getenv("MEMORY_VERBOSE")) printf("   pages: %u, %u at most, then %u\n", before, most, s.pages);
  clua_release(h->vm, f);
  harness_close(h);
}

static void the_cap(void) {
  clua_limits limits = default_limits;
  limits.memory = 8 << 20;
  limits.run_us = 20000000;
  harness *h = harness_open(&limits, false);
  harness_run(h, "\nlocal t = {}\nwhile true do\n t[#t + 1] = ('x'):rep(1000) end", "");
  harness_ready(h);
  expect_text("running into the cap is an error with its line", harness_error(h), "main.lua:4: not enough memory");
  harness_run(
      h, "local ok, e = pcall(function() local t = {} while true do t[#t + 1] = {} end end) log(tostring(ok), e)", "");
  harness_ready(h);
  expect_log(h, "which pcall catches", "false|not enough memory|");
  harness_run(h, "log(tostring(pcall(string.rep, 'x', 1e8)))", "");
  harness_ready(h);
  expect_log(h, "an allocation larger than the cap", "false|");
  clua_stats s;
  clua_get_stats(h->vm, &s);
  check(s.memory_peak <= limits.memory + limits.reserve, "memory stays below cap and reserve", NULL);
  expect_works(h, "the cap", 0);
  harness_close(h);
}

int main(void) {
  leaks();
  bursts();
  pages();
  the_cap();
  return finish("footprint");
}
