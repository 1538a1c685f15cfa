// What scripts in CLua's C tests can call: a log, sleeping, counted objects, failures of every kind.
#include "host.h"
#include <stdlib.h>
#include <string.h>

static double number(const clua_value *v) {
  double d;
  if (v->type == CLUA_INT) return (double)(int64_t)v->bits;
  memcpy(&d, &v->bits, sizeof d);
  return d;
}

static void add_log(harness *h, const char *s, size_t n) {
  if (h->length + n + 2 > sizeof h->log) return;
  memcpy(h->log + h->length, s, n);
  h->length += n;
  h->log[h->length++] = '|';
  h->log[h->length] = 0;
}

clua_value host_string(const char *s) {
  return (clua_value){.type = CLUA_STRING, .bits = (uint64_t)(uintptr_t)s, .length = strlen(s)};
}

enum {
  F_LOG,
  F_SLEEP,
  F_RECV,
  F_FAIL,
  F_THING,
  F_TWICE,
  F_AT_ONCE,
  F_TREE,
  F_CANCEL,
  F_GET,
  F_SET,
  F_LEN,
  F_STR,
  F_CLOSE,
  F_BAD,
  F_MAKE,
  F_RAISE_THING,
  F_SPAWN,
  F_KILL,
  F_READ,
  F_PUT
};

static int32_t at_once(harness *h, clua_call *c) {  // the answer comes before the wait begins
  clua_values values = {c->args, (size_t)(c->count < 8 ? c->count : 8), NULL};
  clua_resume(h->vm, c->task, c->wait, &values, false);
  return CLUA_WAIT;
}

static int32_t tree(harness *h, clua_call *c) {  // reads a table and gives it back
  clua_values out;
  if (clua_call_read(c, 0, &out) != CLUA_OK) {
    size_t n;
    c->results[0] = host_string(clua_message(h->vm, &n));
    c->result_count = 1;
    return CLUA_RAISE;
  }
  int32_t kind = clua_call_results(c, &out);
  size_t left = 1;
  for (size_t i = 0; left > 0; i++) {  // the references read are ours
    left--;
    if (out.nodes[i].type == CLUA_TABLE) left += 2 * out.nodes[i].length;
  }
  return kind == CLUA_OK ? CLUA_RETURN : CLUA_NO_MEMORY;
}

static int32_t make_thing(harness *h, clua_call *c) {  // by a reference that the push gives back
  thing *t = calloc(1, sizeof *t);
  t->references = 1;
  t->number = c->count ? (int)number(&c->args[0]) : 0;
  h->live_things++;
  int32_t ref;
  int32_t kind = clua_make_object(h->vm, h->thing_class, t, &ref);
  if (--t->references == 0) {
    h->live_things--;
    free(t);
  }
  if (kind != CLUA_OK) return CLUA_NO_MEMORY;
  c->results[0] = (clua_value){.type = CLUA_REF, .info = 1, .bits = (uint64_t)ref};
  c->result_count = 1;
  return CLUA_RETURN;
}

static int32_t thing_field(harness *h, clua_call *c, thing *t) {
  (void)h;
  c->result_count = 1;
  if (c->args[1].type == CLUA_INT)
    c->results[0] = (clua_value){.type = CLUA_INT, .bits = c->args[1].bits * 10};
  else if (c->args[1].length == 6)
    c->results[0] = (clua_value){.type = CLUA_INT, .bits = (uint64_t)t->number};
  else
    c->result_count = 0;
  return CLUA_RETURN;
}

static thing *self(clua_call *c) {
  return c->count && c->args[0].type == CLUA_OBJECT ? (thing *)(uintptr_t)c->args[0].bits : NULL;
}

static int32_t sleeps(harness *h, clua_call *c) {
  if (clua_call_can_wait(c) && h->sleeping < 4096)
    h->sleepers[h->sleeping++] = (sleeper){h->now + number(&c->args[0]), c->task, c->wait};
  return CLUA_WAIT;
}

static int32_t read_file(harness *h, clua_call *c) {
  const char *path = (const char *)(uintptr_t)c->args[0].bits, *tag = (const char *)(uintptr_t)c->args[1].bits;
  size_t length = strlen(h->asked);
  snprintf(h->asked + length, sizeof h->asked - length, "%s %s|", tag, path);
  c->result_count = 1;
  c->results[0] = (clua_value){.type = CLUA_NIL};
  if (strstr(path, "forbidden")) {
    c->results[0] = host_string("it is forbidden");
    return CLUA_RAISE;
  }
  for (int i = 0; i < 8; i++)
    if (h->files[i][0] && strcmp(h->files[i][0], path) == 0) {
      const char *text = h->files[i][1];
      if (clua_call_copy(c, text, strlen(text), &c->results[0]) != CLUA_OK) return CLUA_NO_MEMORY;
    }
  return CLUA_RETURN;
}

