// Running tasks. A task begins as a C function inside lua_resume, which pushes function and arguments and then calls
// them protected: every allocation of a message's delivery fails into that frame. The coroutine ends normally even when
// the script failed, so it goes back to the pool; <close> handlers run inside the task and may wait and be preempted.
#include "clua_private.h"
#include <stdlib.h>

// ---------------------------------------------------------------- first code of a task

static int task_done(lua_State *L, int status, lua_KContext context) {
  (void)context;
  task *t = vm_of(L)->cur;
  int count = lua_gettop(L) - 1;
  t->failed = status != LUA_OK && status != LUA_YIELD;
  t->status = status;
  if (t->handle > 0 && !vm_of(L)->killing)
    keep_results(L, t, t->failed ? lua_gettop(L) : 2, t->failed ? 1 : count, !t->failed);
  return t->failed ? 1 : count;
}

static int raise_cancelled_here(lua_State *L) { return raise_cancelled(L, vm_of(L)->cur); }

int task_entry(lua_State *L) {
  clua_vm *v = vm_of(L);
  task *t = v->cur;
  int count;
  if (t->cancelled) {  // before it ever ran
    lua_settop(L, 0);
    lua_pushcfunction(L, task_message_handler);
    lua_pushcfunction(L, raise_cancelled_here);
    count = 0;
  } else if (t->spawned) {  // function and arguments are on the stack already
    count = lua_gettop(L) - 1;
    lua_pushcfunction(L, task_message_handler);
    lua_insert(L, 1);
  } else {
    const clua_values *in = v->in;
    v->in = NULL;
    lua_pushcfunction(L, task_message_handler);
    lua_rawgeti(L, LUA_REGISTRYINDEX, v->start_ref);
    push_values(L, in);
    count = (int)in->count;
  }
  int wanted = t->flags & CLUA_WANTS_RESULTS || t->handle > 0 ? LUA_MULTRET : 0;
  return task_done(L, lua_pcallk(L, count, wanted, 1, 0, task_done), 0);
}

// ---------------------------------------------------------------- running

// True when another task waits for this one and is given its end.
static bool end_family(clua_vm *v, task *t) {
  for (task *c = t->child, *next; c; c = next) {  // children never outlive their parent
    next = c->sibling;
    c->parent = c->sibling = NULL;
    task_cancel(v, c, "cancelled", "the task that started it has ended");
  }
  t->child = NULL;
  if (t->parent)
    for (task **link = &t->parent->child; *link; link = &(*link)->sibling)
      if (*link == t) {
        *link = t->sibling;
        break;
      }
  t->parent = NULL;
  return t->handle > 0 && wake_joiners(v, t);
}

static int end_well(clua_vm *v, task *t, int results) {
  v->end = (clua_end){.task = t->id, .tag = t->tag, .kind = CLUA_OK, .late = t->late};
  if (t->child || t->parent || t->handle > 0) v->end.joined = end_family(v, t);
  if (!(t->flags & CLUA_WANTS_RESULTS)) {
    if (results) lua_settop(t->co, 0);
    task_free(v, t, true);
    return CLUA_DONE;
  }
  t->state = TASK_ENDING;
  v->ended = t;
  enum read_mode mode = t->flags & CLUA_TABLES_AS_REFS ? READ_TABLE_REFS : READ_COPY;
  int kind = read_values(v, t->co, lua_gettop(t->co) - results + 1, results, mode, &v->end.values);
  if (kind == CLUA_OK) return CLUA_DONE;
  v->end.kind = kind;  // the results cannot cross: too deep, a cycle, no memory
  v->end.message = v->message.bytes;
  v->end.message_length = v->message.length;
  v->stats.errors++;
  return CLUA_FAILED;
}

static int end_badly(clua_vm *v, task *t) {
  t->state = TASK_ENDING;
  t->failed = true;
  if (v->killing)
    v->stats.kills++;
  else
    v->stats.errors++;
  describe_failure(v, t);
  v->end.joined = end_family(v, t);
  v->ended = t;
  return CLUA_FAILED;
}

