// Lua 5.4 behind doors that cannot longjmp into Swift. This header names no Lua type: lua.h is included by CLua's .c
// files only.
//
// Every door is either free of Lua calls, or runs them inside lua_resume / lua_pcall made in C. A host function
// called by Lua has returned before C pushes its results, raises or yields. One VM belongs to one thread at a time
// (clua_attach).
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct clua_vm clua_vm;

// ---------------------------------------------------------------- values
// A tree is a flat, preorder array: a CLUA_TABLE of `length` pairs is followed by its keys and values, key before
// value.
#define CLUA_NONE 0  // no such argument
#define CLUA_NIL 1
#define CLUA_BOOL 2       // bits: 0 or 1
#define CLUA_INT 3        // bits: the int64
#define CLUA_NUMBER 4     // bits: the double
#define CLUA_STRING 5     // bits: address of the bytes, length: how many
#define CLUA_STRING_AT 6  // bits: offset into the bytes that accompany the array
#define CLUA_TABLE 7      // length: pairs that follow (in trees); as an argument: a table not yet decoded
#define CLUA_REF 8        // bits: a reference (clua_release gives it back); info 1: the push gives it back
#define CLUA_OBJECT 9     // bits: the host's object, info: its class
#define CLUA_FUNCTION 10  // as arguments only, until a reference is made:
#define CLUA_USERDATA 11  // a C module's object
#define CLUA_THREAD 12
#define CLUA_SLOT 13              // bits: place on the Lua stack of the running host call
#define CLUA_MAX_DEPTH 64         // nested tables, both ways
#define CLUA_MAX_NODES (1 << 20)  // values in one tree read out of Lua

typedef struct clua_value {
  int32_t type;
  int32_t info;
  uint64_t bits;
  size_t length;
} clua_value;

typedef struct clua_values {
  const clua_value *nodes;  // `count` trees, one after the other
  size_t count;
  const char *bytes;  // base of CLUA_STRING_AT offsets
} clua_values;

// ---------------------------------------------------------------- host functions
#define CLUA_INLINE_ARGS 8
#define CLUA_RETURN 0        // `results` go back to Lua
#define CLUA_WAIT 1          // park the task until clua_resume
#define CLUA_RAISE 2         // error with the string results[0] at the caller's level, position in front
#define CLUA_RAISE_VALUE 3   // error with results[0] as it is
#define CLUA_BAD_ARGUMENT 4  // results[0] string, results[1] int: 0-based argument
#define CLUA_NO_MEMORY 5     // error "not enough memory"

typedef struct clua_call {
  int32_t function;  // what clua_define_module / clua_define_class were given
  int32_t count;     // arguments
  int32_t result_count;
  uint64_t task;  // 0: not inside a task
  uint64_t tag;   // the task's
  uint64_t wait;  // serial of the wait this call may start
  void *state;    // CLua's own
  clua_value args[CLUA_INLINE_ARGS];
  clua_value results[2];   // used while result_count <= 2 and `tree` is NULL
  const clua_value *tree;  // results as trees, from clua_call_results
} clua_call;

typedef struct clua_host {
  void *context;
  int32_t (*call)(void *context, clua_call *call);  // one of the CLUA_RETURN... codes
  void (*retain)(void *context, void *object);
  void (*release)(void *context, void *object);  // may run inside a garbage collection: must not enter the VM
  void (*ready)(void *context);                  // tasks wait for clua_run_ready; may be called inside Lua
  void (*abandoned)(void *context, uint64_t task,
                    uint64_t wait);  // this wait was broken off, its resume would be ignored
  void (*print)(void *context, const char *tag, size_t tag_length, const char *text, size_t length);
  void (*exit)(void *context, int32_t code);  // os.exit; the task is killed afterwards
} clua_host;

typedef struct clua_limits {
  size_t memory;          // bytes scripts may reach
  size_t reserve;         // bytes beyond it for the engine: delivering a message, reporting an error
  uint32_t run_us;        // run time without a wait before a task is killed
  uint32_t slice_us;      // run time before others get their turn
  uint32_t close_us;      // for the <close> handlers of a killed task
  int64_t pattern_steps;  // of one find, match, gmatch step or gsub; 8 per byte of the subject come on top
} clua_limits;

typedef struct clua_stats {
  size_t memory_used, memory_peak;
  uint64_t tasks_started, coroutines_made, slices, kills, errors, refused_allocations;
  uint32_t tasks_live, tasks_ready, coroutines_idle;
  uint32_t pages;       // of 16 KiB, for small blocks
  uint32_t references;  // slots of the registry in use at once so far: they are reused, so it grows only where some leak
} clua_stats;

