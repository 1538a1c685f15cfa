// Loading code: text only, never bytecode (a crafted chunk crashes any Lua), bounded in size because compiling cannot
// be interrupted, with its environment as first upvalue.
#include "clua_private.h"
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SOURCE_MAX ((size_t)4 << 20)  // 4 MiB compile in about 150 ms
#define READ_SPARE 4096               // for files that grew since their size was asked, or do not tell it

// ---------------------------------------------------------------- the door

typedef struct load_arguments {
  const char *source, *name;
  size_t length, name_length;
  int32_t environment;
  int function;
  bool syntax;
} load_arguments;

// Without a byte order mark, and a first line "#!..." empty: line numbers stay.
static void skip_shebang(const char **s, size_t *n) {
  if (*n >= 3 && memcmp(*s, "\xef\xbb\xbf", 3) == 0) {
    *s += 3;
    *n -= 3;
  }
  if (*n == 0 || **s != '#') return;
  while (*n && **s != '\n') {
    (*s)++;
    (*n)--;
  }
}

static int load_body(lua_State *L) {
  load_arguments *a = lua_touserdata(L, 1);
  clua_vm *v = vm_of(L);
  lua_settop(L, 0);
  lua_pushliteral(L, "@");
  lua_pushlstring(L, a->name, a->name_length);
  lua_concat(L, 2);
  const char *source = a->source;
  size_t length = a->length;
  skip_shebang(&source, &length);
  if (length > SOURCE_MAX) return luaL_error(L, "%s: larger than %d bytes", lua_tostring(L, 1) + 1, (int)SOURCE_MAX);
  int status = luaL_loadbufferx(L, source, length, lua_tostring(L, 1), "t");
  if (status != LUA_OK) {
    a->syntax = status == LUA_ERRSYNTAX;
    return lua_error(L);
  }
  int environment = a->environment ? a->environment : v->default_environment;
  lua_rawgeti(L, LUA_REGISTRYINDEX, environment);
  if (!lua_setupvalue(L, -2, 1)) lua_pop(L, 1);
  a->function = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

int32_t clua_load(clua_vm *v, const char *source, size_t length, const char *name, size_t name_length,
                  int32_t environment, int32_t *function) {
  if (environment == 0 && v->default_environment == LUA_NOREF) {
    clua_values none = {NULL, 0, NULL};
    int32_t made;
    int kind = clua_make_environment(v, &none, "", 0, &made);
    if (kind != CLUA_OK) return kind;
    v->default_environment = made;
  }
  load_arguments a = {source ? source : "", name, length, name_length, environment, LUA_NOREF, false};
  int kind = protect(v, load_body, &a);
  *function = a.function;
  return a.syntax ? CLUA_FAILED_SYNTAX : kind;
}

// ---------------------------------------------------------------- environments (made by the boot chunk)

typedef struct environment_arguments {
  const clua_values *directories;
  const char *tag, *name;
  size_t length;
  int32_t environment;
  int32_t *out;
} environment_arguments;

static int environment_body(lua_State *L) {
  environment_arguments *a = lua_touserdata(L, 1);
  lua_settop(L, 0);
  lua_rawgeti(L, LUA_REGISTRYINDEX, vm_of(L)->boot_ref);
  lua_getfield(L, 1, "environment");
  lua_pushlstring(L, a->tag, a->length);
  push_values(L, a->directories);
  lua_call(L, lua_gettop(L) - 2, 1);
  *a->out = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

int32_t clua_make_environment(clua_vm *v, const clua_values *directories, const char *tag, size_t tag_length,
                              int32_t *environment) {
  environment_arguments a = {.directories = directories, .tag = tag, .length = tag_length, .out = environment};
  return protect(v, environment_body, &a);
}

static void push_boot_function(lua_State *L, const char *name, int32_t environment) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, vm_of(L)->boot_ref);
  lua_getfield(L, -1, name);
  lua_remove(L, -2);
  lua_rawgeti(L, LUA_REGISTRYINDEX, environment);
}

