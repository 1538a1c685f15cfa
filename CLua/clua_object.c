// Host objects in Lua: a userdata that retains the object until it is collected. Method tables, getters and setters,
// the `data` slot, one userdata per object where the class asks for it. Also modules, made of host functions and a
// prelude.
#include "clua_private.h"
#include <stdlib.h>

static int object_gc(lua_State *L) {
  object_box *box = to_object(L, 1);
  if (box == NULL) return 0;
  void *object = box->object;
  clua_vm *v = vm_of(L);
  box->object = NULL;
  v->host.release(v->host.context, object);
  return 0;
}

void push_object(lua_State *L, int32_t class_id, void *object) {
  clua_vm *v = vm_of(L);
  if (class_id < 0 || class_id >= v->class_count) luaL_error(L, "no such class");
  bool identity = v->classes[class_id].identity;
  luaL_checkstack(L, 4, NULL);
  if (identity) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, v->objects_ref);
    if (lua_rawgetp(L, -1, object) == LUA_TUSERDATA && to_object(L, -1)) {
      lua_remove(L, -2);
      return;
    }
    lua_pop(L, 1);
  }
  object_box *box = lua_newuserdatauv(L, sizeof *box, v->classes[class_id].has_data ? 1 : 0);
  *box = (object_box){MAGIC_OBJECT, NULL, class_id};
  lua_rawgeti(L, LUA_REGISTRYINDEX, v->classes[class_id].meta_ref);
  lua_setmetatable(L, -2);
  v->host.retain(v->host.context, object);
  box->object = object;  // from here on the collector gives it back
  if (!identity) return;
  lua_pushvalue(L, -1);
  lua_rawsetp(L, -3, object);
  lua_remove(L, -2);
}

// Scripts never see it: it has no class, and a metatable that only gives the object back.
void push_sentinel(lua_State *L, void *object) {
  clua_vm *v = vm_of(L);
  object_box *box = lua_newuserdatauv(L, sizeof *box, 0);
  *box = (object_box){MAGIC_OBJECT, NULL, -1};
  lua_rawgeti(L, LUA_REGISTRYINDEX, v->sentinel_meta_ref);
  lua_setmetatable(L, -2);
  v->host.retain(v->host.context, object);
  box->object = object;
}

typedef struct object_arguments {
  int32_t class_id;
  void *object;
  int32_t *reference;
} object_arguments;

static int make_object_body(lua_State *L) {
  object_arguments *a = lua_touserdata(L, 1);
  push_object(L, a->class_id, a->object);
  *a->reference = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

int32_t clua_make_object(clua_vm *v, int32_t class_id, void *object, int32_t *reference) {
  object_arguments a = {class_id, object, reference};
  return protect(v, make_object_body, &a);
}

// ---------------------------------------------------------------- reading and writing fields

static bool is_data_key(lua_State *L, int index) {
  size_t n;
  if (lua_type(L, index) != LUA_TSTRING) return false;
  const char *s = lua_tolstring(L, index, &n);
  return n == 4 && memcmp(s, "data", 4) == 0;
}

// upvalues: 1 methods, 2 getter or -1, 3 has_data
static int object_index(lua_State *L) {
  lua_pushvalue(L, 2);
  if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) return 1;
  lua_settop(L, 2);
  if (to_object(L, 1) == NULL) return 0;
  if (lua_toboolean(L, lua_upvalueindex(3)) && is_data_key(L, 2)) {
    lua_getiuservalue(L, 1, 1);
    return 1;
  }
  int getter = function_number(L, 2);
  return getter < 0 ? 0 : call_host_function(L, getter);
}

// upvalues: 1 class name, 2 setter or -1, 3 has_data
static int object_newindex(lua_State *L) {
  lua_settop(L, 3);
  if (to_object(L, 1) && lua_toboolean(L, lua_upvalueindex(3)) && is_data_key(L, 2)) {
    lua_setiuservalue(L, 1, 1);
    return 0;
  }
  int setter = function_number(L, 2);
  if (setter >= 0) return call_host_function(L, setter);
  const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : luaL_typename(L, 2);
  return luaL_error(L, "cannot set '%s' of a %s", key, lua_tostring(L, lua_upvalueindex(1)));
}

