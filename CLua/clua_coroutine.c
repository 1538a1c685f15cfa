// The script's own coroutines. resume and wrap let the engine's waits pass: when a child stopped because of the
// engine (vm->op says so, beside the values), they yield themselves and go on with the same child afterwards.
#include "clua_private.h"

static int resume_child(lua_State *L, lua_State *co, int arguments, bool wrap);

static int child_continues(lua_State *L, int status, lua_KContext context) {
  (void)status;
  lua_State *co = lua_tothread(L, 1);
  *extra_of(co) &= ~(uintptr_t)CO_WAITING;
  return resume_child(L, co, 0, (bool)context);
}

static int child_failed(lua_State *L, lua_State *co, bool wrap) {
  clua_vm *v = vm_of(L);
  if (!v->killing) remember_trail(v, co);
  if (v->killing || wrap) {  // a kill passes through resume as well
    if (!v->killing) close_coroutine(v, co);
    if (lua_type(co, -1) == LUA_TSTRING && !v->killing) {
      luaL_where(L, 1);
      lua_xmove(co, L, 1);
      lua_concat(L, 2);
    } else {
      lua_xmove(co, L, 1);
    }
    if (v->trail_value) v->trail_value = lua_topointer(L, -1);
    return lua_error(L);
  }
  lua_pushboolean(L, 0);
  lua_xmove(co, L, 1);
  return 2;
}

// The child is at index 1 of L, or an upvalue and pushed there for child_continues.
static int resume_child(lua_State *L, lua_State *co, int arguments, bool wrap) {
  clua_vm *v = vm_of(L);
  int results = 0;
  bool chain_ok = v->chain_ok;
  lua_State *parent = v->running;
  if (v->depth >= CHAIN_MAX) return luaL_error(L, "C stack overflow");
  int depth = v->depth;
  v->chain_ok = chain_ok && L == parent && lua_isyieldable(L);
  v->running = co;
  v->chain[v->depth++] = co;
  if (v->killing)
    watch_hook(co);
  else if (lua_gethook(co))
    lua_sethook(co, NULL, 0, 0);  // inherited, or left from an earlier run
  int status = lua_resume(co, L, arguments, &results);
  v->depth = depth;
  v->running = parent;
  v->chain_ok = chain_ok;
  if (v->armed || v->killing) watch_hook(L);  // the watchdog looked while the child ran: the parent must see it too

  if (status == LUA_YIELD && v->op != OP_NONE) {
    *extra_of(co) |= CO_WAITING;
    return lua_yieldk(L, 0, wrap, child_continues);
  }
  if (status != LUA_OK && status != LUA_YIELD) return child_failed(L, co, wrap);
  if (!lua_checkstack(L, results + 1)) {
    lua_pop(co, results);
    return luaL_error(L, "too many results to resume");
  }
  if (!wrap) lua_pushboolean(L, 1);
  lua_xmove(co, L, results);
  return results + !wrap;
}

static const char *refusal(lua_State *L, lua_State *co) {
  if (co == L) return "cannot resume non-suspended coroutine";
  if (*extra_of(co) & CO_WAITING) return "cannot resume a coroutine that is waiting for the engine";
  int status = lua_status(co);
  if (status == LUA_YIELD) return NULL;
  if (status != LUA_OK) return "cannot resume dead coroutine";
  lua_Debug ar;
  if (lua_getstack(co, 0, &ar)) return "cannot resume non-suspended coroutine";
  return lua_gettop(co) == 0 ? "cannot resume dead coroutine" : NULL;
}

static lua_State *check_coroutine(lua_State *L) {
  lua_State *co = lua_tothread(L, 1);
  luaL_argexpected(L, co, 1, "coroutine");
  return co;
}

static int co_resume(lua_State *L) {
  lua_State *co = check_coroutine(L);
  int count = lua_gettop(L) - 1;
  const char *why = refusal(L, co);
  if (why == NULL && !lua_checkstack(co, count)) why = "too many arguments to resume";
  if (why) {
    lua_pushboolean(L, 0);
    lua_pushstring(L, why);
    return 2;
  }
  lua_xmove(L, co, count);
  return resume_child(L, co, count, false);
}

