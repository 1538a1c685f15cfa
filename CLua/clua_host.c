// Calls from Lua into the host. Arguments are read onto the C stack without conversion or allocation, the host
// function runs and returns; only then are results pushed, an error raised, or the task parked.
#include "clua_private.h"
#include <stdlib.h>

// ---------------------------------------------------------------- the trampoline

static int push_tree_results(lua_State *L, clua_call *c) {
  clua_vm *v = vm_of(L);
  clua_values values = {c->tree, (size_t)c->result_count, v->result_bytes};
  push_values(L, &values);
  forget_results(v);
  return c->result_count;
}

static int push_results(lua_State *L, clua_call *c) {
  clua_vm *v = vm_of(L);
  if (c->tree) return push_tree_results(L, c);
  int count = c->result_count;
  if (count == 1 && c->results[0].type == CLUA_BOOL) {  // most calls, `send` among them
    lua_pushboolean(L, c->results[0].bits != 0);
    return 1;
  }
  for (int i = 0; i < count; i++) {  // what cannot fail first: an error must not lose a reference that is given back
    clua_value *r = &c->results[i];
    if (r->type != CLUA_REF || r->info == 0) continue;
    int ref = (int)r->bits;
    lua_rawgeti(L, LUA_REGISTRYINDEX, ref);
    unref(v, &ref);
    *r = (clua_value){.type = CLUA_SLOT, .bits = (uint64_t)lua_gettop(L)};
  }
  clua_values values = {c->results, (size_t)count, v->result_bytes};
  push_values(L, &values);
  return count;
}

static int raise_message(lua_State *L, clua_call *c) {
  push_where(L);
  clua_values values = {c->tree ? c->tree : c->results, 1, vm_of(L)->result_bytes};
  push_values(L, &values);
  lua_concat(L, 2);
  return lua_error(L);
}

static int bad_argument(lua_State *L, clua_call *c) {
  clua_values values = {c->results, 1, vm_of(L)->result_bytes};
  push_values(L, &values);
  return luaL_argerror(L, (int)c->results[1].bits + 1, lua_tostring(L, -1));
}

static int wait_for_host(lua_State *L, clua_call *c) {
  clua_vm *v = vm_of(L);
  task *t = v->cur;
  if (!can_wait(L)) {
    v->host.abandoned(v->host.context, c->task, c->wait);
    return raise_cannot_wait(L);
  }
  t->wait_serial = c->wait;
  if (t->has_pending) return continue_wait(L, LUA_OK, 0);  // what it waits for came before it began
  if (t->cancelled) {
    v->host.abandoned(v->host.context, c->task, c->wait);
    return raise_cancelled(L, t);
  }
  return park(L, 0, continue_wait);
}

int call_host_function(lua_State *L, int function) {
  clua_vm *v = vm_of(L);
  task *t = v->cur;
  clua_call c;
  c.function = function;
  c.count = lua_gettop(L);
  c.result_count = 0;
  c.state = L;
  c.tree = NULL;
  if (t) {
    c.task = t->id;
    c.tag = t->tag;
    c.wait = ++t->serial;
  } else {
    c.task = c.tag = c.wait = 0;
  }
  int inline_count = c.count < CLUA_INLINE_ARGS ? c.count : CLUA_INLINE_ARGS;
  for (int i = 0; i < inline_count; i++) {
    clua_value *out = &c.args[i];
    object_box *box;
    switch (lua_type(L, i + 1)) {  // what `send` is given goes first
      case LUA_TSTRING:
        out->type = CLUA_STRING;
        out->info = 0;
        out->bits = (uint64_t)(uintptr_t)lua_tolstring(L, i + 1, &out->length);
        break;
      case LUA_TUSERDATA:
        if ((box = to_object(L, i + 1))) {
          *out = (clua_value){.type = CLUA_OBJECT, .info = box->class_id, .bits = (uint64_t)(uintptr_t)box->object};
          break;
        }
        __attribute__((fallthrough));
      default: read_argument(L, i + 1, out);
    }
  }
  if (v->result_count || v->result_length) forget_results(v);  // of a call whose results could not be pushed

  int code = v->host.call(v->host.context, &c);

  if (code == CLUA_WAIT) return wait_for_host(L, &c);
  if (t && t->has_pending) {  // resumed, but it did not wait
    t->has_pending = false;
    unref(v, &t->pending);
  }
  switch (code) {
    case CLUA_RETURN: return push_results(L, &c);
    case CLUA_RAISE: return raise_message(L, &c);
    case CLUA_RAISE_VALUE: push_results(L, &c); return lua_error(L);
    case CLUA_BAD_ARGUMENT: return bad_argument(L, &c);
    default: return luaL_error(L, "not enough memory");
  }
}

int call_host(lua_State *L) { return call_host_function(L, function_number(L, 1)); }

int call_quick(lua_State *L) {
  const quick_method *m = lua_touserdata(L, lua_upvalueindex(1));
  object_box *box = to_object(L, 1), *second = NULL;
  int count = lua_gettop(L);
  if (box && box->class_id == m->class_id && lua_type(L, 2) == LUA_TSTRING &&
      (count == 2 || (count == 3 && (second = to_object(L, 3))))) {
    size_t length;
    const char *bytes = lua_tolstring(L, 2, &length);
    if (m->quick(box->object, bytes, length, second ? second->object : NULL)) {
      lua_pushboolean(L, 1);
      return 1;
    }
  }
  return call_host_function(L, m->function);
}

bool clua_call_can_wait(const clua_call *c) { return can_wait(c->state); }

// ---------------------------------------------------------------- results that outlive the host's frame