static int object_tostring(lua_State *L) {  // upvalue 1: class name
  lua_pushfstring(L, "%s: %p", lua_tostring(L, lua_upvalueindex(1)), lua_topointer(L, 1));
  return 1;
}

// ---------------------------------------------------------------- classes

static void set_functions(lua_State *L, const clua_named_function *functions, size_t count) {
  for (size_t i = 0; i < count; i++) {
    push_function_number(L, functions[i].function);
    lua_pushcclosure(L, call_host, 1);
    lua_setfield(L, -2, functions[i].name);
  }
}

static void set_metamethod(lua_State *L, const char *name, int32_t function) {
  if (function < 0) return;
  clua_named_function f = {name, function};
  set_functions(L, &f, 1);
}

typedef struct class_arguments {
  const clua_class *c;
  quick_method *quick;
  int meta_ref;
} class_arguments;

// The methods are on top: the one with a quick way gets it.
static void set_quick_method(lua_State *L, const clua_class *c, quick_method *quick) {
  for (size_t i = 0; i < c->method_count; i++) {
    if (strcmp(c->methods[i].name, c->quick_method) != 0) continue;
    *quick = (quick_method){c->quick, c->methods[i].function, vm_of(L)->class_count};
    lua_pushlightuserdata(L, quick);
    lua_pushcclosure(L, call_quick, 1);
    lua_setfield(L, -2, c->quick_method);
  }
}

static int define_class_body(lua_State *L) {
  class_arguments *a = lua_touserdata(L, 1);
  const clua_class *c = a->c;
  clua_vm *v = vm_of(L);
  lua_settop(L, 0);
  lua_newtable(L);  // 1: metatable
  lua_newtable(L);  // 2: methods
  set_functions(L, c->methods, c->method_count);
  if (a->quick) set_quick_method(L, c, a->quick);
  lua_pushvalue(L, 2);
  if (c->getter >= 0 || c->has_data) {
    push_function_number(L, c->getter);
    lua_pushboolean(L, c->has_data);
    lua_pushcclosure(L, object_index, 3);
  }
  lua_setfield(L, 1, "__index");
  lua_pushstring(L, c->name);
  push_function_number(L, c->setter);
  lua_pushboolean(L, c->has_data);
  lua_pushcclosure(L, object_newindex, 3);
  lua_setfield(L, 1, "__newindex");
  lua_pushstring(L, c->name);
  lua_setfield(L, 1, "__name");
  lua_pushboolean(L, 0);
  lua_setfield(L, 1, "__metatable");
  lua_pushcfunction(L, object_gc);
  lua_setfield(L, 1, "__gc");
  lua_pushstring(L, c->name);
  lua_pushcclosure(L, object_tostring, 1);
  lua_setfield(L, 1, "__tostring");
  lua_pushvalue(L, 1);
  set_metamethod(L, "__tostring", c->to_string);
  set_metamethod(L, "__len", c->length);
  set_metamethod(L, "__close", c->close);
  set_metamethod(L, "__call", c->call);
  set_metamethod(L, "__eq", c->equals);
  lua_pushvalue(L, 1);
  a->meta_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_rawgeti(L, LUA_REGISTRYINDEX, v->method_tables_ref);  // the last thing: what is found there is whole
  lua_pushvalue(L, 2);
  lua_setfield(L, -2, c->name);
  return 0;
}

