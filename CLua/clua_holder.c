// Who keeps a retired environment alive: a walk over everything the registry reaches, breadth first, so that the path
// found is a short one. Lua code with the debug library, which scripts do not have; interrupted for others like any
// task. It costs a look at the whole heap: for whoever asks about a leak, not for each reload.
#include "clua_private.h"

static int l_sentinel_object(lua_State *L) {  // sentinel_object(sentinel) -> what tells one from another
  object_box *box = to_object(L, 1);
  lua_pushlightuserdata(L, box ? box->object : NULL);
  return 1;
}

int holder_open(lua_State *L) {  // the table `host` is on top
  lua_pushcfunction(L, l_sentinel_object);
  lua_setfield(L, -2, "sentinel_object");
  if (luaL_loadbufferx(L, holder_source, strlen(holder_source), "=[holder]", "t") != LUA_OK) return lua_error(L);
  lua_pushvalue(L, -2);
  lua_pushcfunction(L, luaopen_debug);
  lua_call(L, 0, 1);
  lua_call(L, 2, 0);
  return 0;
}

const char holder_source[] =
  "local host, debug = ...\n"
  "local place, sentinel_object = host.place_of_key, host.sentinel_object\n"
  "host.sentinel_object = nil\n"
  "local next, type, tostring, rawget, pcall, select = next, type, tostring, rawget, pcall, select\n"
  "local concat, insert, find = table.concat, table.insert, string.find\n"
  "local getmetatable, getupvalue, getlocal = debug.getmetatable, debug.getupvalue, debug.getlocal\n"
  "local getuservalue, getinfo, running = debug.getuservalue, debug.getinfo, coroutine.running\n"
  "local registry = debug.getregistry()\n"
  "local collectable = {table = true, ['function'] = true, userdata = true, thread = true}\n"
  "\n"
  "local function kind(value)\n"
  "  if type(value) == 'function' then\n"
  "    local info = getinfo(value, 'S')\n"
  "    return info.what == 'C' and ' (C function)' or ' (function ' .. info.short_src .. ':' .. info.linedefined .. ')'\n"
  "  end\n"
  "  if type(value) == 'thread' then return ' (coroutine)' end\n"
  "  return type(value) == 'userdata' and ' (' .. tostring(select(2, pcall(tostring, value))) .. ')' or ''\n"
  "end\n"
  "\n"
  // `visit(value, step)` is told of each thing a value holds.
  "local each = {}\n"
  "function each.table(t, visit)\n"
  "  local meta = getmetatable(t)\n"
  "  local mode = meta and rawget(meta, '__mode')\n"
  "  if type(mode) ~= 'string' then mode = '' end\n"
  "  visit(meta, '<metatable>')\n"
  "  if find(mode, 'k', 1, true) then return end\n"
  "  for k, v in next, t do\n"
  "    visit(k, '<key>')\n"
  "    if mode == '' and collectable[type(v)] then visit(v, place(k)) end\n"
  "  end\n"
  "end\n"
  "each['function'] = function(f, visit)\n"
  "  local i = 1\n"
  "  while true do\n"
  "    local name, value = getupvalue(f, i)\n"
  "    if not name then return end\n"
  "    visit(value, '^' .. (name == '' and i or name))\n"
  "    i = i + 1\n"
  "  end\n"
  "end\n"
  "function each.userdata(u, visit)\n"
  "  visit(getmetatable(u), '<metatable>')\n"
  "  local i = 1\n"
  "  while true do\n"
  "    local value, exists = getuservalue(u, i)\n"
  "    if not exists then return end\n"
  "    visit(value, '.data')\n"
  "    i = i + 1\n"
  "  end\n"
  "end\n"
  "function each.thread(co, visit)\n"
  "  local level = 0\n"
  "  while true do\n"
  "    local info = getinfo(co, level, 'Slf')\n"
  "    if not info then return end\n"
  "    local where = ' at ' .. info.short_src .. ':' .. info.currentline\n"
  "    visit(info.func, where)\n"
  "    for step = 1, -1, -2 do\n"
  "      local i = step\n"
  "      while true do\n"
  "        local name, value = getlocal(co, level, i)\n"
  "        if not name then break end\n"
  "        visit(value, where .. ' ' .. name)\n"
  "        i = i + step\n"
  "      end\n"
  "    end\n"
  "    level = level + 1\n"
  "  end\n"
  "end\n"
  "\n"
  "local function search(target, ignored)\n"
  "  local queue, parents, steps, n = {registry}, {0}, {'registry'}, 1\n"
  "  local seen = {[registry] = true, [running()] = true, [ignored] = true}\n"
  "  local i, found = 1, nil\n"
  "  local function visit(value, step)\n"
  "    if found or not collectable[type(value)] or seen[value] then return end\n"
  "    seen[value] = true\n"
  "    n = n + 1\n"
  "    queue[n], parents[n], steps[n] = value, i, step\n"
  "    if value == target then found = n end\n"
  "  end\n"
  "  while queue[i] and not found do\n"
  "    each[type(queue[i])](queue[i], visit)\n"
  "    i = i + 1\n"
  "  end\n"
  "  if not found then return end\n"
  "  local path = {}\n"
  "  while found > 0 do\n"
  "    insert(path, 1, steps[found] .. (parents[found] == 1 and kind(queue[found]) or ''))\n"
  "    found = parents[found]\n"
  "  end\n"
  "  return concat(path)\n"
  "end\n"
  "\n"
  "function host.find_holder(records, object)\n"
  "  for env, record in next, records do\n"
  "    if record.sentinel and sentinel_object(record.sentinel) == object then return search(env, records) end\n"
  "  end\n"
  "end\n";