void forget_results(clua_vm *v) {
  for (size_t i = 0; i < v->result_count; i++)
    if (v->result_nodes[i].type == CLUA_OBJECT)
      v->host.release(v->host.context, (void *)(uintptr_t)v->result_nodes[i].bits);
  v->result_count = 0;
  v->result_length = 0;
  if (v->result_bytes_capacity > 1 << 20) {  // one large answer does not stay for ever
    free(v->result_bytes);
    v->result_bytes = NULL;
    v->result_bytes_capacity = 0;
  }
}

static bool add_bytes(clua_vm *v, const void *bytes, size_t n) {
  if (v->result_length + n > v->result_bytes_capacity) {
    size_t capacity = v->result_bytes_capacity ? v->result_bytes_capacity : 512;
    while (capacity < v->result_length + n) capacity *= 2;
    char *p = vm_realloc(v, v->result_bytes, v->result_bytes_capacity, capacity);
    if (p == NULL) return false;
    v->result_bytes = p;
    v->result_bytes_capacity = capacity;
  }
  if (n) memcpy(v->result_bytes + v->result_length, bytes, n);
  v->result_length += n;
  return true;
}

static size_t tree_size(const clua_value *node, size_t trees) {
  size_t size = 0;
  while (trees > 0) {
    trees--;
    if (node[size].type == CLUA_TABLE) trees += 2 * node[size].length;
    size++;
  }
  return size;
}

int32_t clua_call_results(clua_call *c, const clua_values *values) {
  clua_vm *v = vm_of(c->state);
  forget_results(v);
  size_t size = tree_size(values->nodes, values->count), bytes = 0;
  for (size_t i = 0; i < size; i++)
    if (values->nodes[i].type == CLUA_STRING_AT && values->nodes[i].bits + values->nodes[i].length > bytes)
      bytes = values->nodes[i].bits + values->nodes[i].length;
  if (size > v->result_capacity) {
    clua_value *p = vm_realloc(v, v->result_nodes, v->result_capacity * sizeof *p, size * sizeof *p);
    if (p == NULL) return CLUA_FAILED_MEMORY;
    v->result_nodes = p;
    v->result_capacity = size;
  }
  if (bytes && !add_bytes(v, values->bytes, bytes)) return CLUA_FAILED_MEMORY;
  for (size_t i = 0; i < size; i++) {
    v->result_nodes[i] = values->nodes[i];
    if (values->nodes[i].type == CLUA_OBJECT) v->host.retain(v->host.context, (void *)(uintptr_t)values->nodes[i].bits);
  }
  v->result_count = size;
  c->tree = v->result_nodes;
  c->result_count = (int32_t)values->count;
  return CLUA_OK;
}

#define COPY_MAX 2048  // longer bytes become a Lua string at once instead of being copied twice

typedef struct copy_arguments {
  const void *bytes;
  size_t length;
} copy_arguments;

static int copy_body(lua_State *L) {
  const copy_arguments *a = lua_touserdata(L, 1);
  lua_pushlstring(L, a->bytes, a->length);
  return 1;
}

int32_t clua_call_copy(clua_call *c, const void *bytes, size_t length, clua_value *out) {
  lua_State *L = c->state;
  clua_vm *v = vm_of(L);
  if (length <= COPY_MAX) {
    size_t at = v->result_length;
    if (!add_bytes(v, bytes, length)) return CLUA_FAILED_MEMORY;
    *out = (clua_value){.type = CLUA_STRING_AT, .bits = at, .length = length};
    return CLUA_OK;
  }
  if (!lua_checkstack(L, LUA_MINSTACK)) return CLUA_FAILED_MEMORY;
  copy_arguments a = {bytes, length};
  int kind = protect_with(v, copy_body, &a, NULL, 0, 0, 1);
  if (kind != CLUA_OK) return kind;
  if (L != v->L) lua_xmove(v->L, L, 1);
  *out = (clua_value){.type = CLUA_SLOT, .bits = (uint64_t)lua_gettop(L)};
  return CLUA_OK;
}

// ---------------------------------------------------------------- arguments beyond the plain ones

int32_t clua_call_argument(clua_call *c, int32_t index, clua_value *out) {
  *out = (clua_value){.type = CLUA_NONE};
  if (index < 0 || index >= c->count) return CLUA_NONE;
  read_argument(c->state, index + 1, out);
  return out->type;
}

int32_t clua_call_read(clua_call *c, int32_t index, clua_values *out) {
  clua_vm *v = vm_of(c->state);
  *out = (clua_values){NULL, 0, NULL};
  if (index < 0 || index >= c->count) return CLUA_OK;
  return read_values(v, c->state, index + 1, 1, READ_COPY, out);
}

static int argument_reference_body(lua_State *L) {  // the argument is on top
  *(int *)lua_touserdata(L, 1) = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

int32_t clua_call_reference(clua_call *c, int32_t index, int32_t *reference) {
  if (index < 0 || index >= c->count) return CLUA_FAILED_ERROR;
  int ref = LUA_NOREF;
  int kind = protect_with(vm_of(c->state), argument_reference_body, &ref, c->state, index + 1, 1, 0);
  *reference = ref;
  return kind;
}

const char *clua_call_type_name(clua_call *c, int32_t index) {
  clua_value value;
  clua_vm *v = vm_of(c->state);
  switch (clua_call_argument(c, index, &value)) {
    case CLUA_OBJECT: return v->classes[value.info].name;
    case CLUA_NONE: return "no value";
    default: return lua_typename(c->state, lua_type(c->state, index + 1));
  }
}
