// Tasks started by tasks. host.spawn gives a handle; join waits for it, cancel breaks its waits off. The VM is never
// re-entered: a spawned task waits in the ready queue with its function and arguments already on its own stack.
#include "clua_private.h"
#include <stdlib.h>

static join_handle *to_handle(lua_State *L, int index) {
  join_handle *h = lua_touserdata(L, index);
  if (h == NULL || lua_rawlen(L, index) != sizeof *h || h->magic != MAGIC_HANDLE)
    luaL_argerror(L, index, "task expected");
  return h;
}

// ---------------------------------------------------------------- starting

static int spawn(lua_State *L, bool child) {
  clua_vm *v = vm_of(L);
  luaL_checktype(L, 1, LUA_TFUNCTION);
  int count = lua_gettop(L);
  join_handle *h = lua_newuserdatauv(L, sizeof *h, 1);
  memset(h, 0, sizeof *h);
  h->magic = MAGIC_HANDLE;
  lua_rawgeti(L, LUA_REGISTRYINDEX, v->handle_meta_ref);
  lua_setmetatable(L, -2);
  lua_pushvalue(L, -1);
  int ref = luaL_ref(L, LUA_REGISTRYINDEX);

  task *t = task_take(v);
  if (t && !lua_checkstack(t->co, count + 4)) {
    task_free(v, t, true);
    t = NULL;
  }
  if (t == NULL) {
    unref(v, &ref);
    return luaL_error(L, "not enough memory for a task");
  }
  t->spawned = true;
  t->handle = ref;
  h->task = t->id;
  lua_pushcfunction(t->co, task_entry);
  lua_insert(L, 1);  // the handle stays, function and arguments move
  lua_xmove(L, t->co, count);
  if (v->cur) {
    t->tag = v->cur->tag;
    if (child) {
      t->parent = v->cur;
      t->sibling = v->cur->child;
      v->cur->child = t;
    }
  }
  task_ready(v, t);
  return 1;
}

int l_spawn(lua_State *L) { return spawn(L, false); }
int l_spawn_child(lua_State *L) { return spawn(L, true); }

typedef struct spawn_arguments {
  task *t;
  int32_t function;
  const clua_values *arguments;
} spawn_arguments;

static int spawn_body(lua_State *L) {
  spawn_arguments *a = lua_touserdata(L, 1);
  lua_settop(L, 0);
  lua_pushcfunction(L, task_entry);
  lua_rawgeti(L, LUA_REGISTRYINDEX, a->function);
  push_values(L, a->arguments);
  int count = lua_gettop(L);
  if (!lua_checkstack(a->t->co, count + 4)) return luaL_error(L, "not enough memory");
  lua_xmove(L, a->t->co, count);
  return 0;
}

static int no_memory(clua_vm *v) {
  text_set(&v->message, "not enough memory", 17);
  text_set(&v->trace, "", 0);
  return CLUA_FAILED_MEMORY;
}

int32_t clua_spawn(clua_vm *v, int32_t function, const clua_values *arguments, uint64_t tag, uint32_t flags,
                   const char *no_wait, size_t no_wait_length, uint64_t *id) {
  task *t = task_take(v);
  if (t == NULL) return no_memory(v);
  int kind = CLUA_OK;
  if (no_wait) {
    flags |= FLAG_STAGED;
    t->no_wait = vm_realloc(v, NULL, 0, no_wait_length + 1);
    if (t->no_wait == NULL)
      kind = no_memory(v);
    else
      *(char *)mempcpy(t->no_wait, no_wait, no_wait_length) = 0;
  }
  spawn_arguments a = {t, function, arguments};
  if (kind == CLUA_OK) kind = protect(v, spawn_body, &a);
  if (kind != CLUA_OK) {
    task_free(v, t, true);
    return kind;
  }
  t->spawned = true;
  t->tag = tag;
  t->flags = flags;
  *id = t->id;
  task_ready(v, t);
  return CLUA_OK;
}

// ---------------------------------------------------------------- ending

void keep_results(lua_State *L, task *t, int first, int count, bool ok) {
  luaL_checkstack(L, 4, NULL);
  lua_rawgeti(L, LUA_REGISTRYINDEX, t->handle);
  join_handle *h = lua_touserdata(L, -1);
  lua_createtable(L, count, 1);
  lua_pushinteger(L, count);
  lua_rawseti(L, -2, 0);
  for (int i = 0; i < count; i++) {
    lua_pushvalue(L, first + i);
    lua_rawseti(L, -2, i + 1);
  }
  lua_setiuservalue(L, -2, 1);
  lua_pop(L, 1);
  h->ok = ok;
  h->kept = true;
}

static int keep_message(lua_State *L) {  // of a task that was stopped, or never began
  task *t = lua_touserdata(L, 1);
  clua_vm *v = vm_of(L);
  lua_pushlstring(L, v->message.bytes, v->message.length);
  keep_results(L, t, lua_gettop(L), 1, false);
  return 0;
}

bool wake_joiners(clua_vm *v, task *t) {
  lua_State *L = v->L;
  if (!lua_checkstack(L, 4)) return false;
  lua_rawgeti(L, LUA_REGISTRYINDEX, t->handle);
  join_handle *h = lua_touserdata(L, -1);
  lua_pop(L, 1);  // the reference holds it
  if (!h->kept) {
    text message = v->message;  // a failing protected call would overwrite it
    char *copy = malloc(message.length + 1);
    if (copy) memcpy(copy, message.bytes, message.length + 1);
    protect(v, keep_message, t);
    if (copy) text_set(&v->message, copy, message.length);
    free(copy);
  }
  h->ended = true;
  bool waited = false;
  for (size_t i = 0; i < h->count; i++) {
    task *j = task_find(v, h->waiters[i]);
    if (j == NULL || !j->joining || j->state != TASK_WAITING) continue;
    waited = true;
    task_ready(v, j);
  }
  h->waiters = vm_realloc(v, h->waiters, h->capacity * sizeof *h->waiters, 0);
  h->count = h->capacity = 0;
  return waited;
}

