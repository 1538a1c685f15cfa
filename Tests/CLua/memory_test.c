// Failing allocations: the 0th, 1st, 2nd, ... through every door, until the door succeeds. Afterwards no host object
// may be left that was not there before, no task, and the VM must work.
#include "harness.h"
#include <stdlib.h>
#include <string.h>

typedef bool (*door)(harness *h);  // true: it succeeded

static clua_value text(const char *s) {
  return (clua_value){.type = CLUA_STRING, .bits = (uint64_t)(uintptr_t)s, .length = strlen(s)};
}
static int32_t script, waiting, copying;

static bool settled(harness *h, int32_t status) {
  bool ok = status == CLUA_DONE;
  const clua_values *values = &clua_last_end(h->vm)->values;
  for (size_t i = 0; ok && i < values->count; i++)  // no tables among these results: trees are single nodes
    if (values->nodes[i].type == CLUA_REF) clua_release(h->vm, (int32_t)values->nodes[i].bits);
  if (status == CLUA_FAILED && getenv("MEMORY_VERBOSE")) printf("   %s\n", clua_last_end(h->vm)->message);
  if (status == CLUA_DONE || status == CLUA_FAILED) clua_end_taken(h->vm);
  return ok;
}

static bool door_open(harness *h) {
  (void)h;
  return true;
}

static bool door_load(harness *h) {
  int32_t f;
  const char *source = "local a = {} for i = 1, 10 do a[i] = function() return i .. 'x' end end return a";
  if (clua_load(h->vm, source, strlen(source), "name", 4, 0, &f) != CLUA_OK) return false;
  clua_release(h->vm, f);
  return true;
}

static bool door_environment(harness *h) {
  clua_value directories[] = {text("/tmp"), text("/usr/lib")};
  clua_values values = {directories, 2, NULL};
  int32_t e, m;
  if (clua_make_environment(h->vm, &values, "tag", 3, &e) != CLUA_OK) return false;
  bool ok = clua_environment_module(h->vm, e, "host", 4, &m) == CLUA_OK;
  if (ok) clua_release(h->vm, m);
  clua_release(h->vm, e);
  return ok;
}

static bool door_module(harness *h) {
  clua_named_function functions[] = {{"a", 0}, {"b", 1}};
  const char *prelude = "local m, host = ... m.c = function() return host.spawn end";
  return clua_define_module(h->vm, "another", functions, 2, functions, 1, prelude, strlen(prelude)) == CLUA_OK;
}

static bool no_quick_way(void *object, const char *bytes, size_t length, void *second) {
  return object == NULL && bytes == NULL && length == 0 && second == NULL;
}

static bool door_class(harness *h) {
  int32_t id;
  clua_named_function methods[] = {{"m", 0}};
  clua_class c = {.name = "some.class",
                  .methods = methods,
                  .method_count = 1,
                  .quick_method = "m",
                  .quick = no_quick_way,
                  .getter = 1,
                  .setter = 2,
                  .length = -1,
                  .to_string = 3,
                  .close = -1,
                  .call = -1,
                  .equals = -1,
                  .has_data = true,
                  .identity = true};
  return clua_define_class(h->vm, &c, &id) == CLUA_OK;
}

static bool door_object(harness *h) {
  thing *t = calloc(1, sizeof *t);
  t->references = 1;
  h->live_things++;
  int32_t ref = 0;
  bool ok = clua_make_object(h->vm, h->thing_class, t, &ref) == CLUA_OK;
  if (ok) clua_release(h->vm, ref);
  if (--t->references == 0) {
    h->live_things--;
    free(t);
  }
  return ok;
}

static bool door_reference(harness *h) {
  clua_value nodes[] = {{.type = CLUA_TABLE, .length = 2},
                        text("key"),
                        text("a value that is longer than forty characters, so that it is not interned"),
                        {.type = CLUA_INT, .bits = 1},
                        {.type = CLUA_TABLE, .length = 1},
                        text("x"),
                        text("y")};
  clua_values tree = {nodes, 1, NULL}, pair = {(clua_value[]){text("new key"), text("new value")}, 2, NULL},
              key = {(clua_value[]){text("key")}, 1, NULL}, out;
  int32_t ref = 0, copy = 0;
  if (clua_make_reference(h->vm, &tree, &ref) != CLUA_OK) return false;
  bool ok = clua_retain(h->vm, ref, &copy) == CLUA_OK;
  ok = ok && clua_set_field(h->vm, ref, &pair) == CLUA_OK && clua_get_field(h->vm, ref, &key, false, &out) == CLUA_OK &&
       clua_read(h->vm, ref, false, &out) == CLUA_OK;
  clua_release(h->vm, ref);
  if (copy > 0) clua_release(h->vm, copy);
  return ok;
}

