// Values out of Lua: read in a protected call, without metamethods. Strings are lent (valid until the next door),
// functions and the like become references; tables become flat preorder trees. Also references and the fields of tables.
#include "clua_private.h"
#include <stdlib.h>

// ---------------------------------------------------------------- out: one argument, no allocation, no conversion

static clua_value read_number(lua_State *L, int index) {
  if (lua_isinteger(L, index)) return (clua_value){.type = CLUA_INT, .bits = (uint64_t)lua_tointeger(L, index)};
  clua_value value = {.type = CLUA_NUMBER};
  double number = lua_tonumber(L, index);
  memcpy(&value.bits, &number, sizeof number);
  return value;
}

static clua_value read_userdata(lua_State *L, int index) {
  object_box *box = to_object(L, index);
  if (box == NULL) return (clua_value){.type = CLUA_USERDATA};
  return (clua_value){.type = CLUA_OBJECT, .info = box->class_id, .bits = (uint64_t)(uintptr_t)box->object};
}

void read_argument(lua_State *L, int index, clua_value *out) {
  switch (lua_type(L, index)) {
    case LUA_TNIL: *out = (clua_value){.type = CLUA_NIL}; break;
    case LUA_TBOOLEAN: *out = (clua_value){.type = CLUA_BOOL, .bits = (uint64_t)lua_toboolean(L, index)}; break;
    case LUA_TNUMBER: *out = read_number(L, index); break;
    case LUA_TSTRING:
      out->type = CLUA_STRING;
      out->info = 0;
      out->bits = (uint64_t)(uintptr_t)lua_tolstring(L, index, &out->length);
      break;
    case LUA_TUSERDATA: *out = read_userdata(L, index); break;
    case LUA_TTABLE: *out = (clua_value){.type = CLUA_TABLE}; break;
    case LUA_TFUNCTION: *out = (clua_value){.type = CLUA_FUNCTION}; break;
    case LUA_TTHREAD: *out = (clua_value){.type = CLUA_THREAD}; break;
    case LUA_TLIGHTUSERDATA: *out = (clua_value){.type = CLUA_USERDATA}; break;
    default: *out = (clua_value){.type = CLUA_NONE};
  }
}

// ---------------------------------------------------------------- out: trees

typedef struct read_arguments {
  clua_vm *v;
  int count, depth;
  enum read_mode mode;
  const void *path[CLUA_MAX_DEPTH];
} read_arguments;

static clua_value *add_node(lua_State *L, clua_vm *v) {
  if (v->node_count >= CLUA_MAX_NODES) luaL_error(L, "table too large: more than %d values", CLUA_MAX_NODES);
  if (v->node_count == v->node_capacity) {
    size_t capacity = v->node_capacity ? v->node_capacity * 2 : 64;
    clua_value *p = vm_realloc(v, v->nodes, v->node_capacity * sizeof *p, capacity * sizeof *p);
    if (p == NULL) luaL_error(L, "not enough memory");
    v->nodes = p;
    v->node_capacity = capacity;
  }
  return &v->nodes[v->node_count++];
}

static void add_reference(lua_State *L, clua_vm *v, int index) {
  clua_value *n = add_node(L, v);
  *n = (clua_value){.type = CLUA_NIL};
  lua_pushvalue(L, index);
  size_t at = v->node_count - 1;
  int ref = luaL_ref(L, LUA_REGISTRYINDEX);
  v->nodes[at] = (clua_value){.type = CLUA_REF, .bits = (uint64_t)ref};
}

static void read_value(lua_State *L, read_arguments *a, int index);

static void read_table(lua_State *L, read_arguments *a, int index) {
  const void *self = lua_topointer(L, index);
  if (a->depth >= CLUA_MAX_DEPTH) luaL_error(L, "table nested deeper than %d", CLUA_MAX_DEPTH);
  for (int i = 0; i < a->depth; i++)
    if (a->path[i] == self) luaL_error(L, "table contains itself");
  a->path[a->depth++] = self;
  luaL_checkstack(L, 6, "table nested too deep");
  add_node(L, a->v);
  size_t at = a->v->node_count - 1, pairs = 0;
  a->v->nodes[at] = (clua_value){.type = CLUA_NIL};
  lua_pushnil(L);
  while (lua_next(L, index)) {
    int value = lua_gettop(L);
    read_value(L, a, value - 1);
    read_value(L, a, value);
    lua_settop(L, value - 1);
    pairs++;
  }
  a->v->nodes[at] = (clua_value){.type = CLUA_TABLE, .length = pairs};
  a->depth--;
}

static void read_value(lua_State *L, read_arguments *a, int index) {
  clua_value value;
  read_argument(L, index, &value);
  switch (value.type) {
    case CLUA_TABLE:
      if (a->mode == READ_TABLE_REFS)
        add_reference(L, a->v, index);
      else
        read_table(L, a, index);
      break;
    case CLUA_FUNCTION:
    case CLUA_USERDATA:
    case CLUA_THREAD:
      if (a->mode == READ_NO_REFS)
        *add_node(L, a->v) = (clua_value){.type = CLUA_NIL};
      else
        add_reference(L, a->v, index);
      break;
    default: *add_node(L, a->v) = value;
  }
}

