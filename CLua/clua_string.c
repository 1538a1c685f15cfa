// string.find, match, gmatch, gsub over the counting matcher, and rep, whose stock loop length the caller controls.
#include "clua_private.h"
#include "clua_match.h"
#include <ctype.h>

#define STEPS_PER_BYTE 8  // a linear pattern over a large message is no attack

int64_t pattern_budget(const clua_vm *v, size_t subject) {
  return v->limits.pattern_steps + STEPS_PER_BYTE * (int64_t)subject;
}

static void look(matcher *m) { watch_poll(m->context); }

static void begin(matcher *m, lua_State *L, const char *s, size_t ls, const char *p, size_t lp) {
  match_init(m, s, ls, p, lp, pattern_budget(vm_of(L), ls));
  m->look = look;
  m->context = L;
}

static void check(lua_State *L, const matcher *m) {
  if (m->error == MATCH_FINE) return;
  if (m->error == MATCH_TOO_COMPLEX) raise_coded(L, "too_complex", m->message);
  if (m->error_index >= 0) luaL_error(L, "invalid capture index %%%d", m->error_index);
  luaL_error(L, "%s", m->message);
}

// ---------------------------------------------------------------- captures

static void push_capture(lua_State *L, matcher *m, int i, const char *s, const char *end) {
  if (i >= m->captures) {
    if (i) luaL_error(L, "invalid capture index %%%d", i + 1);
    lua_pushlstring(L, s, (size_t)(end - s));
  } else if (m->capture[i].length == CAPTURE_POSITION) {
    lua_pushinteger(L, m->capture[i].at - m->subject + 1);
  } else if (m->capture[i].length == CAPTURE_OPEN) {
    luaL_error(L, "unfinished capture");
  } else {
    lua_pushlstring(L, m->capture[i].at, (size_t)m->capture[i].length);
  }
}

static int push_captures(lua_State *L, matcher *m, const char *s, const char *end) {
  int n = m->captures == 0 && s ? 1 : m->captures;
  luaL_checkstack(L, n, "too many captures");
  for (int i = 0; i < n; i++) push_capture(L, m, i, s, end);
  return n;
}

// ---------------------------------------------------------------- find, match

static size_t start_offset(lua_Integer i, size_t length) {
  if (i > 0) return (size_t)i - 1;
  if (i == 0) return 0;
  return i < -(lua_Integer)length ? 0 : length - (size_t)(-i);
}

static bool is_plain(const char *p, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (p[i] && strchr("^$*+?.([%-", p[i])) return false;
  return true;
}

// First byte by memchr, the rest by memcmp: fastest for short needles. After some false starts memmem, which is
// linear in glibc (stock Lua's way is quadratic).
#define FALSE_STARTS 16

static const char *find_bytes(const char *s, const char *end, const char *p, size_t lp) {
  if (lp == 0) return s;
  for (int tries = 0; (size_t)(end - s) >= lp; tries++) {
    if (tries == FALSE_STARTS) return memmem(s, (size_t)(end - s), p, lp);
    const char *hit = memchr(s, *p, (size_t)(end - s) - lp + 1);
    if (hit == NULL || memcmp(hit + 1, p + 1, lp - 1) == 0) return hit;
    s = hit + 1;
  }
  return NULL;
}

static int find_plain(lua_State *L, const char *s, size_t ls, size_t at, const char *p, size_t lp) {
  const char *hit = find_bytes(s + at, s + ls, p, lp);
  if (hit == NULL) {
    lua_pushnil(L);
    return 1;
  }
  lua_pushinteger(L, hit - s + 1);
  lua_pushinteger(L, hit - s + (lua_Integer)lp);
  return 2;
}

static int find_or_match(lua_State *L, bool find) {
  size_t ls, lp;
  const char *s = luaL_checklstring(L, 1, &ls), *p = luaL_checklstring(L, 2, &lp);
  size_t at = start_offset(luaL_optinteger(L, 3, 1), ls);
  if (at > ls) {
    lua_pushnil(L);
    return 1;
  }
  if (find && (lua_toboolean(L, 4) || is_plain(p, lp))) return find_plain(L, s, ls, at, p, lp);
  matcher m;
  begin(&m, L, s, ls, p, lp);
  bool anchored = lp && *p == '^';
  const char *q = s + at, *end = match_search(&m, &q, p + anchored, anchored);
  check(L, &m);
  if (end == NULL) {
    lua_pushnil(L);
    return 1;
  }
  if (!find) return push_captures(L, &m, q, end);
  lua_pushinteger(L, q - s + 1);
  lua_pushinteger(L, end - s);
  return push_captures(L, &m, NULL, NULL) + 2;
}

static int str_find(lua_State *L) { return find_or_match(L, true); }
static int str_match(lua_State *L) { return find_or_match(L, false); }

// ---------------------------------------------------------------- gmatch

// upvalues: 1 subject, 2 pattern, 3 where to go on, 4 end of the last match (an empty match there does not count
// again)
static int gmatch_next(lua_State *L) {
  size_t ls, lp;
  const char *s = lua_tolstring(L, lua_upvalueindex(1), &ls), *p = lua_tolstring(L, lua_upvalueindex(2), &lp);
  size_t at = (size_t)lua_tointeger(L, lua_upvalueindex(3));
  lua_Integer last = lua_tointeger(L, lua_upvalueindex(4));
  matcher m;
  begin(&m, L, s, ls, p, lp);
  for (; at <= ls; at++) {
    const char *q = match_candidate(&m, s + at, p);
    if (q == NULL) return 0;
    at = (size_t)(q - s);
    m.captures = 0;
    m.depth = 0;
    const char *end = match_at(&m, q, p);
    check(L, &m);
    if (end == NULL || end - s == last) continue;
    lua_pushinteger(L, end - s);
    lua_copy(L, -1, lua_upvalueindex(3));
    lua_replace(L, lua_upvalueindex(4));
    return push_captures(L, &m, q, end);
  }
  return 0;
}

