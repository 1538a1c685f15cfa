// Values of every kind there and back, through every way in and out.
#include "harness.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static clua_value integer(int64_t i) { return (clua_value){.type = CLUA_INT, .bits = (uint64_t)i}; }
static clua_value real(double d) {
  clua_value v = {.type = CLUA_NUMBER};
  memcpy(&v.bits, &d, sizeof d);
  return v;
}
static clua_value bytes(const char *s, size_t n) {
  return (clua_value){.type = CLUA_STRING, .bits = (uint64_t)(uintptr_t)s, .length = n};
}

// Starts f with `count` trees and leaves the end open; its results.
static const clua_values *pass(harness *h, int32_t f, const clua_value *nodes, size_t count, int32_t *status) {
  clua_values values = {nodes, count, NULL};
  *status = clua_start(h->vm, f, &values, 0, CLUA_WANTS_RESULTS);
  return &clua_last_end(h->vm)->values;
}

static int32_t load(harness *h, const char *source) {
  int32_t f = 0;
  check(clua_load(h->vm, source, strlen(source), "v", 1, 0, &f) == CLUA_OK, "load", NULL);
  return f;
}

static void scalars(harness *h) {
  char big[300];
  memset(big, 7, sizeof big);
  clua_value in[] = {{.type = CLUA_NIL},
                     {.type = CLUA_BOOL, .bits = 1},
                     {.type = CLUA_BOOL},
                     integer(INT64_MAX),
                     integer(INT64_MIN),
                     integer(0),
                     real(0.1),
                     real(INFINITY),
                     real(NAN),
                     real(-0.0),
                     bytes("", 0),
                     bytes("a\0b", 3),
                     bytes(big, sizeof big),
                     bytes(NULL, 0)};
  size_t count = sizeof in / sizeof *in;
  int32_t f = load(h, "return ..."), status;
  const clua_values *out = pass(h, f, in, count, &status);
  check(status == CLUA_DONE && out->count == count, "all come back", NULL);
  for (size_t i = 0; i < count && i < out->count; i++) {
    const clua_value *a = &in[i], *b = &out->nodes[i];
    char text[32];
    snprintf(text, sizeof text, "value %zu", i);
    bool same = a->type == b->type && a->length == b->length;
    if (same && a->type == CLUA_STRING)
      same = a->length == 0 || memcmp((void *)(uintptr_t)a->bits, (void *)(uintptr_t)b->bits, a->length) == 0;
    else if (same && a->type == CLUA_NUMBER) {
      double x, y;
      memcpy(&x, &a->bits, 8);
      memcpy(&y, &b->bits, 8);
      same = (isnan(x) && isnan(y)) || a->bits == b->bits;
    } else if (same)
      same = a->bits == b->bits;
    check(same, text, NULL);
  }
  clua_end_taken(h->vm);
  clua_release(h->vm, f);

  f = load(h, "return math.type(...), ... == math.mininteger");
  clua_value least = integer(INT64_MIN);
  out = pass(h, f, &least, 1, &status);
  check(out->count == 2 && out->nodes[1].bits == 1, "integers stay integers", NULL);
  clua_end_taken(h->vm);
  clua_release(h->vm, f);
}

static void trees(harness *h) {
  clua_value list[] = {{.type = CLUA_TABLE, .length = 3}, integer(1),    bytes("x", 1), integer(2),
                       {.type = CLUA_TABLE, .length = 1}, bytes("k", 1), real(2.5),     integer(3),
                       {.type = CLUA_BOOL, .bits = 1}};
  int32_t status, f = load(h, "local t = ... return #t, t[1], t[2].k, t[3], t");
  const clua_values *out = pass(h, f, list, 1, &status);
  check(status == CLUA_DONE && out->nodes[0].bits == 3 && out->nodes[2].type == CLUA_NUMBER &&
            out->nodes[4].type == CLUA_TABLE && out->nodes[4].length == 3,
        "a nested table", NULL);
  clua_end_taken(h->vm);
  clua_release(h->vm, f);

  clua_value *deep = calloc(200, sizeof *deep);
  for (int levels = 64; levels <= 65; levels++) {
    for (int i = 0; i < levels; i++) {
      deep[2 * i] = (clua_value){.type = CLUA_TABLE, .length = i < levels - 1};
      deep[2 * i + 1] = integer(1);
    }
    f = load(h, "return ...");
    out = pass(h, f, deep, 1, &status);
    check(status == (levels == 64 ? CLUA_DONE : CLUA_FAILED), "64 levels go in, 65 do not", NULL);
    if (status == CLUA_FAILED) expect_text("and says so", clua_last_end(h->vm)->message, "table nested deeper than 64");
    clua_end_taken(h->vm);
    clua_release(h->vm, f);
  }
  free(deep);

  f = load(h, "local n = ... local t = {} for i = 2, n do t = {t} end return t");
  for (int64_t levels = 64; levels <= 65; levels++) {
    clua_value n = integer(levels);
    out = pass(h, f, &n, 1, &status);
    check(status == (levels == 64 ? CLUA_DONE : CLUA_FAILED), "64 levels come out, 65 do not", NULL);
    clua_end_taken(h->vm);
  }
  clua_release(h->vm, f);

  struct {
    const char *source, *message;
  } bad[] = {{"local t = {} t.t = t return t", "table contains itself"},
             {"local t = {} t[t] = 1 return {t}", "table contains itself"},
             {"local t = {1} for i = 1, 40 do t = {t, t} end return t", "table too large"}};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    f = load(h, bad[i].source);
    pass(h, f, NULL, 0, &status);
    check(status == CLUA_FAILED, bad[i].source, NULL);
    expect_text(bad[i].source, clua_last_end(h->vm)->message, bad[i].message);
    clua_end_taken(h->vm);
    clua_release(h->vm, f);
  }

  clua_value nil_key[] = {{.type = CLUA_TABLE, .length = 1}, {.type = CLUA_NIL}, integer(1)};
  f = load(h, "return 1");
  pass(h, f, nil_key, 1, &status);
  check(status == CLUA_FAILED, "a nil key is an error, not a crash", NULL);
  clua_end_taken(h->vm);
  clua_release(h->vm, f);
}

