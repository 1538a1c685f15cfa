// What a failure says: text buffers that cannot raise, tracebacks across coroutines, error values with a code.
#include "clua_private.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

// ---------------------------------------------------------------- text

static bool text_room(text *t, size_t n) {
  if (n > TEXT_MAX) n = TEXT_MAX;
  if (n + 1 <= t->capacity) return true;
  size_t capacity = n + 1 < 4096 ? 4096 : n + 1;
  char *p = realloc(t->bytes, capacity);
  if (p == NULL) return false;
  t->bytes = p;
  t->capacity = capacity;
  return true;
}

void text_add(text *t, const char *s, size_t n) {
  if (!text_room(t, t->length + n) && t->capacity == 0) return;
  size_t space = t->capacity - 1 - t->length;
  if (n > space) n = space;
  if (n) memcpy(t->bytes + t->length, s, n);
  t->length += n;
  t->bytes[t->length] = 0;
}

bool text_set(text *t, const char *s, size_t n) {
  t->length = 0;
  text_add(t, s, n);
  return t->length == n;
}

void text_addf(text *t, const char *format, ...) {
  char line[512];
  va_list arguments;
  va_start(arguments, format);
  int n = vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  if (n > 0) text_add(t, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
}

// ---------------------------------------------------------------- where

// Chunks of the engine itself (the boot chunk, preludes) are named "=[name]"; errors point at the script that called
// them.
static bool is_script_frame(const lua_Debug *ar) {
  return ar->currentline > 0 && !(ar->source[0] == '=' && ar->source[1] == '[');
}

static bool script_frame(lua_State *L, int level, lua_Debug *ar) {
  for (; lua_getstack(L, level, ar); level++)
    if (lua_getinfo(L, "Sl", ar) && is_script_frame(ar)) return true;
  return false;
}

void add_where(lua_State *L, text *t) {
  lua_Debug ar;
  if (script_frame(L, 0, &ar)) text_addf(t, "%s:%d: ", ar.short_src, ar.currentline);
}

void push_where(lua_State *L) {
  lua_Debug ar;
  if (script_frame(L, 1, &ar))
    lua_pushfstring(L, "%s:%d: ", ar.short_src, ar.currentline);
  else
    lua_pushliteral(L, "");
}

// ---------------------------------------------------------------- tracebacks

#define FIRST_LEVELS 12
#define LAST_LEVELS 10

static int count_levels(lua_State *co) {
  lua_Debug ar;
  int low = 0, high = 1;
  while (lua_getstack(co, high, &ar)) {
    low = high;
    high *= 2;
  }
  while (low < high) {
    int middle = (low + high) / 2;
    if (lua_getstack(co, middle, &ar))
      low = middle + 1;
    else
      high = middle;
  }
  return high;
}

static void add_frame(text *t, const lua_Debug *ar) {
  if (ar->currentline > 0)
    text_addf(t, "\n\t%s:%d: in ", ar->short_src, ar->currentline);
  else
    text_addf(t, "\n\t%s: in ", ar->short_src);
  if (*ar->namewhat)
    text_addf(t, "%s '%s'", ar->namewhat, ar->name);
  else if (*ar->what == 'm')
    text_addf(t, "main chunk");
  else if (*ar->what != 'C')
    text_addf(t, "function <%s:%d>", ar->short_src, ar->linedefined);
  else
    text_addf(t, "?");
}

// Like luaL_traceback, but into our own buffer: it allocates nothing of Lua's, so it works while memory is out.
void add_traceback(text *t, lua_State *co, int level) {
  lua_Debug ar;
  int levels = count_levels(co), skip_at = levels - level > FIRST_LEVELS + LAST_LEVELS ? level + FIRST_LEVELS : -1;
  for (; lua_getstack(co, level, &ar); level++) {
    if (level == skip_at) {
      int skipped = levels - level - LAST_LEVELS;
      text_addf(t, "\n\t...\t(skipping %d levels)", skipped);
      level += skipped - 1;
      continue;
    }
    lua_getinfo(co, "Slnt", &ar);
    if (level == levels - 1 && *ar.what == 'C' && *ar.namewhat == 0) break;  // the task's own entry
    add_frame(t, &ar);
    if (ar.istailcall) text_addf(t, "\n\t(...tail calls...)");
  }
}

// The stack of a failed coroutine is gone once its error went on. Keep what it was, and whose error: the innermost
// coroutine's frames come first. An error that is caught and never seen again costs only this.
void remember_trail(clua_vm *v, lua_State *dead) {
  const void *value = lua_topointer(dead, -1);
  if (value == NULL || value != v->trail_value) text_set(&v->trail, "", 0);
  add_traceback(&v->trail, dead, 0);
  text_addf(&v->trail, "\n\t-- the coroutine was resumed by:");
  v->trail_value = value;
}

int task_message_handler(lua_State *L) {
  clua_vm *v = vm_of(L);
  task *t = v->cur;
  if (v->killing || t == NULL || (t->flags & FLAG_QUIET)) return 1;
  text_set(&v->trace, "stack traceback:", 16);
  const void *value = lua_topointer(L, 1);
  if (v->trail.length && value && value == v->trail_value) text_add(&v->trace, v->trail.bytes, v->trail.length);
  add_traceback(&v->trace, L, 1);
  return 1;
}

int l_traceback(lua_State *L) {  // debug.traceback([thread,] [message [, level]])
  lua_State *co = lua_isthread(L, 1) ? lua_tothread(L, 1) : L;
  int at = lua_isthread(L, 1) ? 2 : 1;
  if (!lua_isnoneornil(L, at) && !lua_isstring(L, at))
    lua_pushvalue(L, at);
  else
    luaL_traceback(L, co, lua_tostring(L, at), (int)luaL_optinteger(L, at + 1, co == L));
  return 1;
}

// ---------------------------------------------------------------- error values with a code

static void push_coded(lua_State *L, const char *code, const char *message) {
  lua_createtable(L, 0, 3);
  lua_pushstring(L, code);
  lua_setfield(L, -2, "code");
  lua_pushstring(L, message);
  lua_setfield(L, -2, "message");
  lua_rawgeti(L, LUA_REGISTRYINDEX, vm_of(L)->error_meta_ref);
  lua_setmetatable(L, -2);
}

int raise_coded(lua_State *L, const char *code, const char *message) {
  push_where(L);
  lua_pushfstring(L, "%s%s", lua_tostring(L, -1), message);
  push_coded(L, code, lua_tostring(L, -1));
  return lua_error(L);
}

// Whatever its code: what cancels has a metatable of its own.
bool is_cancelled(lua_State *L, int index) {
  if (lua_type(L, index) != LUA_TTABLE || !lua_getmetatable(L, index)) return false;
  lua_rawgeti(L, LUA_REGISTRYINDEX, vm_of(L)->cancel_meta_ref);
  bool same = lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  return same;
}

static void push_cancelled(lua_State *L, const char *code, const char *reason) {
  lua_pushfstring(L, "%s: %s", code, reason);
  push_coded(L, code, lua_tostring(L, -1));
  lua_remove(L, -2);
  lua_pushstring(L, reason);
  lua_setfield(L, -2, "reason");
  lua_rawgeti(L, LUA_REGISTRYINDEX, vm_of(L)->cancel_meta_ref);
  lua_setmetatable(L, -2);
}

int raise_cancelled(lua_State *L, task *t) {
  push_cancelled(L, t->code ? t->code : "cancelled", t->reason ? t->reason : "no memory for the reason");
  return lua_error(L);
}

int l_is_cancelled(lua_State *L) {
  lua_settop(L, 1);
  lua_pushboolean(L, is_cancelled(L, 1));
  return 1;
}

int l_cancelled(lua_State *L) {
  push_cancelled(L, "cancelled", luaL_optstring(L, 1, "cancelled"));
  return 1;
}

static int coded_tostring(lua_State *L) {
  lua_settop(L, 1);
  if (lua_istable(L, 1)) lua_getfield(L, 1, "message");
  if (!lua_isstring(L, -1)) lua_pushliteral(L, "error");
  return 1;
}

static int make_error_metatable(lua_State *L) {
  lua_createtable(L, 0, 3);
  lua_pushcfunction(L, coded_tostring);
  lua_setfield(L, -2, "__tostring");
  lua_pushliteral(L, "error");
  lua_setfield(L, -2, "__name");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  return luaL_ref(L, LUA_REGISTRYINDEX);
}

int error_open(lua_State *L) {  // the table `host` is on top
  clua_vm *v = vm_of(L);
  static const luaL_Reg functions[] = {
      {"is_cancelled", l_is_cancelled}, {"cancelled", l_cancelled}, {"traceback", l_traceback}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
  v->error_meta_ref = make_error_metatable(L);
  v->cancel_meta_ref = make_error_metatable(L);
  return 0;
}

// ---------------------------------------------------------------- the end of a failed task

// tostring(value), able to be stopped: a __tostring of the script's may run.
static int quick_done(lua_State *L, int status, lua_KContext context) {
  (void)status;
  (void)context;
  return 1;
}
static int quick_tostring(lua_State *L) {
  lua_settop(L, 1);
  if (luaL_getmetafield(L, 1, "__tostring") != LUA_TNIL) {
    lua_pushvalue(L, 1);
    lua_callk(L, 1, 1, 0, quick_done);
  } else {
    luaL_tolstring(L, 1, NULL);
  }
  return 1;
}

static int32_t failure_kind(clua_vm *v, task *t) {
  if (v->killing) return v->killing == KILL_TIME ? CLUA_FAILED_TIME : CLUA_FAILED_CANCELLED;
  if (t->status == LUA_ERRMEM) return CLUA_FAILED_MEMORY;
  return lua_checkstack(t->co, 6) && is_cancelled(t->co, -1) ? CLUA_FAILED_CANCELLED : CLUA_FAILED_ERROR;
}

// The error value is on top of the task's stack. Called after Lua was left.
void describe_failure(clua_vm *v, task *t) {
  clua_end e = {.task = t->id, .tag = t->tag, .kind = failure_kind(v, t), .late = t->late};
  bool killed = v->killing != KILL_NO;
  if (killed) {
    text_set(&v->message, v->killed_by.bytes, v->killed_by.length);
  } else if (e.kind == CLUA_FAILED_MEMORY) {
    text_set(&v->message, v->refused_at, strlen(v->refused_at));
    text_add(&v->message, "not enough memory", 17);
    text_set(&v->trace, "", 0);
  } else if (lua_type(t->co, -1) == LUA_TSTRING) {
    size_t n;
    const char *s = lua_tolstring(t->co, -1, &n);
    text_set(&v->message, s, n);
  } else if (t->flags & FLAG_QUIET || run_quick(v, quick_tostring, t->co, -1, &v->message) != CLUA_OK) {
    text_set(&v->message, "", 0);
    text_addf(&v->message, "(error object is a %s value)", lua_typename(t->co, lua_type(t->co, -1)));
  }
  v->killing = KILL_NO;
  if (!killed && lua_gettop(t->co) > 0)
    read_values(v, t->co, lua_gettop(t->co), 1, READ_NO_REFS, &e.values);
  e.message = v->message.bytes;
  e.message_length = v->message.length;
  e.traceback = v->trace.bytes;
  e.traceback_length = v->trace.length;
  v->end = e;  // last: printing the error value may have run as a task of its own
}