static int str_gmatch(lua_State *L) {
  size_t ls;
  luaL_checklstring(L, 1, &ls);
  luaL_checkstring(L, 2);
  size_t at = start_offset(luaL_optinteger(L, 3, 1), ls);
  if (at > ls) at = ls + 1;
  lua_settop(L, 2);
  lua_pushinteger(L, (lua_Integer)at);
  lua_pushinteger(L, -1);
  lua_pushcclosure(L, gmatch_next, 4);
  return 1;
}

// ---------------------------------------------------------------- gsub

static void add_template(lua_State *L, matcher *m, luaL_Buffer *b, const char *r, size_t lr, const char *s,
                         const char *end) {
  m->fuel -= (int64_t)(lr >> 4);
  for (const char *stop = r + lr; r < stop; r++) {
    if (*r != '%') {
      luaL_addchar(b, *r);
      continue;
    }
    r++;
    if (r < stop && *r == '%') {
      luaL_addchar(b, '%');
    } else if (r < stop && *r == '0') {
      luaL_addlstring(b, s, (size_t)(end - s));
    } else if (r < stop && isdigit((unsigned char)*r)) {
      push_capture(L, m, *r - '1', s, end);
      luaL_tolstring(L, -1, NULL);  // a position capture is a number
      lua_remove(L, -2);
      luaL_addvalue(b);
    } else {
      luaL_error(L, "invalid use of '%%' in replacement string");
    }
  }
}

static void add_looked_up(lua_State *L, matcher *m, luaL_Buffer *b, int type, const char *s, const char *end) {
  if (type == LUA_TTABLE) {
    push_capture(L, m, 0, s, end);
    lua_gettable(L, 3);
  } else {
    lua_pushvalue(L, 3);
    lua_call(L, push_captures(L, m, s, end), 1);
  }
  if (!lua_toboolean(L, -1)) {
    lua_pop(L, 1);
    luaL_addlstring(b, s, (size_t)(end - s));
  } else if (!lua_isstring(L, -1)) {
    luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
  } else {
    luaL_addvalue(b);
  }
}

static int str_gsub(lua_State *L) {
  size_t ls, lp, lr = 0;
  const char *s = luaL_checklstring(L, 1, &ls), *p = luaL_checklstring(L, 2, &lp), *r = NULL;
  int type = lua_type(L, 3);
  if (type == LUA_TNUMBER || type == LUA_TSTRING)
    r = lua_tolstring(L, 3, &lr);
  else
    luaL_argexpected(L, type == LUA_TTABLE || type == LUA_TFUNCTION, 3, "string/function/table");
  lua_Integer most = luaL_optinteger(L, 4, (lua_Integer)ls + 1), n = 0;
  bool anchored = lp && *p == '^';
  matcher m;
  begin(&m, L, s, ls, p, lp);
  p += anchored;
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  const char *q = s, *last = NULL;
  while (n < most) {
    if (!anchored) {
      const char *next = match_candidate(&m, q, p);
      if (next == NULL) break;
      luaL_addlstring(&b, q, (size_t)(next - q));
      q = next;
    }
    m.captures = 0;
    m.depth = 0;
    const char *end = match_at(&m, q, p);
    check(L, &m);
    if (end && end != last) {
      n++;
      if (r)
        add_template(L, &m, &b, r, lr, q, end);
      else
        add_looked_up(L, &m, &b, type, q, end);
      q = last = end;
    } else if (q < m.subject_end) {
      luaL_addchar(&b, *q++);
    } else {
      break;
    }
    if (anchored) break;
  }
  luaL_addlstring(&b, q, (size_t)(m.subject_end - q));
  luaL_pushresult(&b);
  lua_pushinteger(L, n);
  return 2;
}

// ---------------------------------------------------------------- rep

static int str_rep(lua_State *L) {
  size_t l, ls;
  const char *s = luaL_checklstring(L, 1, &l);
  lua_Integer n = luaL_checkinteger(L, 2);
  const char *separator = luaL_optlstring(L, 3, "", &ls);
  size_t unit = l + ls;
  if (n <= 0 || unit == 0) {
    lua_pushliteral(L, "");
    return 1;
  }
  if (unit < l || (uint64_t)n > vm_of(L)->limits.memory / unit) return luaL_error(L, "resulting string too large");
  size_t total = (size_t)n * unit - ls;
  luaL_Buffer b;
  char *out = luaL_buffinitsize(L, &b, total + ls);
  memcpy(out, s, l);
  memcpy(out + l, separator, ls);
  for (size_t have = unit; have < total;) {  // doubling: as many copies as bits in n
    size_t piece = have < total - have ? have : total - have;
    memcpy(out + have, out, piece);
    have += piece;
  }
  luaL_pushresultsize(&b, total);
  return 1;
}

const luaL_Reg string_functions[] = {{"find", str_find}, {"match", str_match}, {"gmatch", str_gmatch},
                                     {"gsub", str_gsub}, {"rep", str_rep},     {NULL, NULL}};