void harness_read_files(harness *h) { clua_set_reader(h->vm, F_READ); }

static int32_t host_call(void *context, clua_call *c) {
  harness *h = context;
  thing *t;
  switch (c->function) {
    case F_LOG:
      for (int i = 0; i < c->count && i < 8; i++) {
        char text[64];
        if (c->args[i].type == CLUA_STRING)
          add_log(h, (const char *)(uintptr_t)c->args[i].bits, c->args[i].length);
        else
          add_log(h, text,
                  (size_t)snprintf(text, sizeof text, "%.14g",
                                   c->args[i].type == CLUA_BOOL ? (double)c->args[i].bits : number(&c->args[i])));
      }
      return CLUA_RETURN;
    case F_SLEEP: return sleeps(h, c);
    case F_RECV:
      if (clua_call_can_wait(c)) {
        h->receiver = c->task;
        h->receiver_wait = c->wait;
      }
      return CLUA_WAIT;
    case F_FAIL:
      c->results[0] = host_string("it failed");
      c->result_count = 1;
      return CLUA_RAISE;
    case F_THING: return make_thing(h, c);
    case F_MAKE: {  // as a tree: retained while it waits to be pushed
      t = calloc(1, sizeof *t);
      t->references = 1;
      h->live_things++;
      clua_value nodes[2] = {{.type = CLUA_NIL},
                             {.type = CLUA_OBJECT, .info = h->thing_class, .bits = (uint64_t)(uintptr_t)t}};
      clua_values values = {nodes, 2, NULL};
      int32_t kind = clua_call_results(c, &values);
      if (--t->references == 0) {
        h->live_things--;
        free(t);
      }
      return kind == CLUA_OK ? CLUA_RETURN : CLUA_NO_MEMORY;
    }
    case F_RAISE_THING: {
      t = calloc(1, sizeof *t);
      t->references = 1;
      t->number = 77;
      h->live_things++;
      clua_value node = {.type = CLUA_OBJECT, .info = h->thing_class, .bits = (uint64_t)(uintptr_t)t};
      clua_values values = {&node, 1, NULL};
      int32_t kind = clua_call_results(c, &values);
      if (--t->references == 0) {
        h->live_things--;
        free(t);
      }
      return kind == CLUA_OK ? CLUA_RAISE_VALUE : CLUA_NO_MEMORY;
    }
    case F_TWICE: {
      char text[4096];
      if (c->args[0].type != CLUA_STRING) {
        c->results[0] = host_string("string expected");
        c->results[1] = (clua_value){.type = CLUA_INT, .bits = 0};
        return CLUA_BAD_ARGUMENT;
      }
      size_t n = c->args[0].length < 2048 ? c->args[0].length : 2048;
      memcpy(text, (void *)(uintptr_t)c->args[0].bits, n);
      memcpy(text + n, text, n);
      if (clua_call_copy(c, text, 2 * n, &c->results[0]) != CLUA_OK) return CLUA_NO_MEMORY;
      memset(text, 'X', sizeof text);
      c->result_count = 1;
      return CLUA_RETURN;
    }
    case F_AT_ONCE: return at_once(h, c);
    case F_TREE: return tree(h, c);
    case F_CANCEL: clua_cancel(h->vm, (uint64_t)number(&c->args[0]), "cancelled", 9, "by host", 7); return CLUA_RETURN;
    case F_KILL: clua_kill(h->vm, (uint64_t)number(&c->args[0]), "by host", 7); return CLUA_RETURN;
    case F_READ: return read_file(h, c);
    case F_SPAWN: {
      int32_t ref;
      uint64_t id;
      if (clua_call_reference(c, 0, &ref) != CLUA_OK) return CLUA_NO_MEMORY;
      clua_values values = {c->args + 1, (size_t)(c->count - 1), NULL};
      int32_t kind = clua_spawn(h->vm, ref, &values, 9, 0, NULL, 0, &id);
      clua_release(h->vm, ref);
      return kind == CLUA_OK ? CLUA_RETURN : CLUA_NO_MEMORY;
    }
    default: break;
  }
  t = self(c);
  if (t == NULL) {
    c->results[0] = host_string("thing expected");
    c->results[1] = (clua_value){.type = CLUA_INT, .bits = 0};
    return CLUA_BAD_ARGUMENT;
  }
  c->result_count = 1;
  switch (c->function) {
    case F_GET: return thing_field(h, c, t);
    case F_SET:
      t->number = (int)number(&c->args[2]);
      c->result_count = 0;
      return CLUA_RETURN;
    case F_LEN: c->results[0] = (clua_value){.type = CLUA_INT, .bits = 5}; return CLUA_RETURN;
    case F_STR: c->results[0] = host_string("a thing"); return CLUA_RETURN;
    case F_PUT: c->results[0] = (clua_value){.type = CLUA_INT, .bits = (uint64_t)c->count}; return CLUA_RETURN;
    case F_CLOSE:
      add_log(h, "closed", 6);
      c->result_count = 0;
      return CLUA_RETURN;
    default: return CLUA_NO_MEMORY;
  }
}

