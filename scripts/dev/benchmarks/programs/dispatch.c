// What one message costs in C and Lua, without Swift and sockets: clua_start of an echo handler that calls pipe:send.
//
//   cc -O2 dispatch.c ../../../../CLua/*.c -llua5.4 -lpthread -o dispatch && ./dispatch [MESSAGES [SIZE [HANDLER]]]
//   valgrind --tool=callgrind --toggle-collect=run ./dispatch 20000    counts instructions, of which nothing but the loop
//
// HANDLER: echo (default), empty, field (reads pipe.id as well), wait (parks once in recv).
#include "../../../../CLua/include/clua.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { F_SEND, F_FIELD, F_RECV, F_TUPLE_FIELD };

static uint64_t sent, waiting_task, waiting_wait;

static int32_t host_call(void *context, clua_call *c) {
  (void)context;
  c->result_count = 1;
  switch (c->function) {
    case F_SEND:
      if (c->count < 2 || c->args[0].type != CLUA_OBJECT || c->args[1].type != CLUA_STRING) return CLUA_NO_MEMORY;
      sent += c->args[1].length;
      c->results[0] = (clua_value){.type = CLUA_BOOL, .bits = 1};
      return CLUA_RETURN;
    case F_RECV:
      waiting_task = c->task;
      waiting_wait = c->wait;
      return CLUA_WAIT;
    default: c->results[0] = (clua_value){.type = CLUA_INT, .bits = 7}; return CLUA_RETURN;
  }
}

static bool quick_send(void *object, const char *bytes, size_t length, void *second) {
  (void)object, (void)bytes, (void)second;
  sent += length;
  return true;
}

static void held(void *context, void *object) { (void)context, (void)object; }
static void ready(void *context) { (void)context; }
static void abandoned(void *context, uint64_t task, uint64_t wait) { (void)context, (void)task, (void)wait; }
static void print(void *context, const char *tag, size_t tag_length, const char *text, size_t length) {
  (void)context, (void)tag, (void)tag_length;
  printf("%.*s\n", (int)length, text);
}
static void leave(void *context, int32_t code) { (void)context, exit(code); }

static clua_value string(const char *s, size_t n) {
  return (clua_value){.type = CLUA_STRING, .bits = (uint64_t)(uintptr_t)s, .length = n};
}

static const char *const handlers[][2] = {
    {"echo", "return function(msg, client_tup, pipe) pipe:send(msg, client_tup) end"},
    {"empty", "return function(msg, client_tup, pipe) end"},
    {"field", "return function(msg, client_tup, pipe) local id = pipe.id pipe:send(msg, client_tup) end"},
    {"wait", "return function(msg, client_tup, pipe) pipe:send(pipe:recv(), client_tup) end"},
};

void run(clua_vm *vm, int32_t handler, int32_t tuple, int32_t pipe, char *message, size_t size, long count);

// Not static: callgrind is told its name.
__attribute__((noinline)) void run(clua_vm *vm, int32_t handler, int32_t tuple, int32_t pipe, char *message,
                                   size_t size, long count) {
  for (long i = 0; i < count; i++) {
    memcpy(message, &i, size < sizeof i ? size : sizeof i);
    clua_value arguments[] = {string(message, size),
                              {.type = CLUA_REF, .bits = (uint64_t)tuple},
                              {.type = CLUA_REF, .bits = (uint64_t)pipe}};
    clua_values values = {arguments, 3, NULL}, one = {arguments, 1, NULL};
    int32_t status = clua_start(vm, handler, &values, 1, 0);
    if (status == CLUA_WAITING && waiting_task) {
      uint64_t task = waiting_task;
      waiting_task = 0;
      status = clua_resume(vm, task, waiting_wait, &one, false);
    }
    if (status == CLUA_WAITING) continue;  // preempted: this machine is slow
    if (status == CLUA_FAILED) {
      printf("%s\n", clua_last_end(vm)->message);
      exit(1);
    }
  }
}

int main(int argc, char **argv) {
  long count = argc > 1 ? atol(argv[1]) : 1000000;
  size_t size = argc > 2 ? (size_t)atol(argv[2]) : 64;
  const char *kind = argc > 3 ? argv[3] : "echo";
  const char *source = NULL;
  for (size_t i = 0; i < sizeof handlers / sizeof *handlers; i++)
    if (strcmp(kind, handlers[i][0]) == 0) source = handlers[i][1];
  if (source == NULL) return fputs("dispatch: no such handler\n", stderr), 2;
  clua_limits limits = {.memory = 64u << 20,
                        .reserve = 1u << 20,
                        .run_us = 1000000,
                        .slice_us = 10000,
                        .close_us = 20000,
                        .pattern_steps = 10000000};
  clua_host host = {.call = host_call, .retain = held, .release = held, .ready = ready, .abandoned = abandoned,
                    .print = print, .exit = leave};
  clua_vm *vm = clua_open(&limits, &host, false);
  if (vm == NULL || !clua_attach(vm)) return 1;
  clua_named_function methods[] = {{"send", F_SEND}, {"recv", F_RECV}};
  clua_class pipe_class = {.name = "p2pd.pipe",
                           .methods = methods,
                           .method_count = 2,
                           .quick_method = "send",
                           .quick = quick_send,
                           .getter = F_FIELD,
                           .setter = -1,
                           .length = -1,
                           .to_string = -1,
                           .close = -1,
                           .call = -1,
                           .equals = -1,
                           .has_data = true,
                           .identity = true};
  clua_class tuple_class = pipe_class;
  tuple_class.name = "p2pd.tuple";
  tuple_class.method_count = 0;
  tuple_class.quick_method = NULL;
  int32_t pipe_id, tuple_id, pipe, tuple, chunk;
  int things[2];
  if (clua_define_class(vm, &pipe_class, &pipe_id) || clua_define_class(vm, &tuple_class, &tuple_id) ||
      clua_make_object(vm, pipe_id, &things[0], &pipe) || clua_make_object(vm, tuple_id, &things[1], &tuple) ||
      clua_load(vm, source, strlen(source), "echo.lua", 8, 0, &chunk))
    return 1;
  clua_values none = {NULL, 0, NULL};
  if (clua_start(vm, chunk, &none, 0, CLUA_WANTS_RESULTS) != CLUA_DONE) return 1;
  int32_t handler = (int32_t)clua_last_end(vm)->values.nodes[0].bits;
  clua_end_taken(vm);

  char *message = malloc(size + sizeof(long));
  memset(message, 'm', size);
  run(vm, handler, tuple, pipe, message, size, 1000);
  struct timespec began, ended;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &began);
  run(vm, handler, tuple, pipe, message, size, count);
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ended);
  double ns = (double)(ended.tv_sec - began.tv_sec) * 1e9 + (double)(ended.tv_nsec - began.tv_nsec);
  printf("%s: %.1f ns a message, %llu bytes sent\n", kind, ns / (double)count, (unsigned long long)sent);
  free(message);
  clua_close(vm);
  return 0;
}
