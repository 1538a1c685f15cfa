// A host for CLua's C tests: counted objects, a log, sleeping in virtual time. One VM per harness.
#pragma once
#include "../../CLua/include/clua.h"
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct thing {  // a host object; counted
  int references;
  int number;
} thing;

typedef struct sleeper {
  double at;
  uint64_t task, wait;
} sleeper;

typedef struct harness {
  clua_vm *vm;
  char log[1 << 16];
  size_t length;
  double now;  // virtual seconds
  sleeper sleepers[4096];
  int sleeping;
  uint64_t receiver, receiver_wait;  // who waits in recv()
  int live_things, abandoned, exits, exit_code, ready_calls;
  int32_t thing_class;
  thing *last;
  const char *files[8][2];  // path and text, for the reader
  char asked[4096];         // what the reader was asked for, "tag path|"
} harness;

harness *harness_open(const clua_limits *limits, bool sandbox);  // module "host": log sleep recv fail thing pick ...
void harness_close(harness *h);
extern const clua_limits default_limits;

int32_t harness_load(harness *h, const char *source, const char *name);  // a function; prints and counts a failure
int32_t harness_start(harness *h, int32_t f, const char *message);       // f(message), the task's status
int32_t harness_run(harness *h, const char *source, const char *message);
const char *harness_error(harness *h);  // message of the last end, or ""
const char *harness_traceback(harness *h);
void harness_read_files(harness *h);                 // modules come from `files` from now on
void harness_deliver(harness *h, const char *text);  // to recv()
void harness_ready(harness *h);
void harness_advance(harness *h, double seconds);
void harness_settle(harness *h, int32_t status);  // takes the end, keeping its text

// Checks. expect_log compares and clears the log.
void check(bool ok, const char *what, const char *detail);
void expect_log(harness *h, const char *what, const char *want);
void expect_text(const char *what, const char *got, const char *want_prefix);
void expect_works(harness *h, const char *after, int refused);  // it serves on, when one was
int finish(const char *suite);  // prints the count line, gives the exit status
double now_ms(void);