static bool door_start(harness *h) {  // the script makes objects in every way, raises one, reads and gives back trees
  char big[5000];
  memset(big, 'b', sizeof big);
  clua_value nodes[] = {text("start"), {.type = CLUA_STRING, .bits = (uint64_t)(uintptr_t)big, .length = sizeof big}};
  clua_values values = {nodes, 2, NULL};
  return settled(h, clua_start(h->vm, script, &values, 5, CLUA_WANTS_RESULTS));
}

static bool door_resume(harness *h) {  // and its wait is always ended: with values, or with an error that says memory
  clua_values none = {NULL, 0, NULL};
  int32_t status = clua_start(h->vm, waiting, &none, 5, 0);
  if (status != CLUA_WAITING) return settled(h, status);
  char big[5000];
  memset(big, 'b', sizeof big);
  clua_value nodes[] = {{.type = CLUA_TABLE, .length = 1},
                        text("k"),
                        {.type = CLUA_STRING, .bits = (uint64_t)(uintptr_t)big, .length = sizeof big}};
  clua_values values = {nodes, 1, NULL};
  status = clua_resume(h->vm, h->receiver, h->receiver_wait, &values, false);
  check(status != CLUA_IGNORED, "a resume without memory still reaches the task", NULL);
  return settled(h, status);
}

static bool door_spawn(harness *h) {
  clua_value nodes[] = {text("an argument that is longer than forty characters for it to be allocated")};
  clua_values values = {nodes, 1, NULL};
  uint64_t id;
  if (clua_spawn(h->vm, script, &values, 1, 0, NULL, 0, &id) != CLUA_OK) return false;
  bool ok = true;
  for (int32_t status; (status = clua_run_one(h->vm)) != CLUA_NO_TASK;)
    if (status != CLUA_WAITING) {
      bool first = clua_last_end(h->vm)->task == id;
      bool well = settled(h, status);
      if (first) ok = well;
    }
  return ok;
}

static bool door_staged(harness *h) {  // modules from the host, a sentinel, a run that cannot wait
  static const char *const files[][2] = {{"/tmp/m.lua", "return {require('n')}"}, {"/tmp/n.lua", "return 'n'"}};
  memcpy(h->files, files, sizeof files);
  h->asked[0] = 0;
  harness_read_files(h);
  clua_value directory = text("/tmp");
  clua_values values = {&directory, 1, NULL}, none = {NULL, 0, NULL}, list;
  int32_t e = -1, f = -1;
  uint64_t task = 0;
  const char *source = "local ok, e = pcall(require('host').recv) return require('m')[1] .. tostring(e)";
  thing *t = calloc(1, sizeof *t);
  t->references = 1;
  h->live_things++;
  bool ok = clua_make_environment(h->vm, &values, "tag", 3, &e) == CLUA_OK &&
            clua_set_sentinel(h->vm, e, t) == CLUA_OK &&
            clua_load(h->vm, source, strlen(source), "s", 1, e, &f) == CLUA_OK &&
            clua_spawn(h->vm, f, &none, 5, CLUA_WANTS_RESULTS, "not here", 8, &task) == CLUA_OK;
  while (ok && task) {
    int32_t status = clua_run_one(h->vm);
    if (status == CLUA_NO_TASK) break;
    if (status != CLUA_WAITING) ok = settled(h, status);
  }
  int32_t search = -1;
  ok = ok && clua_holder_search(h->vm, t, &search) == CLUA_OK;
  clua_release(h->vm, search);
  ok = ok && clua_environment_files(h->vm, e, &list) == CLUA_OK && list.nodes[0].length == 4;
  if (--t->references == 0) {
    h->live_things--;
    free(t);
  }
  clua_release(h->vm, f);
  clua_release(h->vm, e);
  clua_set_reader(h->vm, -1);
  return ok;
}

static bool door_cancel(harness *h) {  // whatever memory there is, the task ends
  clua_values none = {NULL, 0, NULL};
  int32_t status = clua_start(h->vm, waiting, &none, 5, 0);
  if (status != CLUA_WAITING) return settled(h, status);
  check(clua_cancel(h->vm, h->receiver, "reloaded", 8, "new code", 8), "cancel finds the task", NULL);
  check(!settled(h, clua_run_one(h->vm)), "a cancelled task fails", NULL);
  return clua_last_end(h->vm)->kind == CLUA_FAILED_CANCELLED;
}