// thing:put(bytes[, thing]): what begins with "n" is left to the host function, which answers with its count of arguments.
static bool quick_put(void *object, const char *bytes, size_t length, void *second) {
  if (length && bytes[0] == 'n') return false;
  ((thing *)object)->number += (int)length + (second ? 100 * ((thing *)second)->number : 0);
  return true;
}

static void retain(void *context, void *object) {
  (void)context;
  ((thing *)object)->references++;
}

static void release(void *context, void *object) {
  thing *t = object;
  if (--t->references) return;
  ((harness *)context)->live_things--;
  free(t);
}

static void ready(void *context) { ((harness *)context)->ready_calls++; }
static void abandoned(void *context, uint64_t task, uint64_t wait) {
  (void)task;
  (void)wait;
  ((harness *)context)->abandoned++;
}
static void print(void *context, const char *tag, size_t tag_length, const char *text, size_t length) {
  (void)tag;
  (void)tag_length;
  add_log(context, text, length);
}
static void exits(void *context, int32_t code) {
  harness *h = context;
  h->exits++;
  h->exit_code = code;
}

static const char prelude[] =
    "local module, host = ...\n"
    "for _, k in ipairs{'spawn', 'spawn_child', 'join', 'join_any', 'cancel', 'is_cancelled', 'can_wait', 'task_id', "
    "'self', 'copy_state', 'check_state'} do module[k] = host[k] end\n"
    "local C = host.class_methods('test.thing')\n"
    "function C:double() return self.number * 2 end\n"
    "function module.fail_in_prelude() host.fail() end\n"
    "function module.gather(...)\n"
    "  local tasks, out = {}, {}\n"
    "  for i = 1, select('#', ...) do tasks[i] = host.spawn_child((select(i, ...))) end\n"
    "  local left = {table.unpack(tasks)}\n"
    "  while #left > 0 do\n"
    "    local i = host.join_any(table.unpack(left))\n"
    "    local ok, e = host.join(table.remove(left, i))\n"
    "    if not ok then for _, t in ipairs(left) do host.cancel(t, 'sibling failed') end\n"
    "      for _, t in ipairs(left) do host.join(t) end error(e, 0) end\n"
    "  end\n"
    "  for i, t in ipairs(tasks) do out[i] = select(2, host.join(t)) end\n"
    "  return table.unpack(out, 1, #tasks)\n"
    "end\n";

static const clua_named_function functions[] = {{"log", F_LOG},
                                                {"sleep", F_SLEEP},
                                                {"recv", F_RECV},
                                                {"thing", F_THING},
                                                {"twice", F_TWICE},
                                                {"at_once", F_AT_ONCE},
                                                {"tree", F_TREE},
                                                {"cancel_id", F_CANCEL},
                                                {"kill_id", F_KILL},
                                                {"fail", F_FAIL},
                                                {"make", F_MAKE},
                                                {"raise_thing", F_RAISE_THING},
                                                {"host_spawn", F_SPAWN}};
static const clua_named_function hidden[] = {{"fail", F_FAIL}};
static const clua_named_function methods[] = {{"nap", F_SLEEP}, {"bad", F_BAD}, {"put", F_PUT}};

clua_host host_of(harness *h) {
  return (clua_host){.context = h,
                     .call = host_call,
                     .retain = retain,
                     .release = release,
                     .ready = ready,
                     .abandoned = abandoned,
                     .print = print,
                     .exit = exits};
}

int32_t host_define(harness *h) {
  clua_class c = {.name = "test.thing",
                  .methods = methods,
                  .method_count = 3,
                  .quick_method = "put",
                  .quick = quick_put,
                  .getter = F_GET,
                  .setter = F_SET,
                  .length = F_LEN,
                  .to_string = F_STR,
                  .close = F_CLOSE,
                  .call = -1,
                  .equals = -1,
                  .has_data = true,
                  .identity = true,
                  .plain = true};
  int32_t kind = clua_define_class(h->vm, &c, &h->thing_class);
  if (kind == CLUA_OK)
    kind = clua_define_module(h->vm, "host", functions, sizeof functions / sizeof *functions, hidden, 1, prelude,
                              sizeof prelude - 1);
  return kind;
}
