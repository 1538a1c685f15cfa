// Our pattern functions and table functions against the stock library: same results, same errors, on random input.
// Argument: seed; without one several fixed seeds are run.
#include "../../CLua/clua_private.h"
#include "harness.h"
#include <stdlib.h>

static const char patterns[] =
    "local R, stock, mine = math.random, stock_string, string\n"
    "local atoms = {'a', 'b', '%a', '%d', '%s', '.', '[ab]', '[^a]', '[%w_]', '[a-c]', '%.', '%w', '%u', '[]]', "
    "'[^]a]', '%D', '[%d-]', '(', ')', '()', '%1', '%b()',\n"
    "  '%f[%w]', '$', '^', '%', '[', '-', '%2', '%b', '%f', '[a', '%x', '\\0', '[%z]', '%%', ']', '*', '%g', '%l', "
    "'%c', '%p'}\n"
    "local suffix = {'', '', '', '*', '+', '-', '?'}\n"
    "local function pattern() local t = {} if R(4) == 1 then t[1] = '^' end for i = 1, R(0, 6) do t[#t + 1] = "
    "atoms[R(#atoms)] .. suffix[R(#suffix)] end\n"
    "  if R(5) == 1 then t[#t + 1] = '$' end return table.concat(t) end\n"
    "local letters = {'a', 'b', 'c', '1', '2', ' ', '(', ')', '_', '.', 'A', '\\0', '-', ']', '%'}\n"
    "local function subject() local t = {} for i = 1, R(0, 14) do t[i] = letters[R(#letters)] end return "
    "table.concat(t) end\n"
    "local replacements = {'x', '%0', '%1', '<%1%2>', '%%', '%', '%9'}\n"
    "local function run(f, ...) return table.pack(pcall(f, ...)) end\n"
    "local function same(a, b) if a[1] ~= b[1] then return false end if not a[1] then return a[2] == b[2] end if a.n "
    "~= b.n then return false end\n"
    "  for i = 2, a.n do if a[i] ~= b[i] then return false end end return true end\n"
    "local function collect(gmatch, s, p, init) local out = {} for a, b in gmatch(s, p, init) do out[#out + 1] = "
    "tostring(a) .. '|' .. tostring(b) if #out > 50 then break end end\n"
    "  return table.concat(out, ',') end\n"
    "local differences, count = 0, 0\n"
    "local function compare(name, f, g, ...)\n"
    "  count = count + 1\n"
    "  local a, b = run(f, ...), run(g, ...)\n"
    "  if same(a, b) then return end\n"
    "  differences = differences + 1\n"
    "  if differences < 10 then local t = table.pack(...) for i = 1, t.n do t[i] = type(t[i]) == 'string' and "
    "('%q'):format(t[i]) or tostring(t[i]) end\n"
    "    report(name .. '(' .. table.concat(t, ', ') .. ') stock ' .. tostring(a[2]) .. ' mine ' .. tostring(b[2])) "
    "end\n"
    "end\n"
    "for i = 1, rounds do\n"
    "  local s, p, init = subject(), pattern(), R(-5, 8)\n"
    "  compare('find', stock.find, mine.find, s, p, init)\n"
    "  compare('match', stock.match, mine.match, s, p, init)\n"
    "  compare('gmatch', function(...) return collect(stock.gmatch, ...) end, function(...) return "
    "collect(mine.gmatch, ...) end, s, p, init)\n"
    "  local r = replacements[R(#replacements)]\n"
    "  if R(4) == 1 then r = {a = 'X', ['1'] = false, b = 5} elseif R(5) == 1 then r = function(x) return x == 'a' and "
    "'Q' or nil end end\n"
    "  compare('gsub', stock.gsub, mine.gsub, s, p, r, R(3) == 1 and R(0, 3) or nil)\n"
    "  compare('plain', stock.find, mine.find, s, subject():sub(1, 3), init, true)\n"
    "  compare('rep', stock.rep, mine.rep, s, R(-1, 9), R(2) == 1 and subject() or nil)\n"
    "end\n"
    "return count, differences\n";

static const char tables[] =
    "local R, stock, mine = math.random, stock_table, table\n"
    "local differences, count = 0, 0\n"
    "local function show(t) local o = {} for i = 1, 20 do o[i] = tostring(t[i]) end return table.concat(o, ' ') end\n"
    // which argument is to blame for a bad position differs between versions of 5.4
    "local function plain(v) return (tostring(v):gsub('0x%x+', ''):gsub(\"argument #%d to '.-'\", '')) end\n"
    "local function compare(name, make, ...)\n"
    "  count = count + 1\n"
    "  local a, b = make(), make()\n"
    "  local x, y = table.pack(pcall(stock[name], a, ...)), table.pack(pcall(mine[name], b, ...))\n"
    "  if x[1] == y[1] and plain(x[2]) == plain(y[2]) and show(a) == show(b) then return end\n"
    "  differences = differences + 1\n"
    "  if differences < 10 then report(name .. ' of ' .. show(make()) .. ': stock ' .. tostring(x[2]) .. ' / ' .. "
    "show(a) .. ' mine ' .. tostring(y[2]) .. ' / ' .. show(b)) end\n"
    "end\n"
    "for i = 1, rounds do\n"
    "  local n, values = R(0, 12), {}\n"
    "  for k = 1, n do values[k] = R(9) end\n"
    "  local function make() return {table.unpack(values)} end\n"
    "  compare('insert', make, R(-1, 14), 'x')\n"
    "  compare('insert', make, 'x')\n"
    "  compare('insert', make)\n"
    "  compare('remove', make)\n"
    "  compare('remove', make, R(-1, 14))\n"
    "  compare('move', make, R(-2, 5), R(-2, 12), R(-2, 12))\n"
    "  compare('concat', make, ', ', R(1, 4), R(0, 13))\n"
    "  compare('concat', make)\n"
    "  local big = {}\n"
    "  for k = 1, R(0, 200) do big[k] = R(50) end\n"
    "  local a, b = {table.unpack(big)}, {table.unpack(big)}\n"
    "  local order = R(3)\n"
    "  local less = order == 1 and nil or order == 2 and function(x, y) return x > y end or function(x, y) return x % "
    "7 < y % 7 or x % 7 == y % 7 and x < y end\n"
    "  stock.sort(a, less) mine.sort(b, less) count = count + 1\n"
    "  for k = 1, #big do if a[k] ~= b[k] then differences = differences + 1 report('sort differs at ' .. k) break end "
    "end\n"
    "  pcall(mine.sort, b, function() return R(2) == 1 end)\n"
    "  pcall(mine.sort, b, function() return true end)\n"
    "  local t = {} for _, v in ipairs(b) do t[v] = (t[v] or 0) + 1 end for _, v in ipairs(big) do t[v] = (t[v] or 0) "
    "- 1 end\n"
    "  for _, v in pairs(t) do if v ~= 0 then differences = differences + 1 report('sort with a senseless order lost "
    "elements') break end end\n"
    "end\n"
    "return count, differences\n";

