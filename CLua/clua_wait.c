// Waits: parking a task in the engine and going on from there, also deep inside the script's own coroutines.
#include "clua_private.h"

// ---------------------------------------------------------------- may this place wait?

bool can_wait(lua_State *L) {
  clua_vm *v = vm_of(L);
  return v->cur && !(v->cur->flags & FLAGS_NO_WAIT) && v->chain_ok && L == v->running && L != v->closing &&
         !v->killing && lua_isyieldable(L);
}

// "table.sort" for the C function on top of the stack, pushed; nothing for one that is in no library.
static const char *library_name(lua_State *L) {
  int function = lua_gettop(L);
  luaL_checkstack(L, 8, NULL);
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_pushnil(L);
  while (lua_next(L, function + 1)) {
    if (lua_type(L, -1) == LUA_TTABLE && lua_type(L, -2) == LUA_TSTRING) {
      lua_pushnil(L);
      while (lua_next(L, function + 3)) {
        if (lua_type(L, -2) == LUA_TSTRING && lua_rawequal(L, -1, function)) {
          const char *library = lua_tostring(L, function + 2), *name = lua_tostring(L, -2);
          if (strcmp(library, LUA_GNAME) == 0) return lua_pushstring(L, name);
          return lua_pushfstring(L, "%s.%s", library, name);
        }
        lua_pop(L, 1);
      }
    }
    lua_settop(L, function + 2);
  }
  lua_settop(L, function);
  return NULL;
}

// The C function of `co` that stands between here and the engine. Pushes on L, so what it returns stays.
static const char *blocking_function(lua_State *L, lua_State *co, int level) {
  lua_Debug ar;
  for (; lua_getstack(co, level, &ar); level++) {
    if (!lua_checkstack(co, 1) || !lua_getinfo(co, "Snf", &ar)) continue;
    if (*ar.what != 'C') {
      lua_pop(co, 1);
      continue;
    }
    if (co != L) lua_xmove(co, L, 1);
    const char *name = library_name(L);
    if (name == NULL) name = ar.name;
    if (name && strcmp(name, "pcall") && strcmp(name, "xpcall") && strcmp(name, "coroutine.resume")) return name;
  }
  return NULL;
}

int raise_cannot_wait(lua_State *L) {
  clua_vm *v = vm_of(L);
  lua_Debug ar;
  const char *name = lua_getstack(L, 0, &ar) && lua_getinfo(L, "n", &ar) && ar.name ? ar.name : "this function";
  push_where(L);
  int where = lua_gettop(L);
  if (v->cur && v->cur->flags & FLAG_STAGED) {
    lua_pushstring(L, v->cur->no_wait);
  } else if (v->cur == NULL || v->cur->flags & CLUA_NO_WAIT) {
    lua_pushfstring(L, "cannot wait here: '%s' waits, and the top level of a file (or a check) cannot", name);
  } else if (L == v->closing) {
    lua_pushfstring(L, "cannot wait here: '%s' in a <close> handler of a coroutine that is being closed", name);
  } else if (L != v->running) {
    lua_pushfstring(L, "cannot wait here: '%s' in a coroutine run by a C module", name);
  } else {
    const char *by = lua_isyieldable(L) ? NULL : blocking_function(L, L, 1);
    for (int i = v->depth - 2; by == NULL && i >= 0; i--) by = blocking_function(L, v->chain[i], 1);
    lua_pushfstring(L, "cannot wait here: '%s' inside a function that '%s' calls back", name, by ? by : "a C function");
  }
  lua_pushvalue(L, where);
  lua_insert(L, -2);
  lua_concat(L, 2);
  return lua_error(L);
}

int park(lua_State *L, lua_KContext context, lua_KFunction k) {
  vm_of(L)->op = OP_PARK;
  return lua_yieldk(L, 0, context, k);
}

// ---------------------------------------------------------------- going on

static int give_pending(lua_State *L, task *t) {
  bool raise = t->pending_raise;
  int ref = t->pending;
  t->has_pending = false;
  t->pending = LUA_NOREF;
  if (ref <= 0) return luaL_error(L, "not enough memory");
  lua_rawgeti(L, LUA_REGISTRYINDEX, ref);
  luaL_unref(L, LUA_REGISTRYINDEX, ref);
  int values = lua_gettop(L);
  lua_rawgeti(L, values, 0);
  int count = (int)lua_tointeger(L, -1);
  lua_pop(L, 1);
  luaL_checkstack(L, count, "too many values for a wait");
  for (int i = 1; i <= count; i++) lua_rawgeti(L, values, i);
  return raise ? lua_error(L) : count;
}

// The first code after a wait. Nothing was pushed before the resume: what came is taken here, where a failure is
// caught.
int continue_wait(lua_State *L, int status, lua_KContext context) {
  (void)status;
  (void)context;
  clua_vm *v = vm_of(L);
  task *t = v->cur;
  const clua_values *in = v->in;
  if (in) {
    v->in = NULL;
    bool raise = v->in_raise;
    push_values(L, in);
    return raise ? lua_error(L) : (int)in->count;
  }
  if (t->has_pending) return give_pending(L, t);
  if (t->cancelled) return raise_cancelled(L, t);
  return 0;
}

// ---------------------------------------------------------------- values that arrive while Lua is running

typedef struct store_arguments {
  task *t;
  const clua_values *values;
} store_arguments;

static int store_body(lua_State *L) {
  store_arguments *a = lua_touserdata(L, 1);
  lua_settop(L, 0);
  int count = (int)a->values->count;
  lua_createtable(L, count, 1);
  lua_pushinteger(L, count);
  lua_rawseti(L, 1, 0);
  push_values(L, a->values);
  for (int i = count; i >= 1; i--) lua_rawseti(L, 1, i);
  a->t->pending = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

static void store_pending(clua_vm *v, task *t, const clua_values *values, bool raise) {
  store_arguments a = {t, values};
  t->pending = LUA_NOREF;
  protect(v, store_body, &a);  // without memory the task is told so; it never waits for ever
  t->has_pending = true;
  t->pending_raise = raise;
}

int32_t clua_resume(clua_vm *v, uint64_t id, uint64_t wait, const clua_values *values, bool raise) {
  task *t = task_find(v, id);
  if (t == NULL || t->has_pending || t->joining) return CLUA_IGNORED;
  if (t == v->cur && inside(v)) {  // by the very call that is about to wait
    if (wait && wait != t->serial) return CLUA_IGNORED;
    store_pending(v, t, values, raise);
    return CLUA_QUEUED;
  }
  if (t->state != TASK_WAITING || (wait && wait != t->wait_serial)) return CLUA_IGNORED;
  if (inside(v)) {
    store_pending(v, t, values, raise);
    task_ready(v, t);
    return CLUA_QUEUED;
  }
  v->in = values;
  v->in_raise = raise;
  int status = task_run(v, t);
  v->in = NULL;
  return status;
}

static int l_can_wait(lua_State *L) {
  lua_pushboolean(L, can_wait(L));
  return 1;
}

int wait_open(lua_State *L) {  // the table `host` is on top
  lua_pushcfunction(L, l_can_wait);
  lua_setfield(L, -2, "can_wait");
  return 0;
}