static void references(harness *h) {
  int32_t status, f = load(h, "return function(x) return x + 1 end, coroutine.create(print), io.stdout, {}");
  const clua_values *out = pass(h, f, NULL, 0, &status);
  check(out->count == 4 && out->nodes[0].type == CLUA_REF && out->nodes[1].type == CLUA_REF &&
            out->nodes[2].type == CLUA_REF && out->nodes[3].type == CLUA_TABLE,
        "functions, coroutines, files are references", NULL);
  int32_t function = (int32_t)out->nodes[0].bits, thread = (int32_t)out->nodes[1].bits,
          file = (int32_t)out->nodes[2].bits;
  clua_end_taken(h->vm);
  clua_release(h->vm, f);
  check(clua_kind(h->vm, function) == CLUA_FUNCTION && clua_kind(h->vm, thread) == CLUA_THREAD &&
            clua_kind(h->vm, file) == CLUA_USERDATA,
        "kinds", NULL);
  clua_value n = integer(41);
  out = pass(h, function, &n, 1, &status);
  check(status == CLUA_DONE && out->nodes[0].bits == 42, "a function reference is called", NULL);
  clua_end_taken(h->vm);
  clua_release(h->vm, function);
  clua_release(h->vm, thread);
  clua_release(h->vm, file);

  clua_value table[] = {{.type = CLUA_TABLE, .length = 0}};
  clua_values values = {table, 1, NULL};
  int32_t ref, copy;
  check(clua_make_reference(h->vm, &values, &ref) == CLUA_OK && clua_retain(h->vm, ref, &copy) == CLUA_OK,
        "a table of the host's", NULL);
  clua_value pair[] = {bytes("key", 3), integer(5)};
  clua_values field = {pair, 2, NULL}, read, key = {pair, 1, NULL};
  check(clua_set_field(h->vm, ref, &field) == CLUA_OK, "set a field", NULL);
  clua_release(h->vm, ref);
  check(clua_get_field(h->vm, copy, &key, false, &read) == CLUA_OK && read.nodes[0].bits == 5,
        "read it through another reference", NULL);
  clua_value nothing = {.type = CLUA_NIL};
  clua_values bad = {(clua_value[]){nothing, nothing}, 2, NULL};
  check(clua_set_field(h->vm, copy, &bad) != CLUA_OK, "a nil key fails", NULL);
  clua_release(h->vm, copy);
}