static int handle_gc(lua_State *L) {
  join_handle *h = lua_touserdata(L, 1);
  free(h->waiters);
  h->waiters = NULL;
  h->count = h->capacity = 0;
  return 0;
}

// ---------------------------------------------------------------- joining

static void add_waiter(lua_State *L, clua_vm *v, join_handle *h) {
  for (size_t i = 0; i < h->count; i++)
    if (h->waiters[i] == v->cur->id) return;
  if (h->count == h->capacity) {
    size_t capacity = h->capacity ? h->capacity * 2 : 2;
    uint64_t *p = vm_realloc(v, h->waiters, h->capacity * sizeof *p, capacity * sizeof *p);
    if (p == NULL) luaL_error(L, "not enough memory");
    h->waiters = p;
    h->capacity = capacity;
  }
  h->waiters[h->count++] = v->cur->id;
}

static void wait_for_end(lua_State *L, clua_vm *v) {
  if (!can_wait(L)) raise_cannot_wait(L);
  if (v->cur->cancelled) raise_cancelled(L, v->cur);
  v->cur->wait_serial = ++v->cur->serial;
}

static int join_results(lua_State *L, join_handle *h) {
  lua_settop(L, 1);
  lua_pushboolean(L, h->ok);
  if (lua_getiuservalue(L, 1, 1) != LUA_TTABLE) {
    lua_pop(L, 1);
    lua_pushliteral(L, "the task was stopped");
    return 2;
  }
  lua_rawgeti(L, 3, 0);
  int count = (int)lua_tointeger(L, -1);
  lua_pop(L, 1);
  luaL_checkstack(L, count + 1, "too many results");
  for (int i = 1; i <= count; i++) lua_rawgeti(L, 3, i);
  lua_remove(L, 3);
  return count + 1;
}

static int join_again(lua_State *L, int status, lua_KContext context) {
  (void)status;
  clua_vm *v = vm_of(L);
  v->cur->joining = false;
  join_handle *h = to_handle(L, 1);
  if (h->ended) return join_results(L, h);
  if (h->task == v->cur->id) return luaL_error(L, "a task cannot wait for itself");
  wait_for_end(L, v);
  add_waiter(L, v, h);
  v->cur->joining = true;
  return park(L, context, join_again);
}

int l_join(lua_State *L) {  // -> true, results... | false, error
  lua_settop(L, 1);
  if (vm_of(L)->cur == NULL) return raise_cannot_wait(L);
  return join_again(L, LUA_OK, 0);
}

static int join_any_again(lua_State *L, int status, lua_KContext context) {
  (void)status;
  clua_vm *v = vm_of(L);
  v->cur->joining = false;
  int count = (int)context;
  lua_settop(L, count);
  for (int i = 1; i <= count; i++)
    if (to_handle(L, i)->ended) {
      lua_pushinteger(L, i);
      return 1;
    }
  wait_for_end(L, v);
  for (int i = 1; i <= count; i++) add_waiter(L, v, to_handle(L, i));
  v->cur->joining = true;
  return park(L, context, join_any_again);
}

int l_join_any(lua_State *L) {  // -> index of the first argument that has ended
  int count = lua_gettop(L);
  luaL_argcheck(L, count > 0, 1, "task expected");
  for (int i = 1; i <= count; i++) to_handle(L, i);
  if (vm_of(L)->cur == NULL) return raise_cannot_wait(L);
  return join_any_again(L, LUA_OK, count);
}

int l_cancel(lua_State *L) {  // cancel(task [, reason [, code]]) -> whether it was still alive
  join_handle *h = to_handle(L, 1);
  const char *reason = luaL_optstring(L, 2, "cancelled"), *code = luaL_optstring(L, 3, "cancelled");
  task *t = h->ended ? NULL : task_find(vm_of(L), h->task);
  if (t) task_cancel(vm_of(L), t, code, reason);
  lua_pushboolean(L, t != NULL);
  return 1;
}

int l_self(lua_State *L) {  // id of the running task, 0 outside
  clua_vm *v = vm_of(L);
  lua_pushinteger(L, v->cur ? (lua_Integer)v->cur->id : 0);
  return 1;
}

static int l_task_id(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)to_handle(L, 1)->task);
  return 1;
}

static int l_task_ended(lua_State *L) {  // ended(task) -> boolean, and whether it ended well
  join_handle *h = to_handle(L, 1);
  lua_pushboolean(L, h->ended);
  lua_pushboolean(L, h->ended && h->ok);
  return 2;
}

int spawn_open(lua_State *L) {  // the table `host` is on top
  clua_vm *v = vm_of(L);
  static const luaL_Reg functions[] = {{"spawn", l_spawn},       {"spawn_child", l_spawn_child}, {"join", l_join},
                                       {"join_any", l_join_any}, {"cancel", l_cancel},           {"self", l_self},
                                       {"task_id", l_task_id},   {"task_ended", l_task_ended},   {NULL, NULL}};
  static const luaL_Reg methods[] = {
      {"join", l_join}, {"cancel", l_cancel}, {"id", l_task_id}, {"ended", l_task_ended}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
  lua_createtable(L, 0, 4);
  lua_newtable(L);
  luaL_setfuncs(L, methods, 0);
  lua_setfield(L, -2, "__index");
  lua_pushliteral(L, "task");
  lua_setfield(L, -2, "__name");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_pushcfunction(L, handle_gc);
  lua_setfield(L, -2, "__gc");
  v->handle_meta_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}