static int report(lua_State *L) {
  printf("   %s\n", lua_tostring(L, 1));
  return 0;
}

static void compare(const char *what, const char *source, int seed, int rounds) {
  clua_limits limits = default_limits;
  limits.memory = 256u << 20;
  limits.pattern_steps = (int64_t)1 << 40;
  harness *h = harness_open(&limits, false);
  lua_State *L = h->vm->L;
  luaL_requiref(L, "stock_string", luaopen_string, 1);
  luaL_requiref(L, "stock_table", luaopen_table, 1);
  lua_getglobal(L,
                "string");  // luaopen_string gave strings the stock methods: those of the script are compared by name
  lua_settop(L, 0);
  lua_pushinteger(L, rounds);
  lua_setglobal(L, "rounds");
  lua_pushcfunction(L, report);
  lua_setglobal(L, "report");
  lua_getglobal(L, "math");
  lua_getfield(L, -1, "randomseed");
  lua_pushinteger(L, seed);
  lua_call(L, 1, 0);
  lua_settop(L, 0);
  if (luaL_dostring(L, source) != LUA_OK) {
    check(false, what, lua_tostring(L, -1));
  } else {
    char text[100];
    snprintf(text, sizeof text, "%lld differences in %lld comparisons, seed %d", (long long)lua_tointeger(L, 2),
             (long long)lua_tointeger(L, 1), seed);
    check(lua_tointeger(L, 2) == 0 && lua_tointeger(L, 1) > rounds, what, text);
  }
  lua_settop(L, 0);
  harness_close(h);
}

static void budgets(void) {
  clua_limits limits = default_limits;
  limits.pattern_steps = 100000;
  harness *h = harness_open(&limits, false);
  const char *evil[] = {
      "string.find(('a'):rep(40), ('a?'):rep(40) .. ('a'):rep(40))", "string.match(('a'):rep(5000), '.-.-.-b')",
      "for x in string.gmatch(('a'):rep(5000), '.-.-.-b') do end", "string.gsub(('a'):rep(5000), '.-.-.-b', '')"};
  for (int i = 0; i < 4; i++) {
    char source[300];
    snprintf(source, sizeof source, "local ok, e = pcall(function() %s end) log(e.code, tostring(e))", evil[i]);
    double start = now_ms();
    harness_run(h, source, "");
    expect_log(h, evil[i], "too_complex|main.lua:1: pattern too complex for this subject|");
    check(now_ms() - start < 1000, "and soon", NULL);
  }
  harness_run(h,
              "local s = ('word '):rep(200000) local n = 0 for w in s:gmatch('%w+') do n = n + 1 end log(n, (select(2, "
              "s:gsub('%s+', '-'))))",
              "");
  harness_ready(h);
  expect_log(h, "a linear pattern over a megabyte is no attack", "200000|200000|");
  harness_close(h);

  check(clua_match("^a+b$", 5, "aaab", 4, 1000) == CLUA_MATCH_YES, "clua_match", NULL);
  check(clua_match("x", 1, "aaab", 4, 1000) == CLUA_MATCH_NO, "clua_match: no", NULL);
  check(clua_match("", 0, NULL, 0, 10) == CLUA_MATCH_YES, "clua_match: nothing in nothing", NULL);
  check(clua_match("[a", 2, "a", 1, 1000) == CLUA_MATCH_MALFORMED, "clua_match: malformed", NULL);
  check(clua_match("(a", 2, "a", 1, 1000) == CLUA_MATCH_MALFORMED, "clua_match: unfinished capture", NULL);
  check(clua_match(".-.-.-b", 7, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 40, 500) == CLUA_MATCH_TOO_COMPLEX,
        "clua_match: too complex", NULL);
}

int main(int count, char **arguments) {
  const char *rounds_text = getenv("LIBRARY_ROUNDS");
  int rounds = rounds_text ? atoi(rounds_text) : 6000;
  if (count > 1) {
    compare("patterns", patterns, atoi(arguments[1]), rounds);
    compare("tables", tables, atoi(arguments[1]), rounds);
    return finish("library");
  }
  for (int seed = 1; seed <= 3; seed++) {
    compare("patterns", patterns, seed, rounds);
    compare("tables", tables, seed, rounds / 6);
  }
  budgets();
  return finish("library");
}
