// Values into Lua: flat preorder trees, pushed where a failure is caught.
#include "clua_private.h"

static void push_table(lua_State *L, const clua_value **node, const char *bytes, int depth) {
  size_t pairs = (*node)->length;
  (*node)++;
  luaL_checkstack(L, 4, "nested too deep");
  int hint = pairs > 1 << 20 ? 1 << 20 : (int)pairs;
  bool list = pairs && (*node)->type == CLUA_INT && (*node)->bits == 1;
  lua_createtable(L, list ? hint : 0, list ? 0 : hint);
  for (size_t i = 0; i < pairs; i++) {
    push_value(L, node, bytes, depth + 1);
    push_value(L, node, bytes, depth + 1);
    lua_rawset(L, -3);
  }
}

// Pushes the tree at *node and moves *node behind it. May raise.
void push_value(lua_State *L, const clua_value **node, const char *bytes, int depth) {
  const clua_value *n = *node;
  double number;
  switch (n->type) {
    case CLUA_BOOL: lua_pushboolean(L, n->bits != 0); break;
    case CLUA_INT: lua_pushinteger(L, (lua_Integer)n->bits); break;
    case CLUA_NUMBER:
      memcpy(&number, &n->bits, sizeof number);
      lua_pushnumber(L, number);
      break;
    case CLUA_STRING: lua_pushlstring(L, n->length ? (const char *)(uintptr_t)n->bits : "", n->length); break;
    case CLUA_STRING_AT: lua_pushlstring(L, n->length ? bytes + n->bits : "", n->length); break;
    case CLUA_REF: lua_rawgeti(L, LUA_REGISTRYINDEX, (lua_Integer)n->bits); break;
    case CLUA_SLOT: lua_pushvalue(L, (int)n->bits); break;
    case CLUA_OBJECT: push_object(L, n->info, (void *)(uintptr_t)n->bits); break;
    case CLUA_TABLE:
      if (depth >= CLUA_MAX_DEPTH) luaL_error(L, "table nested deeper than %d", CLUA_MAX_DEPTH);
      push_table(L, node, bytes, depth);
      return;
    default: lua_pushnil(L);
  }
  (*node)++;
}

void push_values(lua_State *L, const clua_values *values) {
  const clua_value *node = values->nodes;
  if (values->count > LUA_MINSTACK / 2) luaL_checkstack(L, (int)values->count + 4, "too many values");
  for (size_t i = 0; i < values->count; i++) push_value(L, &node, values->bytes, 0);
}
