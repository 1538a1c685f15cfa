// What CLua's files share. The only header that knows lua.h.
#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "include/clua.h"
#include <lua5.4/lua.h>
#include <lua5.4/lauxlib.h>
#include <lua5.4/lualib.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

typedef struct task task;

// Why lua_resume came back with LUA_YIELD: a flag beside the values, so a script can neither forge nor swallow it.
enum engine_op { OP_NONE, OP_PARK, OP_SLICE, OP_KILL };
enum kill_reason { KILL_NO, KILL_TIME, KILL_EXIT, KILL_YIELD, KILL_HOST };
enum task_state { TASK_FREE, TASK_NEW, TASK_RUNNING, TASK_WAITING, TASK_READY, TASK_ENDING };

typedef struct text {  // grows up to TEXT_MAX, then cuts
  char *bytes;
  size_t length, capacity;
} text;

struct task {
  uint64_t id, tag;
  lua_State *co;
  int co_ref;
  uint32_t index;  // its place in the table of tasks, for as long as the coroutine lives
  uint32_t flags;
  uint8_t state;
  bool spawned, late, cancelled, killed, failed, has_pending, pending_raise, joining, tainted;
  int status;            // of the protected call, when failed
  uint32_t spent_us;     // run time since the last wait
  uint64_t serial;       // counts host calls; names the wait a call may start
  uint64_t wait_serial;  // the wait it is parked in
  int pending;           // reference to {values} that arrived while Lua was running
  int handle;            // reference to the Lua-side handle of a spawned task
  char *code, *reason;   // why it was cancelled or killed
  char *no_wait;         // FLAG_STAGED: what a wait raises
  task *parent, *child, *sibling, *next_ready, *next_free;
};

typedef struct join_handle {  // userdata behind host.spawn
  uint64_t magic, task;
  bool ended, ok, kept;
  uint64_t *waiters;
  size_t count, capacity;
} join_handle;

typedef struct object_box {  // userdata behind a host object
  uint64_t magic;
  void *object;
  int32_t class_id;
} object_box;

typedef struct quick_method {  // behind a method with a quick way
  clua_quick quick;
  int32_t function, class_id;
} quick_method;

#define CHAIN_MAX 224  // deeper nesting of coroutines than Lua's own limit of 200 C calls
#define CLOSE_DEPTH_MAX \
  8  // 5.4.4's lua_resetthread starts counting C calls anew: nested closes need a bound of their own
#define MAGIC_OBJECT 0x6f626a6563743a31ull
#define MAGIC_HANDLE 0x68616e646c653a31ull
#define CO_WAITING 1u  // low bit of a coroutine's extra space: parked in the engine somewhere below a resume
#define TEXT_MAX 65536
#define TUNE_EVERY 256u           // starts between two looks at the collector
#define GARBAGE_MAX (4u << 20)    // bytes of garbage a small heap may gather
#define FINE_MAX 256
#define FINE_CLASSES 16
#define SMALL_MAX 2048  // larger blocks are malloc's
#define SMALL_CLASSES 30
#define FLAG_QUIET 0x100u   // a task of run_quick: it describes another's failure and leaves its traceback alone
#define FLAG_STAGED 0x200u  // waits raise task.no_wait
#define FLAGS_NO_WAIT (CLUA_NO_WAIT | FLAG_STAGED)

struct clua_vm {
  lua_State *L;
  clua_host host;
  clua_limits limits;
  bool sandbox, opened;

  // memory
  struct page *pages[SMALL_CLASSES];  // with room for small blocks
  size_t used, peak;
  size_t ceiling;   // of `used`, as long as nothing has to be asked
  size_t low;       // least memory in use lately: about what is alive
  uint32_t starts;  // counts towards the next look at it
  bool user_mode;  // scripts run: the reserve is not theirs
  int64_t fail_after;

  // watchdog (clua_watchdog.c)
  _Atomic uint64_t seq;   // odd while Lua runs
  _Atomic uint64_t mark;  // by the watchdog: low 24 bits of seq, then microseconds this entry was seen running
  _Atomic uint32_t budget_us;
  uint64_t entered_us;  // when, if the clock was read: only for a run that goes on after a slice
  uint32_t slice_us;    // how long the slice was that just ended
  lua_State *volatile running;
  volatile int armed;
  _Atomic bool kicked;  // a signal is on its way
  _Atomic(pthread_t) thread;
  int slot;

