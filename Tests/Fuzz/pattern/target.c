// Lua patterns over a peer's bytes: our counting matcher against stock Lua's. Whatever ours finishes within its budget must
// have the same outcome there: the same match and captures, no match, or an error.
//
// Input: length of the pattern (1 byte), the pattern, the subject.
#include "clua_match.h"
#include <lua5.4/lauxlib.h>
#include <lua5.4/lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEPS 20000  // stock Lua needs about as many, and cannot be stopped

static lua_State *stock;

static void differ(const char *what) {
  fprintf(stderr, "differs from stock Lua: %s\n", what);
  abort();
}

// A copy that ends where its block ends, so that the sanitizer sees a byte read too many.
static char *exact(const uint8_t *bytes, size_t length) {
  char *copy = malloc(length ? length : 1);
  if (length) memcpy(copy, bytes, length);
  return copy;
}

// The results of stock Lua's string.find are on the stack from index 1; ours are in m.
static void compare(const matcher *m, const char *start, const char *end, int results) {
  if (end == NULL) {
    if (!lua_isnil(stock, 1)) differ("we found nothing");
    return;
  }
  if (lua_isnil(stock, 1)) differ("we found something");
  if (lua_tointeger(stock, 1) != start - m->subject + 1 || lua_tointeger(stock, 2) != end - m->subject) differ("place");
  if (results - 2 != m->captures) differ("number of captures");
  for (int i = 0; i < m->captures; i++) {
    if (m->capture[i].length == CAPTURE_POSITION) {
      if (lua_tointeger(stock, i + 3) != m->capture[i].at - m->subject + 1) differ("position capture");
    } else {
      size_t length;
      const char *text = lua_tolstring(stock, i + 3, &length);
      if (length != (size_t)m->capture[i].length || memcmp(text, m->capture[i].at, length) != 0) differ("capture");
    }
  }
}

// string.find does not take such a pattern for one: lstrlib.c's nospecials, without ')'.
static int is_plain(const char *pattern, size_t length) {
  for (size_t i = 0; i < length; i++)
    if (pattern[i] && strchr("^$*+?.([%-", pattern[i])) return 0;
  return 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 1) return 0;
  if (stock == NULL) {
    stock = luaL_newstate();
    luaL_openlibs(stock);
  }
  size_t pattern_length = data[0] < size - 1 ? data[0] : size - 1, subject_length = size - 1 - pattern_length;
  char *pattern = exact(data + 1, pattern_length), *subject = exact(data + 1 + pattern_length, subject_length);
  matcher m;
  match_init(&m, subject, subject_length, pattern, pattern_length, STEPS);
  int anchored = pattern_length > 0 && pattern[0] == '^';
  const char *start = subject, *end = match_search(&m, &start, pattern + anchored, anchored);
  int failed = m.error != MATCH_FINE;
  for (int i = 0; end && i < m.captures; i++)
    if (m.capture[i].length == CAPTURE_OPEN) failed = 1;  // "unfinished capture"
  if (m.error != MATCH_TOO_COMPLEX && !is_plain(pattern, pattern_length)) {
    lua_getglobal(stock, "string");
    lua_getfield(stock, -1, "find");
    lua_replace(stock, 1);
    lua_pushlstring(stock, subject, subject_length);
    lua_pushlstring(stock, pattern, pattern_length);
    int stock_failed = lua_pcall(stock, 2, LUA_MULTRET, 0) != LUA_OK;
    if (stock_failed != failed) {
      if (!stock_failed || strstr(lua_tostring(stock, -1), "too complex") == NULL) differ(failed ? "we fail" : "we do not fail");
    } else if (!failed) {
      compare(&m, start, end, lua_gettop(stock));
    }
    lua_settop(stock, 0);
  }
  free(pattern);
  free(subject);
  return 0;
}
