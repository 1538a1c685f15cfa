// Table functions whose C loop length the caller controls: a fake __len or a huge range must not hold the thread.
// Same results as stock Lua's; they look at the clock every few thousand steps.
#include "clua_private.h"
#include <limits.h>

#define LOOK_EVERY 4096

static inline void turn(lua_State *L, uint32_t *turns) {
  if (++*turns % LOOK_EVERY == 0) watch_poll(L);
}

// Tables, and what behaves like one.
static void check_table(lua_State *L, int arg) {
  if (lua_type(L, arg) == LUA_TTABLE) return;
  if (luaL_getmetafield(L, arg, "__index") == LUA_TNIL) luaL_checktype(L, arg, LUA_TTABLE);
  lua_pop(L, 1);
}

static int tab_insert(lua_State *L) {
  check_table(L, 1);
  uint32_t turns = 0;
  lua_Integer end = (lua_Integer)((lua_Unsigned)luaL_len(L, 1) + 1), position;
  switch (lua_gettop(L)) {
    case 2: position = end; break;
    case 3:
      position = luaL_checkinteger(L, 2);
      luaL_argcheck(L, (lua_Unsigned)position - 1u < (lua_Unsigned)end, 2, "position out of bounds");
      for (lua_Integer i = end; i > position; i--) {
        turn(L, &turns);
        lua_geti(L, 1, i - 1);
        lua_seti(L, 1, i);
      }
      break;
    default: return luaL_error(L, "wrong number of arguments to 'insert'");
  }
  lua_seti(L, 1, position);
  return 0;
}

static int tab_remove(lua_State *L) {
  check_table(L, 1);
  uint32_t turns = 0;
  lua_Integer size = luaL_len(L, 1), position = luaL_optinteger(L, 2, size);
  if (position != size)
    luaL_argcheck(L, (lua_Unsigned)position - 1u <= (lua_Unsigned)size, 2, "position out of bounds");
  lua_geti(L, 1, position);
  for (; position < size; position++) {
    turn(L, &turns);
    lua_geti(L, 1, position + 1);
    lua_seti(L, 1, position);
  }
  lua_pushnil(L);
  lua_seti(L, 1, position);
  return 1;
}

static int tab_move(lua_State *L) {
  lua_Integer first = luaL_checkinteger(L, 2), last = luaL_checkinteger(L, 3), to = luaL_checkinteger(L, 4);
  int target = lua_isnoneornil(L, 5) ? 1 : 5;
  uint32_t turns = 0;
  check_table(L, 1);
  check_table(L, target);
  if (last >= first) {
    luaL_argcheck(L, first > 0 || last < LUA_MAXINTEGER + first, 3, "too many elements to move");
    lua_Integer count = last - first + 1;
    luaL_argcheck(L, to <= LUA_MAXINTEGER - count + 1, 4, "destination wrap around");
    bool upwards = to > last || to <= first || (target != 1 && !lua_compare(L, 1, target, LUA_OPEQ));
    for (lua_Integer k = 0; k < count; k++) {
      lua_Integer i = upwards ? k : count - 1 - k;
      turn(L, &turns);
      lua_geti(L, 1, first + i);
      lua_seti(L, target, to + i);
    }
  }
  lua_pushvalue(L, target);
  return 1;
}

static int tab_concat(lua_State *L) {
  check_table(L, 1);
  size_t ls;
  uint32_t turns = 0;
  const char *separator = luaL_optlstring(L, 2, "", &ls);
  lua_Integer i = luaL_optinteger(L, 3, 1), last = lua_isnoneornil(L, 4) ? luaL_len(L, 1) : luaL_checkinteger(L, 4);
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (; i <= last; i++) {
    turn(L, &turns);
    lua_geti(L, 1, i);
    if (!lua_isstring(L, -1))
      return luaL_error(L, "invalid value (%s) at index %I in table for 'concat'", luaL_typename(L, -1),
                        (LUAI_UACINT)i);
    luaL_addvalue(&b);
    if (i == last) break;
    luaL_addlstring(&b, separator, ls);
  }
  luaL_pushresult(&b);
  return 1;
}