static bool door_kill(harness *h) {
  clua_values none = {NULL, 0, NULL};
  int32_t status = clua_start(h->vm, waiting, &none, 5, 0);
  if (status != CLUA_WAITING) return settled(h, status);
  check(clua_kill(h->vm, h->receiver, "new code", 8), "kill finds the task", NULL);
  settled(h, clua_run_one(h->vm));
  check(clua_last_end(h->vm)->kind == CLUA_FAILED_CANCELLED, "a killed task is cancelled", NULL);
  return h->length != 0;  // its <close> handler had what it needed
}

static bool door_copy(harness *h) {
  clua_values none = {NULL, 0, NULL};
  return settled(h, clua_start(h->vm, copying, &none, 5, CLUA_WANTS_RESULTS));
}

static const struct {
  const char *name;
  door run;
} doors[] = {{"nothing", door_open},        {"load", door_load},   {"environment", door_environment},
             {"module", door_module},       {"class", door_class}, {"object", door_object},
             {"reference", door_reference}, {"start", door_start}, {"resume", door_resume},
             {"spawn", door_spawn},         {"staged", door_staged},
             {"cancel", door_cancel},       {"kill", door_kill},   {"copy", door_copy}};

static void every_door(void) {
  clua_limits limits = default_limits;
  for (size_t d = 0; d < sizeof doors / sizeof *doors; d++) {
    harness *h = harness_open(&limits, false);
    script = harness_load(h,
                          "local a = host.thing(1) local _, b = host.make() a.data = b "
                          "local co = coroutine.wrap(function() return host.thing(2) end) local c = co() "
                          "local t = host.tree({x = {1, 2, 3}, f = print, s = ('s'):rep(100)}) "
                          "local u = host.spawn(function() return host.thing(4) end) u:cancel() "
                          "local ok, e = pcall(host.raise_thing) "
                          "if not ok and type(e) == 'string' then error(e, 0) end "
                          "local s = host.twice(('y'):rep(1500)) .. #m return s, t.x[1], c, function() return a end",
                          "door.lua");
    copying = harness_load(h,
                           "local s = {host.thing(1), {a = {1, 2}}} s.s = s local c = assert(host.copy_state(s)) "
                           "local n, path, what = host.check_state{x = {print}} "
                           "assert(path == 'state.x[1]') return c[2].a[2]",
                           "copy.lua");
    waiting = harness_load(h,
                           "local _ <close> = setmetatable({}, {__close = function() log('closed') end}) "
                           "local t = recv() local a = host.thing(5) "
                           "return #t.k, host.at_once({})",
                           "wait.lua");
    clua_gc_cycle(h->vm);
    int n = 0;
    bool done = false;
    for (; !done && n < 3000; n++) {
      h->length = 0;
      clua_fail_allocations(h->vm, n);
      done = doors[d].run(h);
      clua_fail_allocations(h->vm, -1);
      for (int32_t status; (status = clua_run_one(h->vm)) != CLUA_NO_TASK;) settled(h, status);
      clua_gc_cycle(h->vm);
      check(h->live_things == 0, "no live object", doors[d].name);
      if (h->live_things) printf("   %s: %d live after %d\n", doors[d].name, h->live_things, n);
      clua_stats s;
      clua_get_stats(h->vm, &s);
      check(s.tasks_live == 0, "no live task", doors[d].name);
      if (n % 7 == 0) {
        expect_works(h, doors[d].name, n);
        clua_gc_cycle(h->vm);
      }
    }
    check(done, "the door succeeds in the end", doors[d].name);
    if (getenv("MEMORY_VERBOSE")) printf("%-12s %d refused allocations\n", doors[d].name, n - 1);
    clua_release(h->vm, script);
    clua_release(h->vm, waiting);
    clua_release(h->vm, copying);
    harness_close(h);
  }
}

static void opening(void) {  // memory that does not suffice for a VM, in steps
  int opened = 0;
  for (size_t memory = 0; memory < 300000; memory += 997) {
    clua_limits limits = default_limits;
    limits.memory = memory;
    limits.reserve = 0;
    clua_host host = {0};
    clua_vm *vm = clua_open(&limits, &host, false);
    opened += vm != NULL;
    if (vm) clua_close(vm);
  }
  check(opened > 10 && opened < 300, "a VM opens when there is memory for it", NULL);
}

int main(void) {
  opening();
  every_door();
  return finish("memory");
}