static int environment_module_body(lua_State *L) {
  environment_arguments *a = lua_touserdata(L, 1);
  lua_settop(L, 0);
  push_boot_function(L, "module", a->environment);
  lua_pushlstring(L, a->name, a->length);
  lua_call(L, 2, 1);
  *a->out = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

int32_t clua_environment_module(clua_vm *v, int32_t environment, const char *name, size_t length, int32_t *module) {
  environment_arguments a = {.environment = environment, .name = name, .length = length, .out = module};
  return protect(v, environment_module_body, &a);
}

static int environment_files_body(lua_State *L) {
  environment_arguments *a = lua_touserdata(L, 1);
  lua_settop(L, 0);
  push_boot_function(L, "files", a->environment);
  lua_call(L, 1, 1);
  *a->out = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

int32_t clua_environment_files(clua_vm *v, int32_t environment, clua_values *out) {
  *out = (clua_values){NULL, 0, NULL};
  int32_t list = LUA_NOREF;
  environment_arguments a = {.environment = environment, .out = &list};
  int kind = protect(v, environment_files_body, &a);
  if (kind == CLUA_OK) kind = clua_read(v, list, false, out);
  clua_release(v, list);
  return kind;
}

static int searched(lua_State *L, int status, lua_KContext context) {
  (void)L, (void)status, (void)context;
  return 1;
}

typedef struct sentinel_arguments {
  int32_t environment;
  void *object;
} sentinel_arguments;

static int sentinel_body(lua_State *L) {
  sentinel_arguments *a = lua_touserdata(L, 1);
  lua_settop(L, 0);
  push_boot_function(L, "set_sentinel", a->environment);
  push_sentinel(L, a->object);
  lua_call(L, 2, 0);
  return 0;
}

int32_t clua_set_sentinel(clua_vm *v, int32_t environment, void *object) {
  sentinel_arguments a = {environment, object};
  return protect(v, sentinel_body, &a);
}

static int search(lua_State *L) {  // upvalues: boot's `holder`, the object
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_pushvalue(L, lua_upvalueindex(2));
  lua_callk(L, 1, 1, 0, searched);
  return 1;
}

static int search_body(lua_State *L) {
  sentinel_arguments *a = lua_touserdata(L, 1);
  lua_settop(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, vm_of(L)->boot_ref);
  lua_getfield(L, -1, "holder");
  lua_pushlightuserdata(L, a->object);
  lua_pushcclosure(L, search, 2);
  a->environment = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

int32_t clua_holder_search(clua_vm *v, void *object, int32_t *function) {
  sentinel_arguments a = {LUA_NOREF, object};
  int kind = protect(v, search_body, &a);
  *function = a.environment;
  return kind;
}

void clua_set_reader(clua_vm *v, int32_t function) { v->reader = function; }

// ---------------------------------------------------------------- load for scripts

static int loaded(lua_State *L, int status, int environment) {
  if (status != LUA_OK) {
    lua_pushnil(L);
    lua_insert(L, -2);
    return 2;
  }
  lua_pushvalue(L, environment);
  if (!lua_setupvalue(L, -2, 1)) lua_pop(L, 1);
  return 1;
}

#define PIECE_SLOT 5

static const char *read_piece(lua_State *L, void *context, size_t *size) {
  size_t *total = context;
  luaL_checkstack(L, 2, "too many nested functions");
  lua_pushvalue(L, 1);
  lua_call(L, 0, 1);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    *size = 0;
    return NULL;
  }
  if (!lua_isstring(L, -1)) luaL_error(L, "reader function must return a string");
  lua_replace(L, PIECE_SLOT);
  const char *s = lua_tolstring(L, PIECE_SLOT, size);
  *total += *size + 1;
  if (*total > SOURCE_MAX) luaL_error(L, "chunk larger than %d bytes", (int)SOURCE_MAX);
  return s;
}

static int script_load(lua_State *L) {  // load(chunk [, name [, mode [, env]]]); upvalue 1: environment
  if (lua_gettop(L) < 4) {
    lua_settop(L, 3);
    lua_pushvalue(L, lua_upvalueindex(1));
  }
  lua_settop(L, 4);
  luaL_optstring(L, 3, "t");
  size_t n;
  const char *s = lua_tolstring(L, 1, &n);
  if (s) {
    const char *name = luaL_optstring(L, 2, s);
    if (n > SOURCE_MAX) {
      lua_pushfstring(L, "chunk larger than %d bytes", (int)SOURCE_MAX);
      return loaded(L, LUA_ERRSYNTAX, 4);
    }
    return loaded(L, luaL_loadbufferx(L, s, n, name, "t"), 4);
  }
  luaL_checktype(L, 1, LUA_TFUNCTION);
  const char *name = luaL_optstring(L, 2, "=(load)");
  size_t total = 0;
  lua_settop(L, PIECE_SLOT);  // keeps the piece being read alive
  return loaded(L, lua_load(L, read_piece, &total, name, "t"), 4);
}

static int l_loader(lua_State *L) {  // loader(env) -> load
  lua_settop(L, 1);
  lua_pushcclosure(L, script_load, 1);
  return 1;
}

static int l_load_text(lua_State *L) {  // load_text(text, path, env) -> function | nil, error
  size_t n;
  const char *s = luaL_checklstring(L, 1, &n);
  luaL_checkstring(L, 2);
  lua_settop(L, 3);
  skip_shebang(&s, &n);
  if (n > SOURCE_MAX) {
    lua_pushfstring(L, "%s: larger than %d bytes", lua_tostring(L, 2), (int)SOURCE_MAX);
    return loaded(L, LUA_ERRSYNTAX, 3);
  }
  lua_pushfstring(L, "@%s", lua_tostring(L, 2));
  return loaded(L, luaL_loadbufferx(L, s, n, lua_tostring(L, -1), "t"), 3);
}

// The text of a file, pushed; nil if there is none. Nothing here can raise while the file is open.
static int read_disk(lua_State *L, const char *path) {
  struct stat status;
  if (stat(path, &status) != 0 || S_ISDIR(status.st_mode)) {
    lua_pushnil(L);
    return 1;
  }
  size_t capacity = S_ISREG(status.st_mode) ? (size_t)status.st_size + READ_SPARE : SOURCE_MAX + 1;
  if (capacity > SOURCE_MAX + 1) capacity = SOURCE_MAX + 1;  // enough to be refused
  char *text = lua_newuserdatauv(L, capacity, 0);
  int file = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
  size_t length = 0;
  ssize_t got = file < 0 ? -1 : 1;
  while (length < capacity && got > 0) {
    got = read(file, text + length, capacity - length);
    if (got > 0) length += (size_t)got;
  }
  if (file >= 0) close(file);
  if (got < 0)
    lua_pushnil(L);
  else
    lua_pushlstring(L, text, length);
  return 1;
}

static int l_read_file(lua_State *L) {  // read_file(path, tag) -> text | nil: from the host if it reads, or the disk
  clua_vm *v = vm_of(L);
  const char *path = luaL_checkstring(L, 1);
  lua_settop(L, 2);
  return v->reader < 0 ? read_disk(L, path) : call_host_function(L, v->reader);
}

static int l_realpath(lua_State *L) {
  char full[PATH_MAX];
  if (realpath(luaL_checkstring(L, 1), full))
    lua_pushstring(L, full);
  else
    lua_pushnil(L);
  return 1;
}

const luaL_Reg load_functions[] = {
    {"loader", l_loader},     {"load_text", l_load_text}, {"read_file", l_read_file},
    {"realpath", l_realpath}, {"printer", l_printer},     {NULL, NULL}};
