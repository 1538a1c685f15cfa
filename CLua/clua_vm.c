// A VM's life: opening, closing, protected calls for the engine's own work.
#include "clua_private.h"
#include <stdio.h>
#include <stdlib.h>

// ---------------------------------------------------------------- protected calls

int protect(clua_vm *v, lua_CFunction f, void *argument) { return protect_with(v, f, argument, NULL, 0, 0, 0); }

// The same with values of another stack as further arguments. That stack may be the main one itself: a prelude calls
// the host.
int protect_with(clua_vm *v, lua_CFunction f, void *argument, lua_State *from, int first, int count, int results) {
  lua_State *L = v->L;
  int top = lua_gettop(L);
  if (!lua_checkstack(L, count + 4) || (from && !lua_checkstack(from, count))) {
    text_set(&v->message, "not enough memory", 17);
    return CLUA_FAILED_MEMORY;
  }
  lua_pushcfunction(L, f);
  lua_pushlightuserdata(L, argument);
  for (int i = 0; i < count; i++) {
    lua_pushvalue(from, first + i);
    if (from != L) lua_xmove(from, L, 1);
  }
  int status = lua_pcall(L, 1 + count, results, 0);
  if (status == LUA_OK) return CLUA_OK;
  size_t n = 0;
  const char *s = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &n) : NULL;
  text_set(&v->message, s ? s : "error without a message", s ? n : 23);
  text_set(&v->trace, "", 0);
  lua_settop(L, top);
  return status == LUA_ERRMEM ? CLUA_FAILED_MEMORY : status == LUA_ERRSYNTAX ? CLUA_FAILED_SYNTAX : CLUA_FAILED_ERROR;
}

void unref(clua_vm *v, int *ref) {
  if (*ref > 0 && lua_checkstack(v->L, 4))
    luaL_unref(v->L, LUA_REGISTRYINDEX, *ref);  // writes slots that exist: no allocation
  *ref = LUA_NOREF;
}

void clua_release(clua_vm *v, int32_t reference) {
  if (!v->opened) return;
  int ref = reference;
  unref(v, &ref);
}

// ---------------------------------------------------------------- open and close

static int panic(lua_State *L) {
  (void)L;
  fputs("clua: an error outside every protected call\n", stderr);
  return 0;  // Lua aborts
}

static void set_functions(lua_State *L, const char *library, const luaL_Reg *functions) {
  lua_getglobal(L, library);
  luaL_setfuncs(L, functions, 0);
  lua_pop(L, 1);
}

// luaL_Buffer registers the metatable of its box before filling it: if memory ends in between, every later large
// buffer of the VM fails ("got a non-closable value"). Have it made while there is memory.
static void make_buffer_box(lua_State *L) {
  luaL_Buffer b;
  luaL_buffinitsize(L, &b, 2 * LUAL_BUFFERSIZE);
  luaL_pushresultsize(&b, 0);
  lua_pop(L, 1);
}

static void run_source(lua_State *L, const char *source, const char *name, int argument) {
  if (luaL_loadbufferx(L, source, strlen(source), name, "t") != LUA_OK) lua_error(L);
  lua_pushvalue(L, argument);
  lua_call(L, 1, 1);
}

static int open_body(lua_State *L) {
  clua_vm *v = lua_touserdata(L, 1);
  make_buffer_box(L);
  static const luaL_Reg libraries[] = {
      {LUA_GNAME, luaopen_base},       {LUA_LOADLIBNAME, luaopen_package}, {LUA_COLIBNAME, luaopen_coroutine},
      {LUA_TABLIBNAME, luaopen_table}, {LUA_STRLIBNAME, luaopen_string},   {LUA_MATHLIBNAME, luaopen_math},
      {LUA_UTF8LIBNAME, luaopen_utf8}, {LUA_OSLIBNAME, luaopen_os},        {LUA_IOLIBNAME, luaopen_io},
  };
  for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
    luaL_requiref(L, libraries[i].name, libraries[i].func, 1);
    lua_pop(L, 1);
  }
  set_functions(L, LUA_GNAME, base_functions);
  set_functions(L, LUA_STRLIBNAME, string_functions);
  set_functions(L, LUA_TABLIBNAME, table_functions);
  set_functions(L, LUA_COLIBNAME, coroutine_functions);
  set_functions(L, LUA_OSLIBNAME, os_functions);

  lua_newtable(L);  // what the boot chunk and preludes get: `host`
  int primitives = lua_gettop(L);
  luaL_setfuncs(L, load_functions, 0);
  luaL_setfuncs(L, state_functions, 0);
  error_open(L);
  wait_open(L);
  spawn_open(L);
  object_open(L);
  lua_pushboolean(L, v->sandbox);
  lua_setfield(L, primitives, "sandbox");
  lua_pushliteral(L, "");
  lua_getmetatable(L, -1);
  lua_setfield(L, primitives, "string_metatable");
  luaL_getmetatable(L, LUA_FILEHANDLE);  // its __gc is out of scripts' reach
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_settop(L, primitives);

  run_source(L, state_source, "=[state]", primitives);
  lua_settop(L, primitives);
  holder_open(L);
  run_source(L, boot_source, "=[boot]", primitives);
  v->boot_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

