// Tasks: pooled coroutines. A task begins as a C function inside lua_resume, which pushes function and arguments and
// then calls them protected: every allocation of a message's delivery fails into that frame. The coroutine ends
// normally even when the script failed, so it goes back to the pool; <close> handlers run inside the task and may
// wait and be preempted.
#include "clua_private.h"
#include <stdlib.h>

#define INDEX_BITS 24
#define POOL_MIN 256
#define TRIM_EVERY 16  // tasks: so fast the pool shrinks after a burst

// ---------------------------------------------------------------- the table of tasks

task *task_find(const clua_vm *v, uint64_t id) {
  uint32_t i = (uint32_t)(id & ((1u << INDEX_BITS) - 1));
  task *t = i < v->task_count ? v->tasks[i] : NULL;
  return t && t->id == id ? t : NULL;
}

bool clua_task_exists(const clua_vm *v, uint64_t id) { return task_find(v, id) != NULL; }

static bool grow_table(clua_vm *v) {
  uint32_t old = v->task_capacity, capacity = old ? old * 2 : 64;
  if (capacity > 1u << INDEX_BITS) return false;
  task **tasks = vm_realloc(v, v->tasks, old * sizeof *tasks, capacity * sizeof *tasks);
  if (tasks == NULL) return false;
  v->tasks = tasks;
  uint32_t *free_index = vm_realloc(v, v->free_index, old * sizeof *free_index, capacity * sizeof *free_index);
  if (free_index == NULL) return false;
  v->free_index = free_index;
  v->task_capacity = capacity;
  return true;
}

