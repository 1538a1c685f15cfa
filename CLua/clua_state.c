// Copies of plain data: what a script keeps through a change of its code. Tables are taken one at a time, in C, so that
// nobody changes one under the walk; the loop over them is Lua, so that it can be interrupted for others.
#include "clua_private.h"

#define POLL_EVERY 4096

// Pushes what forbids a value to be part of plain data, "is a function", and returns true; or pushes nothing.
static bool push_refusal(lua_State *L, int index) {
  object_box *box;
  switch (lua_type(L, index)) {
    case LUA_TNIL:
    case LUA_TBOOLEAN:
    case LUA_TNUMBER:
    case LUA_TSTRING: return false;
    case LUA_TTABLE:
      if (!lua_getmetatable(L, index)) return false;
      lua_pop(L, 1);
      lua_pushliteral(L, "has a metatable");
      return true;
    case LUA_TUSERDATA:
      box = to_object(L, index);
      if (box && box->class_id >= 0 && vm_of(L)->classes[box->class_id].plain) return false;
      if (luaL_getmetafield(L, index, "__name") != LUA_TSTRING) lua_pushliteral(L, "userdata");
      lua_pushfstring(L, "is a %s", lua_tostring(L, -1));
      lua_remove(L, -2);
      return true;
    case LUA_TTHREAD: lua_pushliteral(L, "is a coroutine"); return true;
    default: lua_pushfstring(L, "is a %s", luaL_typename(L, index)); return true;
  }
}

// The arguments of `step`, on its stack; `to` is nil where nothing is copied.
enum { FROM = 1, TO, SEEN, QUEUE, PARENTS, KEYS, PARENT, KEY, VALUE };

// Pushes what stands for the value in the copy. A table met for the first time gets in line.
static void push_counterpart(lua_State *L, int index) {
  if (lua_type(L, index) != LUA_TTABLE) {
    lua_pushvalue(L, index);
    return;
  }
  lua_pushvalue(L, index);
  if (lua_rawget(L, SEEN) != LUA_TNIL) return;
  lua_pop(L, 1);
  if (lua_isnil(L, TO))
    lua_pushboolean(L, 1);
  else
    lua_createtable(L, (int)(lua_rawlen(L, index) & 0xfffff), 0);
  lua_pushvalue(L, index);
  lua_pushvalue(L, -2);
  lua_rawset(L, SEEN);
  lua_Integer place = (lua_Integer)lua_rawlen(L, QUEUE) + 1;
  lua_pushvalue(L, index);
  lua_rawseti(L, QUEUE, place);
  lua_pushvalue(L, PARENT);
  lua_rawseti(L, PARENTS, place);
  lua_pushvalue(L, KEY);
  lua_rawseti(L, KEYS, place);
}

// step(from, to | nil, seen, queue, parents, keys, place of from in the queue) -> nothing | what, key
static int l_step(lua_State *L) {
  for (int i = SEEN; i <= KEYS; i++) luaL_checktype(L, i, LUA_TTABLE);
  luaL_checktype(L, FROM, LUA_TTABLE);
  lua_settop(L, PARENT);
  luaL_checkstack(L, 12, NULL);
  lua_pushnil(L);
  for (uint32_t n = 1; lua_next(L, FROM); n++) {
    if (n % POLL_EVERY == 0) watch_poll(L);
    if (push_refusal(L, KEY)) {
      lua_pushfstring(L, "has a key that %s", lua_tostring(L, -1));
      return 1;
    }
    if (push_refusal(L, VALUE)) {
      lua_pushvalue(L, KEY);
      return 2;
    }
    push_counterpart(L, KEY);
    push_counterpart(L, VALUE);
    if (!lua_isnil(L, TO)) lua_rawset(L, TO);
    lua_settop(L, KEY);
  }
  return 0;
}

static int l_refusal(lua_State *L) {  // refusal(value) -> "is a function" | nothing
  lua_settop(L, 1);
  return push_refusal(L, 1);
}

const luaL_Reg state_functions[] = {{"step", l_step}, {"refusal", l_refusal}, {NULL, NULL}};

const char state_source[] =
  "local host = ...\n"
  "local step, refusal = host.step, host.refusal\n"
  "host.step, host.refusal = nil, nil\n"
  "local type, tostring, find, format, concat = type, tostring, string.find, string.format, table.concat\n"
  "\n"
  "local function place(key)\n"
  "  if type(key) == 'string' and find(key, '^[%a_][%w_]*$') then return '.' .. key end\n"
  "  if type(key) == 'string' then return format('[%q]', key) end\n"
  "  if type(key) == 'table' then return '[a table]' end\n"
  "  return '[' .. tostring(key) .. ']'\n"
  "end\n"
  "host.place_of_key = place\n"
  "\n"
  "local function walk(value, name, copying)\n"
  "  local what, key = refusal(value)\n"
  "  if what then return nil, name, what end\n"
  "  if type(value) ~= 'table' then return not copying or value end\n"
  "  local copy = copying and {} or true\n"
  "  local seen, queue, parents, keys = {[value] = copy}, {value}, {0}, {}\n"
  "  local i = 1\n"
  "  while queue[i] do\n"
  "    local from = queue[i]\n"
  "    what, key = step(from, copying and seen[from] or nil, seen, queue, parents, keys, i)\n"
  "    if what then break end\n"
  "    i = i + 1\n"
  "  end\n"
  "  if not what then return copy end\n"
  "  local path = {key ~= nil and place(key) or ''}\n"
  "  while i > 1 do path[#path + 1], i = place(keys[i]), parents[i] end\n"
  "  local n = #path\n"
  "  for j = 1, n // 2 do path[j], path[n + 1 - j] = path[n + 1 - j], path[j] end\n"
  "  return nil, name .. concat(path), what\n"
  "end\n"
  "\n"
  "function host.copy_state(value, name) return walk(value, name or 'state', true) end\n"
  "function host.check_state(value, name) return walk(value, name or 'state', false) end\n";
