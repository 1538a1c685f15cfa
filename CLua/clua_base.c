// Base functions that differ from stock Lua: protected calls a kill passes through, metatables without __gc
// (finalizers run with hooks off, a loop there could not be stopped), print into the host, os.exit that ends the task
// and asks the host.
#include "clua_private.h"

// ---------------------------------------------------------------- pcall, xpcall

static int finish_pcall(lua_State *L, int status, lua_KContext extra) {
  if (status == LUA_OK || status == LUA_YIELD) return lua_gettop(L) - (int)extra;
  if (vm_of(L)->killing) return lua_error(L);
  lua_pushboolean(L, 0);
  lua_pushvalue(L, -2);
  return 2;
}

static int base_pcall(lua_State *L) {
  luaL_checkany(L, 1);
  lua_pushboolean(L, 1);
  lua_insert(L, 1);
  int status = lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 0, 0, finish_pcall);
  return finish_pcall(L, status, 0);
}

// A handler runs without being stoppable by a yield; during a kill it is skipped, or it would be called for ever.
static int guarded_handler(lua_State *L) {
  if (vm_of(L)->killing) return 1;
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, 1, 1);
  return 1;
}

static int base_xpcall(lua_State *L) {
  int count = lua_gettop(L);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_pushvalue(L, 2);
  lua_pushcclosure(L, guarded_handler, 1);
  lua_replace(L, 2);
  lua_pushboolean(L, 1);
  lua_pushvalue(L, 1);
  lua_rotate(L, 3, 2);
  int status = lua_pcallk(L, count - 2, LUA_MULTRET, 2, 2, finish_pcall);
  return finish_pcall(L, status, 2);
}

// ---------------------------------------------------------------- metatables

static int base_setmetatable(lua_State *L) {
  int type = lua_type(L, 2);
  luaL_checktype(L, 1, LUA_TTABLE);
  luaL_argexpected(L, type == LUA_TNIL || type == LUA_TTABLE, 2, "nil or table");
  if (type == LUA_TTABLE) {
    lua_pushliteral(L, "__gc");
    if (lua_rawget(L, 2) != LUA_TNIL) return luaL_error(L, "__gc is not available to scripts; use a <close> variable");
    lua_pop(L, 1);
  }
  if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL) return luaL_error(L, "cannot change a protected metatable");
  lua_settop(L, 2);
  lua_setmetatable(L, 1);
  return 1;
}

// The metatable of a C module's object holds its __gc: scripts get a copy to look at, the same one while they keep
// it.
static int base_getmetatable(lua_State *L) {
  luaL_checkany(L, 1);
  if (!lua_getmetatable(L, 1)) {
    lua_pushnil(L);
    return 1;
  }
  int meta = lua_gettop(L);
  if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL) return 1;
  if (lua_type(L, 1) == LUA_TTABLE) return 1;
  lua_settop(L, meta);
  lua_rawgeti(L, LUA_REGISTRYINDEX, vm_of(L)->objects_ref);
  if (lua_rawgetp(L, -1, lua_topointer(L, meta)) == LUA_TTABLE) return 1;
  lua_pop(L, 1);
  lua_newtable(L);
  lua_pushnil(L);
  while (lua_next(L, meta)) {
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, -4);
  }
  lua_pushvalue(L, -1);
  lua_rawsetp(L, -3, lua_topointer(L, meta));
  return 1;
}

// ---------------------------------------------------------------- the collector is the engine's

static int base_collectgarbage(lua_State *L) {
  static const char *const options[] = {"collect",  "count",      "step",         "isrunning",   "stop", "restart",
                                        "setpause", "setstepmul", "generational", "incremental", NULL};
  switch (luaL_checkoption(L, 1, "collect", options)) {
    case 0: lua_pushinteger(L, lua_gc(L, LUA_GCCOLLECT)); break;
    case 1: lua_pushnumber(L, (lua_Number)vm_of(L)->used / 1024.0); break;
    case 2: lua_pushboolean(L, lua_gc(L, LUA_GCSTEP, (int)luaL_optinteger(L, 2, 0))); break;
    case 3: lua_pushboolean(L, 1); break;
    case 8:
    case 9: lua_pushliteral(L, "incremental"); break;
    default: lua_pushinteger(L, 0);
  }
  return 1;
}

// ---------------------------------------------------------------- print, os.exit

static int base_print(lua_State *L) {  // upvalue 1: tag, or nothing
  clua_vm *v = vm_of(L);
  int count = lua_gettop(L);
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (int i = 1; i <= count; i++) {
    if (i > 1) luaL_addchar(&b, '\t');
    luaL_tolstring(L, i, NULL);
    luaL_addvalue(&b);
  }
  luaL_pushresult(&b);
  size_t n, tag_length = 0;
  const char *text = lua_tolstring(L, -1, &n);
  const char *tag =
      lua_type(L, lua_upvalueindex(1)) == LUA_TSTRING ? lua_tolstring(L, lua_upvalueindex(1), &tag_length) : "";
  v->host.print(v->host.context, tag, tag_length, text, n);
  return 0;
}

int l_printer(lua_State *L) {  // printer(tag) -> print
  luaL_checkstring(L, 1);
  lua_settop(L, 1);
  lua_pushcclosure(L, base_print, 1);
  return 1;
}

static int os_exit(lua_State *L) {
  clua_vm *v = vm_of(L);
  int code = lua_isboolean(L, 1) ? (lua_toboolean(L, 1) ? 0 : 1) : (int)luaL_optinteger(L, 1, 0);
  v->host.exit(v->host.context, code);
  watch_kill(L, KILL_EXIT);
  return luaL_error(L, "os.exit");
}

const luaL_Reg base_functions[] = {{"pcall", base_pcall},
                                   {"xpcall", base_xpcall},
                                   {"setmetatable", base_setmetatable},
                                   {"getmetatable", base_getmetatable},
                                   {"collectgarbage", base_collectgarbage},
                                   {"print", base_print},
                                   {NULL, NULL}};
const luaL_Reg os_functions[] = {{"exit", os_exit}, {NULL, NULL}};