static int read_body(lua_State *L) {
  read_arguments *a = lua_touserdata(L, 1);
  for (int i = 0; i < a->count; i++) read_value(L, a, 2 + i);
  return 0;
}

#define NODES_KEPT (1 << 16)

static void begin_reading(clua_vm *v) {
  v->node_count = 0;
  if (v->node_capacity <= NODES_KEPT) return;  // one large table does not hold its memory for ever
  free(v->nodes);
  v->nodes = NULL;
  v->node_capacity = 0;
}

static void undo_references(clua_vm *v) {
  for (size_t i = 0; i < v->node_count; i++)
    if (v->nodes[i].type == CLUA_REF) {
      int ref = (int)v->nodes[i].bits;
      unref(v, &ref);
    }
  v->node_count = 0;
}

int read_values(clua_vm *v, lua_State *from, int first, int count, enum read_mode mode, clua_values *out) {
  *out = (clua_values){NULL, 0, NULL};
  begin_reading(v);
  if (count == 0) return CLUA_OK;
  read_arguments a = {.v = v, .count = count, .mode = mode};
  int kind = protect_with(v, read_body, &a, from, first, count, 0);
  if (kind != CLUA_OK) {
    undo_references(v);
    return kind;
  }
  *out = (clua_values){v->nodes, (size_t)count, NULL};
  return CLUA_OK;
}

// ---------------------------------------------------------------- references and fields

typedef struct field_arguments {
  clua_vm *v;
  int32_t table;
  const clua_values *values;
  bool tables_as_refs;
  int32_t *reference;
  read_arguments read;
} field_arguments;

static int reference_body(lua_State *L) {
  field_arguments *a = lua_touserdata(L, 1);
  if (a->values)
    push_values(L, a->values);
  else
    lua_rawgeti(L, LUA_REGISTRYINDEX, a->table);
  *a->reference = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

int32_t clua_make_reference(clua_vm *v, const clua_values *one, int32_t *reference) {
  field_arguments a = {.v = v, .values = one, .reference = reference};
  return protect(v, reference_body, &a);
}

int32_t clua_retain(clua_vm *v, int32_t reference, int32_t *copy) {
  field_arguments a = {.v = v, .table = reference, .reference = copy};
  return protect(v, reference_body, &a);
}

uint64_t clua_identity(clua_vm *v, int32_t reference) {
  if (!lua_checkstack(v->L, 1)) return 0;
  lua_rawgeti(v->L, LUA_REGISTRYINDEX, reference);
  const void *p = lua_topointer(v->L, -1);
  lua_pop(v->L, 1);
  return (uint64_t)(uintptr_t)p;
}

int32_t clua_kind(clua_vm *v, int32_t reference) {
  if (!lua_checkstack(v->L, 1)) return CLUA_NONE;
  clua_value value;
  lua_rawgeti(v->L, LUA_REGISTRYINDEX, reference);
  read_argument(v->L, -1, &value);
  lua_pop(v->L, 1);
  return value.type;
}

static int read_field_body(lua_State *L) {
  field_arguments *a = lua_touserdata(L, 1);
  lua_settop(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, a->table);
  if (a->values) {
    if (!lua_istable(L, 2)) return luaL_error(L, "not a table");
    push_values(L, a->values);
    lua_rawget(L, 2);
  }
  read_value(L, &a->read, lua_gettop(L));
  return 0;
}

static int32_t read_field(field_arguments *a, clua_values *out) {
  clua_vm *v = a->v;
  *out = (clua_values){NULL, 0, NULL};
  begin_reading(v);
  a->read = (read_arguments){.v = v, .mode = a->tables_as_refs ? READ_TABLE_REFS : READ_COPY};
  int kind = protect(v, read_field_body, a);
  if (kind != CLUA_OK)
    undo_references(v);
  else
    *out = (clua_values){v->nodes, 1, NULL};
  return kind;
}

int32_t clua_read(clua_vm *v, int32_t reference, bool tables_as_refs, clua_values *out) {
  field_arguments a = {.v = v, .table = reference, .tables_as_refs = tables_as_refs};
  return read_field(&a, out);
}

int32_t clua_get_field(clua_vm *v, int32_t table, const clua_values *key, bool tables_as_refs, clua_values *out) {
  field_arguments a = {.v = v, .table = table, .values = key, .tables_as_refs = tables_as_refs};
  return read_field(&a, out);
}

static int set_field_body(lua_State *L) {
  field_arguments *a = lua_touserdata(L, 1);
  lua_settop(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, a->table);
  if (!lua_istable(L, 2)) return luaL_error(L, "not a table");
  push_values(L, a->values);
  lua_rawset(L, 2);
  return 0;
}

int32_t clua_set_field(clua_vm *v, int32_t table, const clua_values *key_and_value) {
  field_arguments a = {.v = v, .table = table, .values = key_and_value};
  return protect(v, set_field_body, &a);
}