// ---------------------------------------------------------------- a VM
clua_vm *clua_open(const clua_limits *limits, const clua_host *host, bool sandbox);  // NULL: not even the libraries fit
void clua_close(clua_vm *vm);                                                        // every object is released
bool clua_attach(clua_vm *vm);  // the calling thread runs it from now on, under the watchdog's eye
void clua_detach(clua_vm *vm);
bool clua_is_attached_here(const clua_vm *vm);
bool clua_is_running(const clua_vm *vm);  // Lua is on the stack
void clua_get_stats(const clua_vm *vm, clua_stats *out);
void clua_gc_step(clua_vm *vm);   // one bounded step of the collector
void clua_gc_cycle(clua_vm *vm);  // a whole collection: tests and shutdown, never on a busy loop
void clua_fail_allocations(clua_vm *vm,
                           int64_t after);  // tests: refuse all growth after so many allocations; -1 stops it

// ---------------------------------------------------------------- doors
// 0 = done, otherwise a CLUA_FAILED_... kind with clua_message.
#define CLUA_OK 0
#define CLUA_FAILED_ERROR 1
#define CLUA_FAILED_SYNTAX 2
#define CLUA_FAILED_MEMORY 3
#define CLUA_FAILED_TIME 4
#define CLUA_FAILED_CANCELLED 5
const char *clua_message(const clua_vm *vm, size_t *length);  // why the last door failed
const char *clua_traceback(const clua_vm *vm, size_t *length);

int32_t clua_load(clua_vm *vm, const char *source, size_t length, const char *name, size_t name_length,
                  int32_t environment, int32_t *function);
int32_t clua_make_environment(clua_vm *vm, const clua_values *directories /* first: the script's own */,
                              const char *tag, size_t tag_length, int32_t *environment);
int32_t clua_environment_module(clua_vm *vm, int32_t environment, const char *name, size_t length, int32_t *module);
// Files that gave modules to `require` there: one table, a list of name and path in turn, in the order they were loaded.
int32_t clua_environment_files(clua_vm *vm, int32_t environment, clua_values *out);
// The object is retained until the environment was collected, or gets another one: proof that nothing holds it.
int32_t clua_set_sentinel(clua_vm *vm, int32_t environment, void *object);
// A function that, run as a task with no arguments, says what keeps the environment with that sentinel alive: a path
// from the registry, or nil if nothing does. It looks at the whole heap.
int32_t clua_holder_search(clua_vm *vm, void *object, int32_t *function);
// A host function (path, tag of the environment) -> bytes | nil: where `require`, `loadfile` and `dofile` get text from.
// -1: from the disk.
void clua_set_reader(clua_vm *vm, int32_t function);

// References: functions, tables, objects held for the host. Never 0.
int32_t clua_make_reference(clua_vm *vm, const clua_values *one, int32_t *reference);
int32_t clua_retain(clua_vm *vm, int32_t reference, int32_t *copy);
void clua_release(clua_vm *vm, int32_t reference);       // at any time, also inside Lua
uint64_t clua_identity(clua_vm *vm, int32_t reference);  // equal for references to the same function, table, object
int32_t clua_kind(clua_vm *vm, int32_t reference);       // CLUA_TABLE, CLUA_FUNCTION, ... of what it holds
// Read out: the trees are valid until the next door. tables_as_refs: a table becomes a CLUA_REF instead of a copy.
int32_t clua_read(clua_vm *vm, int32_t reference, bool tables_as_refs, clua_values *out);
int32_t clua_get_field(clua_vm *vm, int32_t table, const clua_values *key, bool tables_as_refs,
                       clua_values *out);                                              // raw
int32_t clua_set_field(clua_vm *vm, int32_t table, const clua_values *key_and_value);  // raw

// ---------------------------------------------------------------- modules and classes
typedef struct clua_named_function {
  const char *name;
  int32_t function;
} clua_named_function;

int32_t clua_define_module(clua_vm *vm, const char *name, const clua_named_function *functions, size_t count,
                           const clua_named_function *hidden, size_t hidden_count, const char *prelude,
                           size_t prelude_length);

// The quick way of a method that is called all the time: object:method(bytes) or object:method(bytes, another object).
// Like a host function it has returned before anything is pushed. True: done, and the method returns true. False: the host
// function is called at once, with the same arguments.
typedef bool (*clua_quick)(void *object, const char *bytes, size_t length, void *second /* NULL: none */);