static void objects(harness *h) {
  harness_run(h,
              "local a = host.thing(4) log(a.number, a:double(), a[7], #a, tostring(a)) a.number = 6 log(a.number) "
              "a.data = {1, 'x'} log(a.data[2]) "
              "log(tostring(pcall(function() a:nope() end)))",
              "");
  expect_log(h, "an object's fields, methods, length, data", "4|8|70|5|a thing|6|x|false|");
  harness_run(
      h, "local a <close> = host.thing(1) log(tostring(getmetatable(a))) log(tostring(pcall(setmetatable, a, {})))",
      "");
  expect_log(h, "its metatable is out of reach, <close> works", "false|false|closed|");
  harness_run(
      h, "local ok, e = pcall(host.thing(1).bad, {}) log(e) local ok, e = pcall(host.thing(1).bad, io.stdout) log(e)",
      "");
  expect_log(h, "a wrong self is an argument error",
             "bad argument #1 to '?' (thing expected)|bad argument #1 to '?' (thing expected)|");
  harness_run(h,
              "local a, b = host.thing(1), host.thing(2) "
              "log(a:put('abc'), a:put('', b), a:put('ab', b), a.number) "
              "log(a:put('no'), a:put('no', b), a:put(), a:put(1), a:put('ab', nil), a:put('ab', b, 1), a:put({}), "
              "a:put('ab', io.stdout)) log(a.put(a, 'xyz'), a.number) "
              "log(pcall(a.put, io.stdout, 'ab')) log(pcall(a.put))",
              "");
  expect_log(h, "the quick way of a method, and what it leaves to the host function",
             "1|1|1|406|2|3|1|2|3|4|2|3|1|409|0|bad argument #1 to '?' (thing expected)|0|bad argument #1 to '?' (thing "
             "expected)|");
  harness_run(h, "local _, t = host.make() log(t.number) collectgarbage()", "");
  expect_log(h, "an object in a tree of results", "0|");
  clua_gc_cycle(h->vm);
  check(h->live_things == 0, "collected objects are released", NULL);

  thing *t = calloc(1, sizeof *t);
  t->references = 1;
  h->live_things++;
  int32_t a, b;
  check(clua_make_object(h->vm, h->thing_class, t, &a) == CLUA_OK &&
            clua_make_object(h->vm, h->thing_class, t, &b) == CLUA_OK,
        "make", NULL);
  clua_value two[] = {{.type = CLUA_REF, .bits = (uint64_t)a},
                      {.type = CLUA_REF, .bits = (uint64_t)b},
                      {.type = CLUA_OBJECT, .info = h->thing_class, .bits = (uint64_t)(uintptr_t)t}};
  int32_t status, f = load(h, "local a, b, c = ... return rawequal(a, b), rawequal(b, c), c");
  const clua_values *out = pass(h, f, two, 3, &status);
  check(out->nodes[0].bits && out->nodes[1].bits && out->nodes[2].type == CLUA_OBJECT &&
            out->nodes[2].bits == (uint64_t)(uintptr_t)t,
        "one Lua object for one host object", NULL);
  clua_end_taken(h->vm);
  clua_release(h->vm, f);
  clua_release(h->vm, a);
  clua_release(h->vm, b);
  clua_gc_cycle(h->vm);
  check(t->references == 1, "and it lets go of it", NULL);
  free(t);
  h->live_things--;
}

static void host_results(harness *h) {
  harness_run(h, "log(host.twice('ab'), #host.twice(('x'):rep(2048)), host.twice('') == '')", "");
  expect_log(h, "bytes that go with the host's frame", "abab|4096|1|");
  harness_run(h, "local t = host.tree({1, {k = 'v', f = false}}) log(t[1], t[2].k, t[2].f)", "");
  expect_log(h, "a table read and given back", "1|v|0|");
  harness_run(h, "local t = {} t.t = t log(tostring(select(2, pcall(host.tree, t))))", "");
  expect_log(h, "a cycle is the caller's error", "main.lua:1: table contains itself|");
  harness_run(h, "host.log('1', '2', '3', '4', '5', '6', '7', '8', '9')", "");
  expect_log(h, "more arguments than fit inline", "1|2|3|4|5|6|7|8|");
}

static void code(harness *h) {
  int32_t f = 0;
  size_t n;
  check(clua_load(h->vm, "return 1 +", 10, "bad.lua", 7, 0, &f) == CLUA_FAILED_SYNTAX, "a syntax error", NULL);
  expect_text("names the place", clua_message(h->vm, &n), "bad.lua:1: unexpected symbol near <eof>");
  check(clua_load(h->vm, "\x1bLua", 4, "b", 1, 0, &f) == CLUA_FAILED_SYNTAX, "bytecode is refused", NULL);
  const char *script = "#!/usr/bin/env lua\nreturn debug.traceback('x')";
  check(clua_load(h->vm, script, strlen(script), "s", 1, 0, &f) == CLUA_OK, "a #! line", NULL);
  clua_release(h->vm, f);
  harness_run(h,
              "log(tostring(string.dump)) log(select(2, load('\\27Lua'))) log(tostring(load('return x', 'n', 't', {x = "
              "5})())) log(tostring(undefined))",
              "");
  expect_log(h, "load is text only", "nil|attempt to load a binary chunk (mode is 't')|5|nil|");
  harness_run(
      h, "local parts = {'return ', '4', '2'} local i = 0 log(load(function() i = i + 1 return parts[i] end)())", "");
  expect_log(h, "load from a function", "42|");
  harness_run(h,
              "log(tostring(pcall(setmetatable, {}, {__gc = print}))) log(tostring(getmetatable(''))) string.sub = nil "
              "log(('abc'):sub(2))",
              "");
  h->log[h->length] = 0;
  check(strcmp(h->log, "false|false|bc|") == 0, "strings keep their methods", h->log);
  h->length = 0;
}

int main(void) {
  clua_limits limits = default_limits;
  harness *h = harness_open(&limits, false);
  scalars(h);
  trees(h);
  references(h);
  objects(h);
  host_results(h);
  code(h);
  harness_close(h);
  return finish("values");
}