void close_coroutine(clua_vm *v, lua_State *co) {
  if (v->close_depth >= CLOSE_DEPTH_MAX) return;
  bool chain_ok = v->chain_ok;
  lua_State *running = v->running, *closing = v->closing;
  v->chain_ok = false;
  v->running = v->closing = co;
  v->close_depth++;
  lua_resetthread(co);
  v->close_depth--;
  v->closing = closing;
  v->running = running;
  v->chain_ok = chain_ok;
}

// The <close> handlers of everything the task stopped in, innermost first. Once their time is up the rest is only
// unwound.
static void close_chain(clua_vm *v) {
  for (int i = v->depth - 1; i >= 0; i--) {
    lua_State *co = v->chain[i];
    *extra_of(co) = (uintptr_t)v;
    if (v->killing)
      watch_hook(co);
    else
      lua_sethook(co, NULL, 0, 0);
    close_coroutine(v, co);
    lua_settop(co, 0);
  }
  v->depth = 0;
}

// The task is suspended and never resumed. Its <close> handlers get a short time of their own.
static int end_killed(clua_vm *v, task *t, enum kill_reason why) {
  if (!clua_is_attached_here(v)) clua_attach(v);
  v->cur = t;
  find_chain(v, t);
  if (!v->killing) watch_note(v->chain[v->depth - 1], why);
  why = v->killing;
  t->state = TASK_ENDING;
  text trace = v->trace;  // handlers may fail and overwrite it
  v->trace = (text){0};
  v->killing = KILL_NO;
  atomic_store_explicit(&v->budget_us, v->limits.close_us, memory_order_relaxed);
  text killed_by = v->killed_by;
  v->killed_by = (text){0};
  t->spent_us = 0;
  v->op = OP_NONE;
  v->closing = NULL;
  v->close_depth = 0;
  watch_enter(v, t->co);
  close_chain(v);
  watch_leave(v);
  v->cur = NULL;
  free(v->killed_by.bytes);
  free(v->trace.bytes);
  v->killed_by = killed_by;
  v->trace = trace;
  v->killing = why;
  t->status = LUA_ERRRUN;
  t->tainted = true;
  return end_badly(v, t);
}

int task_run(clua_vm *v, task *t) {
  lua_State *co = t->co;
  int arguments = 0, results = 0;
  if (!clua_is_attached_here(v)) clua_attach(v);  // the watchdog's signal must reach the thread that runs Lua
  v->cur = t;
  v->op = OP_NONE;
  v->killing = KILL_NO;
  v->chain_ok = true;
  v->chain[0] = co;
  v->depth = 1;
  v->closing = NULL;
  v->close_depth = 0;
  atomic_store_explicit(&v->budget_us, v->limits.run_us, memory_order_relaxed);
  if (t->state == TASK_NEW || (t->state == TASK_READY && lua_status(co) == LUA_OK)) {
    if (t->spawned)
      arguments = lua_gettop(co) - 1;
    else
      lua_pushcfunction(co, task_entry);
  }
  if (lua_gethook(co)) lua_sethook(co, NULL, 0, 0);
  t->state = TASK_RUNNING;

  watch_enter(v, co);
  int status = lua_resume(co, v->L, arguments, &results);
  watch_leave(v);
  v->cur = NULL;
  v->depth = 0;
  if (v->result_count || v->result_length) forget_results(v);  // of a host call whose push failed

  if (status == LUA_OK) return t->failed ? end_badly(v, t) : end_well(v, t, results);
  if (status != LUA_YIELD) {  // the entry frame itself: no memory before the script ran
    t->status = status;
    t->tainted = true;
    text_set(&v->trace, "", 0);
    return end_badly(v, t);
  }
  enum engine_op op = v->op;
  v->op = OP_NONE;
  t->late = true;
  switch (op) {
    case OP_PARK:
      t->state = TASK_WAITING;
      t->spent_us = 0;
      if (t->cancelled || t->killed || t->has_pending) task_ready(v, t);
      break;
    case OP_SLICE:
      t->spent_us += v->slice_us;
      v->stats.slices++;
      task_ready(v, t);
      break;
    case OP_KILL: return end_killed(v, t, v->killing);
    case OP_NONE:
      if (t->flags & FLAGS_NO_WAIT) return end_killed(v, t, KILL_YIELD);  // a C module's own yield; ours refuses
      // a bare coroutine.yield() in the task's body: let others run
      lua_pop(co, results);
      t->spent_us = 0;
      task_ready(v, t);
      break;
  }
  return CLUA_WAITING;
}