int32_t clua_define_class(clua_vm *v, const clua_class *c, int32_t *class_id) {
  size_t size = sizeof *v->classes;
  void *grown = vm_realloc(v, v->classes, (size_t)v->class_count * size, ((size_t)v->class_count + 1) * size);
  if (grown == NULL) {
    text_set(&v->message, "not enough memory", 17);
    return CLUA_FAILED_MEMORY;
  }
  v->classes = grown;
  size_t name_size = strlen(c->name) + 1;
  char *name = vm_realloc(v, NULL, 0, name_size);
  quick_method *quick = name && c->quick_method ? vm_realloc(v, NULL, 0, sizeof *quick) : NULL;
  bool enough = name && (quick || !c->quick_method);
  class_arguments a = {c, quick, LUA_NOREF};
  int kind = enough ? protect(v, define_class_body, &a) : CLUA_FAILED_MEMORY;
  if (kind != CLUA_OK) {
    if (!enough) text_set(&v->message, "not enough memory", 17);
    unref(v, &a.meta_ref);
    free(quick);
    free(name);
    return kind;
  }
  memcpy(name, c->name, name_size);
  v->classes[v->class_count].name = name;
  v->classes[v->class_count].has_data = c->has_data;
  v->classes[v->class_count].identity = c->identity;
  v->classes[v->class_count].plain = c->plain;
  v->classes[v->class_count].meta_ref = a.meta_ref;
  v->classes[v->class_count].quick = quick;
  *class_id = v->class_count++;
  return CLUA_OK;
}

int l_class_methods(lua_State *L) {  // class_methods(name) -> the table a prelude may add methods to
  lua_rawgeti(L, LUA_REGISTRYINDEX, vm_of(L)->method_tables_ref);
  lua_pushvalue(L, 1);
  if (lua_rawget(L, -2) == LUA_TNIL) return luaL_error(L, "no class '%s'", luaL_tolstring(L, 1, NULL));
  return 1;
}

// ---------------------------------------------------------------- modules

typedef struct module_arguments {
  const char *name, *prelude;
  size_t prelude_length, count, hidden_count;
  const clua_named_function *functions, *hidden;
} module_arguments;

static int define_module_body(lua_State *L) {
  module_arguments *a = lua_touserdata(L, 1);
  clua_vm *v = vm_of(L);
  lua_settop(L, 0);
  lua_newtable(L);  // 1: the module
  set_functions(L, a->functions, a->count);
  lua_newtable(L);  // 2: host, the primitives and the module's hidden functions
  lua_rawgeti(L, LUA_REGISTRYINDEX, v->boot_ref);
  lua_getfield(L, -1, "primitives");
  lua_pushnil(L);
  while (lua_next(L, -2)) {
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, 2);
  }
  lua_settop(L, 2);
  set_functions(L, a->hidden, a->hidden_count);
  if (a->prelude) {
    lua_pushfstring(L, "=[%s]", a->name);
    if (luaL_loadbufferx(L, a->prelude, a->prelude_length, lua_tostring(L, -1), "t") != LUA_OK) return lua_error(L);
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 2);
    lua_call(L, 2, 0);
  }
  lua_rawgeti(L, LUA_REGISTRYINDEX, v->modules_ref);
  lua_pushvalue(L, 1);
  lua_setfield(L, -2, a->name);
  return 0;
}

int32_t clua_define_module(clua_vm *v, const char *name, const clua_named_function *functions, size_t count,
                           const clua_named_function *hidden, size_t hidden_count, const char *prelude,
                           size_t prelude_length) {
  module_arguments a = {name, prelude, prelude_length, count, hidden_count, functions, hidden};
  return protect(v, define_module_body, &a);
}

static void weak_values(lua_State *L) {
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "v");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
}

int object_open(lua_State *L) {  // the table `host` is on top
  clua_vm *v = vm_of(L);
  lua_pushcfunction(L, l_class_methods);
  lua_setfield(L, -2, "class_methods");
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, object_gc);
  lua_setfield(L, -2, "__gc");
  v->sentinel_meta_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  weak_values(L);
  v->objects_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_newtable(L);
  lua_rawgeti(L, LUA_REGISTRYINDEX, v->handle_meta_ref);
  lua_getfield(L, -1, "__index");
  lua_setfield(L, -3, "task");
  lua_pop(L, 1);
  v->method_tables_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_newtable(L);
  lua_pushvalue(L, -1);
  v->modules_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_setfield(L, -2, "modules");
  return 0;
}