  // the running task
  task *cur;
  enum engine_op op;
  enum kill_reason killing;
  bool chain_ok;  // every coroutine above the running one may yield
  int depth;
  lua_State *closing;
  int close_depth;
  const clua_values *in;  // values of the start or resume under way
  bool in_raise;
  int start_ref;

  // tasks
  task **tasks;
  uint32_t task_count, task_capacity;
  uint32_t *free_index, free_count;
  uint64_t last_started;
  task *pool;  // ended tasks with their coroutine, ready for use
  uint32_t pooled, live, pool_target;
  uint64_t frees;
  uint64_t next_serial;
  task *ready_head, *ready_tail;
  uint32_t ready;
  bool ready_told;

  // the last end, until it was taken
  task *ended;
  clua_end end;
  text message, trace, trail, killed_by;
  const void *trail_value;

  // trees read out of Lua, and results on their way in
  clua_value *nodes;
  size_t node_count, node_capacity;
  clua_value *result_nodes;
  size_t result_count, result_capacity;
  char *result_bytes;
  size_t result_length, result_bytes_capacity;

  int32_t reader;
  int boot_ref, error_meta_ref, cancel_meta_ref, sentinel_meta_ref, classes_ref, objects_ref, modules_ref, environments_ref, default_environment,
      handle_meta_ref, method_tables_ref;
  struct {
    bool has_data, identity, plain;
    int meta_ref;
    char *name;
    quick_method *quick;  // NULL: none
  } *classes;
  int32_t class_count;
  clua_stats stats;

  // what is large and rarely looked at
  lua_State *chain[CHAIN_MAX];  // from the running task's coroutine to the innermost
  char refused_at[160];         // file:line of the last refusal
};

static inline clua_vm *vm_of(lua_State *L) {
  return (clua_vm *)(*(uintptr_t *)lua_getextraspace(L) & ~(uintptr_t)CO_WAITING);
}
static inline uintptr_t *extra_of(lua_State *L) { return (uintptr_t *)lua_getextraspace(L); }
static inline bool inside(const clua_vm *v) { return atomic_load_explicit(&v->seq, memory_order_relaxed) & 1; }

// The object behind a userdata, or NULL. A C module's may be smaller than a box: its length is asked first.
static inline object_box *to_object(lua_State *L, int index) {
  object_box *box = lua_touserdata(L, index);
  if (box == NULL || lua_rawlen(L, index) != sizeof *box) return NULL;
  return box->magic == MAGIC_OBJECT && box->object ? box : NULL;
}

// Numbers of host functions are light userdata among upvalues: those are read quickest.
static inline int function_number(lua_State *L, int upvalue) {
  return (int)(intptr_t)lua_touserdata(L, lua_upvalueindex(upvalue));
}
static inline void push_function_number(lua_State *L, int function) {
  lua_pushlightuserdata(L, (void *)(intptr_t)function);
}

// clua_vm.c
// runs f(lightuserdata) on the main thread; a CLUA_FAILED_... kind, message kept
int protect(clua_vm *v, lua_CFunction f, void *argument);
int protect_with(clua_vm *v, lua_CFunction f, void *argument, lua_State *from, int first, int count, int results);
void unref(clua_vm *v, int *ref);
void object_retain(clua_vm *v, void *object);

// clua_memory.c
void *memory_allocate(void *context, void *p, size_t old, size_t size);  // Lua's allocator
void memory_close(clua_vm *v);
void *vm_realloc(clua_vm *v, void *p, size_t old_size, size_t size);  // C memory of ours, counted by fail_allocations

static inline void set_ceiling(clua_vm *v, bool user_mode) {
  v->user_mode = user_mode;
  v->ceiling = v->fail_after >= 0 ? 0 : v->limits.memory + (user_mode ? 0 : v->limits.reserve);
}

// clua_watchdog.c
extern _Atomic int watch_asleep;
void watch_wake(void);
uint64_t watch_clock(void);  // microseconds

static inline void watch_enter(clua_vm *v, lua_State *co) {
  v->running = co;
  set_ceiling(v, true);
  v->entered_us = v->cur && v->cur->spent_us ? watch_clock() : 0;
  v->armed = 0;
  atomic_store_explicit(&v->seq, atomic_load_explicit(&v->seq, memory_order_relaxed) + 1, memory_order_relaxed);
  atomic_signal_fence(memory_order_seq_cst);
  if (atomic_load_explicit(&watch_asleep, memory_order_relaxed)) watch_wake();
}