// ---------------------------------------------------------------- doors

static task *next_ready(clua_vm *v) {
  task *t = v->ready_head;
  if (t == NULL) return NULL;
  v->ready_head = t->next_ready;
  if (v->ready_head == NULL) v->ready_tail = NULL;
  v->ready--;
  return t;
}

// A small heap need not be collected each time it has doubled: with 300 KiB alive and messages of 1 KiB the collector
// would walk all of it every few hundred messages. Some MiB of garbage are let gather first.
static void tune_collector(clua_vm *v) {
  if (v->starts % (16 * TUNE_EVERY) == 0 || v->used < v->low) v->low = v->used;
  size_t spare = v->limits.memory / 16 < GARBAGE_MAX ? v->limits.memory / 16 : GARBAGE_MAX;
  size_t pause = 100 + 100 * spare / (v->low ? v->low : 1);
  lua_gc(v->L, LUA_GCINC, pause < 200 ? 200 : pause > 1000 ? 1000 : (int)pause, 200, 0);
}

int32_t clua_start(clua_vm *v, int32_t function, const clua_values *arguments, uint64_t tag, uint32_t flags) {
  task *t = inside(v) ? NULL : task_take(v);
  if (t == NULL) {
    v->end = (clua_end){.tag = tag, .kind = CLUA_FAILED_MEMORY, .message = "not enough memory", .message_length = 17};
    return CLUA_FAILED;
  }
  if (++v->starts % TUNE_EVERY == 0) tune_collector(v);
  t->tag = tag;
  t->flags = flags;
  v->last_started = t->id;
  v->start_ref = function;
  v->in = arguments;
  v->in_raise = false;
  int status = task_run(v, t);
  v->in = NULL;
  return status;
}

int32_t clua_run_one(clua_vm *v) {
  task *t = next_ready(v);
  if (t == NULL) return CLUA_NO_TASK;
  if (!t->killed) return task_run(v, t);
  v->killing = KILL_NO;
  return end_killed(v, t, KILL_HOST);
}

uint64_t clua_last_started(const clua_vm *v) { return v->last_started; }

const clua_end *clua_last_end(const clua_vm *v) { return &v->end; }

void clua_end_taken(clua_vm *v) {
  task *t = v->ended;
  v->ended = NULL;
  if (t == NULL) return;
  if (!t->tainted) lua_settop(t->co, 0);
  task_free(v, t, !t->tainted);
}

// ---------------------------------------------------------------- the engine's own small runs

int run_quick(clua_vm *v, lua_CFunction f, lua_State *from, int index, text *out) {
  task *t = task_take(v);
  if (t == NULL) return CLUA_FAILED_MEMORY;
  if (!lua_checkstack(t->co, 8) || !lua_checkstack(from, 2)) {
    task_free(v, t, true);
    return CLUA_FAILED_MEMORY;
  }
  t->spawned = true;
  t->flags = CLUA_NO_WAIT | CLUA_WANTS_RESULTS | FLAG_QUIET;
  lua_pushcfunction(t->co, task_entry);
  lua_pushcfunction(t->co, f);
  lua_pushvalue(from, index);
  lua_xmove(from, t->co, 1);
  enum kill_reason killing = v->killing;
  uint32_t run_us = v->limits.run_us;
  text trace = v->trace;
  v->trace = (text){0};
  v->limits.run_us = v->limits.close_us;
  int kind = CLUA_FAILED_ERROR;
  if (task_run(v, t) == CLUA_DONE && v->end.values.count == 1 && v->end.values.nodes[0].type == CLUA_STRING) {
    const clua_value *s = v->end.values.nodes;
    text_set(out, (const char *)(uintptr_t)s->bits, s->length);
    kind = CLUA_OK;
  }
  clua_end_taken(v);
  v->limits.run_us = run_us;
  free(v->trace.bytes);
  v->trace = trace;
  v->killing = killing;
  return kind;
}