// ---------------------------------------------------------------- sort: quicksort, insertion sort for short ranges

typedef struct sorting {
  lua_State *L;
  uint32_t turns;
} sorting;

#define INSERTION_MAX 12

static bool less(sorting *s, int a, int b) {  // stack indexes
  lua_State *L = s->L;
  turn(L, &s->turns);
  if (lua_isnil(L, 2)) return lua_compare(L, a, b, LUA_OPLT);
  a = lua_absindex(L, a);
  b = lua_absindex(L, b);
  lua_pushvalue(L, 2);
  lua_pushvalue(L, a);
  lua_pushvalue(L, b);
  lua_call(L, 2, 1);
  bool result = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return result;
}

static void insertion(sorting *s, lua_Integer low, lua_Integer high) {
  lua_State *L = s->L;
  for (lua_Integer i = low + 1; i <= high; i++) {
    lua_geti(L, 1, i);  // the value to place
    lua_Integer j = i;
    for (; j > low; j--) {
      lua_geti(L, 1, j - 1);
      if (!less(s, -2, -1)) {
        lua_pop(L, 1);
        break;
      }
      lua_seti(L, 1, j);
    }
    lua_seti(L, 1, j);
  }
}

static void exchange_if_less(sorting *s, lua_Integer a, lua_Integer b) {  // after it, not t[b] < t[a]
  lua_State *L = s->L;
  lua_geti(L, 1, a);
  lua_geti(L, 1, b);
  if (less(s, -1, -2)) {
    lua_seti(L, 1, a);
    lua_seti(L, 1, b);
  } else {
    lua_pop(L, 2);
  }
}

// Splits around the median of three; the pivot is on the stack meanwhile. Returns its place.
static lua_Integer partition(sorting *s, lua_Integer low, lua_Integer high) {
  lua_State *L = s->L;
  lua_Integer middle = low + (high - low) / 2;
  exchange_if_less(s, low, middle);
  exchange_if_less(s, middle, high);
  exchange_if_less(s, low, middle);
  lua_geti(L, 1, middle);
  lua_pushvalue(L, -1);
  lua_geti(L, 1, high - 1);
  lua_seti(L, 1, middle);
  lua_seti(L, 1, high - 1);  // pivot parked before the end
  lua_Integer i = low, j = high - 1;
  for (;;) {
    while (lua_geti(L, 1, ++i), less(s, -1, -2)) {
      if (i == high - 1) luaL_error(L, "invalid order function for sorting");
      lua_pop(L, 1);
    }
    while (lua_geti(L, 1, --j), less(s, -3, -1)) {
      if (j < i) luaL_error(L, "invalid order function for sorting");
      lua_pop(L, 1);
    }
    if (j < i) break;
    lua_seti(L, 1, i);  // t[i] = old t[j]
    lua_seti(L, 1, j);
  }
  lua_pop(L, 2);
  lua_pop(L, 1);
  lua_geti(L, 1, high - 1);
  lua_geti(L, 1, i);
  lua_seti(L, 1, high - 1);
  lua_seti(L, 1, i);
  return i;
}

static void quicksort(sorting *s, lua_Integer low, lua_Integer high) {
  luaL_checkstack(s->L, 20, "sorting");
  while (high - low > INSERTION_MAX) {
    lua_Integer p = partition(s, low, high);
    if (p - low < high - p) {  // recursion into the shorter side: logarithmic depth
      quicksort(s, low, p - 1);
      low = p + 1;
    } else {
      quicksort(s, p + 1, high);
      high = p - 1;
    }
  }
  insertion(s, low, high);
}

static int tab_sort(lua_State *L) {
  check_table(L, 1);
  lua_Integer n = luaL_len(L, 1);
  if (n > 1) {
    luaL_argcheck(L, n < INT_MAX, 1, "array too big");
    if (!lua_isnoneornil(L, 2)) luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 2);
    sorting s = {L, 0};
    quicksort(&s, 1, n);
  }
  return 0;
}

const luaL_Reg table_functions[] = {{"insert", tab_insert}, {"remove", tab_remove}, {"move", tab_move},
                                    {"concat", tab_concat}, {"sort", tab_sort},     {NULL, NULL}};