static inline void watch_leave(clua_vm *v) {
  atomic_signal_fence(memory_order_seq_cst);
  atomic_store_explicit(&v->seq, atomic_load_explicit(&v->seq, memory_order_relaxed) + 1, memory_order_relaxed);
  set_ceiling(v, false);
  v->running = NULL;
}

void watch_hook(lua_State *L);  // fire before the next instruction
void watch_poll(lua_State *L);  // C loops call this now and then; does not return when the time is up
void watch_kill(lua_State *L, enum kill_reason why);  // stop the running task now: yields or raises
void watch_note(lua_State *L, enum kill_reason why);  // what watch_kill says of it

// clua_error.c
bool text_set(text *t, const char *s, size_t n);
void text_add(text *t, const char *s, size_t n);
void text_addf(text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void add_traceback(text *t, lua_State *co, int level);
void add_where(lua_State *L, text *t);             // "file:line: " of the innermost script frame
void push_where(lua_State *L);                     // the same on the Lua stack, for errors of host functions
void remember_trail(clua_vm *v, lua_State *dead);  // a coroutine failed; its stack is told if the error reaches the top
int task_message_handler(lua_State *L);
int raise_coded(lua_State *L, const char *code, const char *message);
bool is_cancelled(lua_State *L, int index);
int raise_cancelled(lua_State *L, task *t);
void describe_failure(clua_vm *v, task *t);  // message, traceback, kind, value of the failed task on top of its stack
int error_open(lua_State *L);
int l_is_cancelled(lua_State *L);
int l_cancelled(lua_State *L);
int l_traceback(lua_State *L);

// clua_task.c, clua_run.c
task *task_find(const clua_vm *v, uint64_t id);
task *task_take(clua_vm *v);  // a fresh task with a coroutine, or NULL
void task_free(clua_vm *v, task *t, bool clean);
void forget_texts(task *t);
int task_run(clua_vm *v, task *t);
void task_ready(clua_vm *v, task *t);
void task_cancel(clua_vm *v, task *t, const char *code, const char *reason);
int task_entry(lua_State *L);
void close_coroutine(clua_vm *v, lua_State *co);  // its <close> variables, not able to wait
// f(value) as a task that may be killed; its string result
int run_quick(clua_vm *v, lua_CFunction f, lua_State *from, int index, text *out);

// clua_wait.c
bool can_wait(lua_State *L);
int raise_cannot_wait(lua_State *L);
int park(lua_State *L, lua_KContext context, lua_KFunction k);
int continue_wait(lua_State *L, int status, lua_KContext context);
int wait_open(lua_State *L);

// clua_spawn.c
int l_spawn(lua_State *L);
int l_spawn_child(lua_State *L);
int l_join(lua_State *L);
int l_join_any(lua_State *L);
int l_cancel(lua_State *L);
int l_self(lua_State *L);
int spawn_open(lua_State *L);
void keep_results(lua_State *L, task *t, int first, int count, bool ok);
bool wake_joiners(clua_vm *v, task *t);  // true: somebody waited

// clua_coroutine.c
void find_chain(clua_vm *v, task *t);  // fills `chain` with the coroutines a suspended task stopped in
extern const luaL_Reg coroutine_functions[];

// clua_value.c, clua_read.c
void push_value(lua_State *L, const clua_value **node, const char *bytes, int depth);
void push_values(lua_State *L, const clua_values *values);
void read_argument(lua_State *L, int index, clua_value *out);
enum read_mode { READ_COPY, READ_TABLE_REFS, READ_NO_REFS };  // the last: what would need a reference is read as nil
int read_values(clua_vm *v, lua_State *from, int first, int count, enum read_mode mode, clua_values *out);
void forget_results(clua_vm *v);

// clua_object.c
int object_open(lua_State *L);
void push_object(lua_State *L, int32_t class_id, void *object);
int l_class_methods(lua_State *L);
void push_sentinel(lua_State *L, void *object);
int call_host(lua_State *L);  // trampoline, upvalue 1: function
int call_quick(lua_State *L);  // the same, upvalue 1: quick_method
int call_host_function(lua_State *L, int function);

// clua_string.c, clua_table.c, clua_base.c, clua_load.c
extern const luaL_Reg string_functions[], table_functions[], base_functions[], os_functions[], load_functions[];
int l_printer(lua_State *L);
extern const char boot_source[];

// clua_holder.c
extern const char holder_source[];
int holder_open(lua_State *L);

// clua_state.c
extern const char state_source[];
extern const luaL_Reg state_functions[];
int64_t pattern_budget(const clua_vm *v, size_t subject);