static int new_coroutine(lua_State *L) {
  task *t = lua_touserdata(L, 1);
  t->co = lua_newthread(L);
  *extra_of(t->co) = (uintptr_t)vm_of(L);
  t->co_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

static task *new_task(clua_vm *v) {
  if (v->free_count == 0 && v->task_count == v->task_capacity && !grow_table(v)) return NULL;
  task *t = vm_realloc(v, NULL, 0, sizeof *t);
  if (t == NULL) return NULL;
  memset(t, 0, sizeof *t);
  t->co_ref = LUA_NOREF;
  if (protect(v, new_coroutine, t) != CLUA_OK) {
    free(t);
    return NULL;
  }
  t->index = v->free_count ? v->free_index[--v->free_count] : v->task_count++;
  v->tasks[t->index] = t;
  v->stats.coroutines_made++;
  return t;
}

task *task_take(clua_vm *v) {
  task *t = v->pool;
  if (t) {
    v->pool = t->next_free;
    v->pooled--;
  } else if ((t = new_task(v)) == NULL) {
    return NULL;
  }
  *t = (task){.co = t->co,
              .co_ref = t->co_ref,
              .index = t->index,
              .id = ++v->next_serial << INDEX_BITS | t->index,
              .state = TASK_NEW,
              .pending = LUA_NOREF,
              .handle = LUA_NOREF};
  if (++v->live > v->pool_target) v->pool_target = v->live;  // as many coroutines are kept as were in use at once
  v->stats.tasks_started++;
  return t;
}

static void drop(clua_vm *v, task *t) {
  v->tasks[t->index] = NULL;
  v->free_index[v->free_count++] = t->index;
  unref(v, &t->co_ref);
  free(t);
}

static void drop_pooled(clua_vm *v) {
  task *t = v->pool;
  v->pool = t->next_free;
  v->pooled--;
  drop(v, t);
}

void forget_texts(task *t) {
  free(t->code);
  free(t->reason);
  free(t->no_wait);
  t->code = t->reason = t->no_wait = NULL;
}

// `clean`: the coroutine ended well and its stack is empty, so it can begin again.
void task_free(clua_vm *v, task *t, bool clean) {
  v->live--;
  t->id = 0;
  if (t->pending > 0) unref(v, &t->pending);
  if (t->handle > 0) unref(v, &t->handle);
  if (t->cancelled || t->killed || t->no_wait) forget_texts(t);
  if (*extra_of(t->co) != (uintptr_t)v) *extra_of(t->co) = (uintptr_t)v;
  if (++v->frees % TRIM_EVERY == 0 && v->pool_target > v->live) v->pool_target--;
  uint32_t keep = v->pool_target > POOL_MIN ? v->pool_target : POOL_MIN;
  if (v->pooled > keep) drop_pooled(v);
  if (!clean || v->pooled >= keep) {
    drop(v, t);
    return;
  }
  t->state = TASK_FREE;
  t->next_free = v->pool;
  v->pool = t;
  v->pooled++;
}

// ---------------------------------------------------------------- ready queue

void task_ready(clua_vm *v, task *t) {
  if (t->state == TASK_READY) return;
  t->state = TASK_READY;
  t->late = true;
  t->next_ready = NULL;
  if (v->ready_tail)
    v->ready_tail->next_ready = t;
  else
    v->ready_head = t;
  v->ready_tail = t;
  v->ready++;
  if (v->ready_told) return;
  v->ready_told = true;
  v->host.ready(v->host.context);
}

void clua_run_ready_begin(clua_vm *v) { v->ready_told = true; }

bool clua_run_ready_end(clua_vm *v) {
  v->ready_told = false;
  if (v->ready_head == NULL) return false;
  v->ready_told = true;
  v->host.ready(v->host.context);
  return true;
}

// ---------------------------------------------------------------- cancelling, killing

#define REASON_MAX 400

static char *copy_text(const char *s, size_t n) {
  if (n > REASON_MAX) n = REASON_MAX;
  char *copy = malloc(n + 1);
  if (copy == NULL) return NULL;
  memcpy(copy, s, n);
  copy[n] = 0;
  return copy;
}

// Its turn comes, and with it the end of its wait.
static void break_off(clua_vm *v, task *t) {
  if (t->state != TASK_WAITING) return;
  uint64_t wait = t->wait_serial;
  bool joining = t->joining;
  task_ready(v, t);
  if (!joining) v->host.abandoned(v->host.context, t->id, wait);
}

static void cancel(clua_vm *v, task *t, const char *code, size_t code_length, const char *reason, size_t length) {
  if (t->cancelled || t->killed || t->state == TASK_ENDING) return;
  t->cancelled = true;
  t->code = copy_text(code, code_length);
  t->reason = copy_text(reason, length);
  break_off(v, t);
}

void task_cancel(clua_vm *v, task *t, const char *code, const char *reason) {
  cancel(v, t, code, strlen(code), reason, strlen(reason));
}

bool clua_cancel(clua_vm *v, uint64_t id, const char *code, size_t code_length, const char *reason,
                 size_t reason_length) {
  task *t = task_find(v, id);
  if (t == NULL) return false;
  cancel(v, t, code, code_length, reason, reason_length);
  return true;
}

bool clua_kill(clua_vm *v, uint64_t id, const char *reason, size_t length) {
  task *t = task_find(v, id);
  if (t == NULL || t->state == TASK_ENDING) return false;
  if (t->killed) return true;
  t->killed = true;
  free(t->reason);
  t->reason = copy_text(reason, length);
  if (t->state == TASK_RUNNING && v->running) {  // the host was called by this very task
    v->armed = 1;
    watch_hook(v->running);
  }
  break_off(v, t);
  return true;
}

// ---------------------------------------------------------------- listing

uint32_t clua_tasks(const clua_vm *v, uint64_t tag, uint64_t mask, uint64_t *out, uint32_t capacity) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < v->task_count; i++) {
    const task *t = v->tasks[i];
    if (t == NULL || t->id == 0 || t->state == TASK_ENDING || ((t->tag ^ tag) & mask)) continue;
    if (count < capacity) out[count] = t->id;
    count++;
  }
  return count;
}