static int wrapped(lua_State *L) {
  lua_State *co = lua_tothread(L, lua_upvalueindex(1));
  int count = lua_gettop(L);
  const char *why = refusal(L, co);
  if (why == NULL && !lua_checkstack(co, count)) why = "too many arguments to resume";
  if (why) return luaL_error(L, "%s", why);
  lua_xmove(L, co, count);
  lua_pushvalue(L, lua_upvalueindex(1));
  return resume_child(L, co, count, true);
}

// The child a suspended coroutine waits for in resume or wrap, or NULL: then it stopped itself.
static lua_State *child_of(lua_State *co) {
  lua_Debug ar;
  if (lua_status(co) != LUA_YIELD || !lua_getstack(co, 0, &ar)) return NULL;
  if (!lua_checkstack(co, 2) || !lua_getinfo(co, "f", &ar)) return NULL;
  lua_CFunction f = lua_tocfunction(co, -1);
  lua_pop(co, 1);
  if (f != co_resume && f != wrapped) return NULL;
  lua_State *child = lua_tothread(co, 1);
  return child && *extra_of(child) & CO_WAITING ? child : NULL;
}

void find_chain(clua_vm *v, task *t) {
  v->depth = 0;
  for (lua_State *co = t->co; co && v->depth < CHAIN_MAX; co = child_of(co)) v->chain[v->depth++] = co;
}

static int co_create(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_State *co = lua_newthread(L);
  *extra_of(co) = (uintptr_t)vm_of(L);
  if (lua_gethook(co)) lua_sethook(co, NULL, 0, 0);
  lua_pushvalue(L, 1);
  lua_xmove(L, co, 1);
  return 1;
}

static int co_wrap(lua_State *L) {
  co_create(L);
  lua_pushcclosure(L, wrapped, 1);
  return 1;
}

static int co_yield(lua_State *L) {
  clua_vm *v = vm_of(L);
  if (v->cur && L == v->cur->co && v->cur->flags & FLAG_STAGED) return raise_cannot_wait(L);
  if (L == v->closing || (v->cur && L == v->cur->co && v->cur->flags & CLUA_NO_WAIT))
    return luaL_error(L, "attempt to yield from outside a coroutine");
  return lua_yield(L, lua_gettop(L));
}

static const char *status_of(lua_State *L, lua_State *co) {
  if (L == co) return "running";
  if (*extra_of(co) & CO_WAITING) return "normal";
  int status = lua_status(co);
  if (status == LUA_YIELD) return "suspended";
  if (status != LUA_OK) return "dead";
  lua_Debug ar;
  if (lua_getstack(co, 0, &ar)) return "normal";
  return lua_gettop(co) == 0 ? "dead" : "suspended";
}

static int co_status(lua_State *L) {
  lua_pushstring(L, status_of(L, check_coroutine(L)));
  return 1;
}

static int co_close(lua_State *L) {
  clua_vm *v = vm_of(L);
  lua_State *co = check_coroutine(L);
  const char *status = status_of(L, co);
  if (*status != 's' && *status != 'd') return luaL_error(L, "cannot close a %s coroutine", status);
  if (v->close_depth >= CLOSE_DEPTH_MAX)
    return luaL_error(L, "C stack overflow (coroutine.close inside <close> handlers)");
  close_coroutine(v, co);
  if (v->armed || v->killing) watch_hook(L);
  // lua_resetthread leaves the error object alone on the stack, or nothing.
  if (lua_gettop(co) == 0) {
    lua_pushboolean(L, 1);
    return 1;
  }
  lua_pushboolean(L, 0);
  lua_xmove(co, L, 1);
  return 2;
}

const luaL_Reg coroutine_functions[] = {{"create", co_create}, {"resume", co_resume}, {"wrap", co_wrap},
                                        {"yield", co_yield},   {"status", co_status}, {"close", co_close},
                                        {NULL, NULL}};