typedef struct clua_class {
  const char *name;
  const clua_named_function *methods;
  size_t method_count;
  const char *quick_method;  // the one of the methods that has a quick way, NULL: none
  clua_quick quick;
  int32_t getter, setter, length, to_string, close, call, equals;  // host functions, -1: none
  bool has_data;                                                   // obj.data is a slot of the object
  bool identity;                                                   // one Lua object for one host object
  bool plain;  // may be part of what host.copy_state copies: kept as it is
} clua_class;
int32_t clua_define_class(clua_vm *vm, const clua_class *c, int32_t *class_id);
int32_t clua_make_object(clua_vm *vm, int32_t class_id, void *object, int32_t *reference);  // retains it

// ---------------------------------------------------------------- tasks
#define CLUA_DONE 0
#define CLUA_WAITING 1  // parked, or preempted and in the ready queue
#define CLUA_FAILED 2
#define CLUA_IGNORED 3  // nobody waits for that
#define CLUA_QUEUED 4   // taken; runs in clua_run_ready
#define CLUA_NO_TASK 5  // run_one: nothing ready. start: no memory for a task

#define CLUA_WANTS_RESULTS 1u
#define CLUA_TABLES_AS_REFS 2u
#define CLUA_NO_WAIT 4u  // a wait or a yield raises; never sliced, still killed

typedef struct clua_end {  // how the last task that ended, ended; valid until clua_end_taken
  uint64_t task, tag;
  int32_t kind;        // CLUA_OK or CLUA_FAILED_...
  bool late;           // it had waited or was preempted
  bool joined;         // another task waits for it and is given this end
  clua_values values;  // results if wanted; the error value of a failure
  const char *message, *traceback;
  size_t message_length, traceback_length;
} clua_end;

int32_t clua_start(clua_vm *vm, int32_t function, const clua_values *arguments, uint64_t tag, uint32_t flags);
// With `no_wait` every wait of the task raises that text, with the script's position in front; unlike CLUA_NO_WAIT it is
// sliced.
int32_t clua_spawn(clua_vm *vm, int32_t function, const clua_values *arguments, uint64_t tag, uint32_t flags,
                   const char *no_wait, size_t no_wait_length, uint64_t *task);
int32_t clua_resume(clua_vm *vm, uint64_t task, uint64_t wait /* 0: whatever it waits for */, const clua_values *values,
                    bool raise);
int32_t clua_run_one(clua_vm *vm);
uint64_t clua_last_started(const clua_vm *vm);  // the task the last clua_start made
const clua_end *clua_last_end(const clua_vm *vm);
// After every CLUA_FAILED, and CLUA_DONE of a task whose results are wanted, once the values are copied.
void clua_end_taken(clua_vm *vm);
void clua_run_ready_begin(clua_vm *vm);
bool clua_run_ready_end(clua_vm *vm);  // true: more is ready (`ready` was called)
// The present or next wait, and each later one, raises {code =, reason =, message = "code: reason"}. The first cancel wins.
bool clua_cancel(clua_vm *vm, uint64_t task, const char *code, size_t code_length, const char *reason,
                 size_t reason_length);
// No more code of the task runs but <close> handlers: when its turn comes, or at the next instruction if it runs now.
bool clua_kill(clua_vm *vm, uint64_t task, const char *reason, size_t length);
// The live tasks with tag & mask == wanted & mask: how many, and the first `capacity` of them.
uint32_t clua_tasks(const clua_vm *vm, uint64_t tag, uint64_t mask, uint64_t *out, uint32_t capacity);
bool clua_task_exists(const clua_vm *vm, uint64_t task);

// ---------------------------------------------------------------- inside a host call
bool clua_call_can_wait(const clua_call *call);                                // CLUA_WAIT is possible here
int32_t clua_call_argument(clua_call *call, int32_t index, clua_value *out);  // beyond the inline ones
const char *clua_call_type_name(clua_call *call, int32_t index);              // "number", "p2pd.pipe", "no value"
int32_t clua_call_reference(clua_call *call, int32_t index, int32_t *reference);
int32_t clua_call_read(clua_call *call, int32_t index, clua_values *out);
int32_t clua_call_copy(clua_call *call, const void *bytes, size_t length,
                       clua_value *out);                                // bytes that go with the caller's frame
int32_t clua_call_results(clua_call *call, const clua_values *values);  // copied; objects are retained meanwhile

// ---------------------------------------------------------------- patterns
#define CLUA_MATCH_NO 0
#define CLUA_MATCH_YES 1
#define CLUA_MATCH_MALFORMED -1
#define CLUA_MATCH_TOO_COMPLEX -2
int32_t clua_match(const char *pattern, size_t pattern_length, const char *subject, size_t length, int64_t steps);