clua_vm *clua_open(const clua_limits *limits, const clua_host *host, bool sandbox) {
  clua_vm *v;
  if (posix_memalign((void **)&v, 64, sizeof *v)) return NULL;
  memset(v, 0, sizeof *v);
  v->limits = *limits;
  v->host = *host;
  v->sandbox = sandbox;
  v->slot = -1;
  v->fail_after = -1;
  set_ceiling(v, false);
  v->reader = -1;
  v->start_ref = LUA_NOREF;
  v->default_environment = LUA_NOREF;
  text_set(&v->message, "", 0);
  text_set(&v->trace, "", 0);
  text_set(&v->trail, "", 0);
  text_set(&v->killed_by, "", 0);
  v->L = lua_newstate(memory_allocate, v);
  if (v->L == NULL) {
    clua_close(v);
    return NULL;
  }
  v->opened = true;
  lua_atpanic(v->L, panic);
  *extra_of(v->L) = (uintptr_t)v;        // inherited by every coroutine
  lua_gc(v->L, LUA_GCINC, 200, 200, 0);  // not generational: its full collections cost 66 ms where steps cost 14
  if (protect(v, open_body, v) != CLUA_OK) {
    clua_close(v);
    return NULL;
  }
  return v;
}

void clua_close(clua_vm *v) {
  clua_detach(v);
  v->killing = KILL_NO;
  forget_results(v);
  for (uint32_t i = 0; i < v->task_count; i++)
    if (v->tasks[i]) {
      forget_texts(v->tasks[i]);
      free(v->tasks[i]);
    }
  v->task_count = 0;
  v->pool = NULL;
  v->opened = false;
  if (v->L) lua_close(v->L);  // finalizers run here and give the host its objects back
  memory_close(v);
  free(v->tasks);
  free(v->free_index);
  free(v->nodes);
  free(v->result_nodes);
  free(v->result_bytes);
  for (int32_t i = 0; i < v->class_count; i++) {
    free(v->classes[i].name);
    free(v->classes[i].quick);
  }
  free(v->classes);
  free(v->message.bytes);
  free(v->trace.bytes);
  free(v->trail.bytes);
  free(v->killed_by.bytes);
  free(v);
}

// ---------------------------------------------------------------- facts

bool clua_is_running(const clua_vm *v) { return inside(v); }

void clua_get_stats(const clua_vm *v, clua_stats *out) {
  *out = v->stats;
  out->memory_used = v->used;
  out->memory_peak = v->peak;
  out->tasks_live = v->live;
  out->tasks_ready = v->ready;
  out->coroutines_idle = v->pooled;
  out->references = (uint32_t)lua_rawlen(v->L, LUA_REGISTRYINDEX);
}

void clua_gc_step(clua_vm *v) { lua_gc(v->L, LUA_GCSTEP, 0); }
void clua_gc_cycle(clua_vm *v) {
  lua_gc(v->L, LUA_GCCOLLECT);
  lua_gc(v->L, LUA_GCCOLLECT);  // what finalizers had kept alive
}

const char *clua_message(const clua_vm *v, size_t *length) {
  *length = v->message.length;
  return v->message.bytes ? v->message.bytes : "";
}

const char *clua_traceback(const clua_vm *v, size_t *length) {
  *length = v->trace.length;
  return v->trace.bytes ? v->trace.bytes : "";
}
