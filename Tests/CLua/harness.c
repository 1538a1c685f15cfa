#include "host.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

const clua_limits default_limits = {.memory = 64u << 20,
                                    .reserve = 1u << 20,
                                    .run_us = 1000000,
                                    .slice_us = 10000,
                                    .close_us = 20000,
                                    .pattern_steps = 10000000};

static int checks, failures;
static char last_error[8192], last_trace[16384];

double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

void check(bool ok, const char *what, const char *detail) {
  checks++;
  if (ok) return;
  failures++;
  printf("FAIL %s%s%s\n", what, detail ? ": " : "", detail ? detail : "");
  fflush(stdout);
}

void expect_text(const char *what, const char *got, const char *want_prefix) {
  bool ok = strncmp(got, want_prefix, strlen(want_prefix)) == 0;
  check(ok, what, NULL);
  if (!ok) printf("   got  %s\n   want %s...\n", got, want_prefix);
}

void expect_log(harness *h, const char *what, const char *want) {
  h->log[h->length] = 0;
  bool ok = strcmp(h->log, want) == 0;
  check(ok, what, NULL);
  if (!ok) printf("   got  %s\n   want %s\n   error %s\n", h->log, want, last_error);
  h->length = 0;
}

int finish(const char *suite) {
  printf("%s: %d checks, %d failures\n", suite, checks, failures);
  return failures != 0;
}

harness *harness_open(const clua_limits *limits, bool sandbox) {
  harness *h = calloc(1, sizeof *h);
  clua_host host = host_of(h);
  h->vm = clua_open(limits, &host, sandbox);
  if (h->vm == NULL || !clua_attach(h->vm)) {
    if (h->vm) clua_close(h->vm);
    free(h);
    return NULL;
  }
  int32_t kind = host_define(h);
  if (kind != CLUA_OK) {
    size_t n;
    printf("harness: %s\n", clua_message(h->vm, &n));
  }
  return h;
}

void harness_close(harness *h) {
  clua_close(h->vm);
  check(h->live_things == 0, "no object is left after the VM was closed", NULL);
  free(h);
}

void harness_settle(harness *h, int32_t status) {
  if (status != CLUA_DONE && status != CLUA_FAILED) return;
  const clua_end *e = clua_last_end(h->vm);
  if (status == CLUA_FAILED) {
    snprintf(last_error, sizeof last_error, "%s", e->message ? e->message : "");
    snprintf(last_trace, sizeof last_trace, "%s", e->traceback ? e->traceback : "");
  }
  clua_end_taken(h->vm);
}

int32_t harness_load(harness *h, const char *source, const char *name) {
  int32_t f = 0;
  char text[20000];
  int n = snprintf(
      text, sizeof text,
      "local host = require 'host' local log, sleep, recv = host.log, host.sleep, host.recv local m = ... %s", source);
  if (clua_load(h->vm, text, (size_t)n, name, strlen(name), 0, &f) != CLUA_OK) {
    size_t length;
    check(false, "load", clua_message(h->vm, &length));
    return 0;
  }
  return f;
}

int32_t harness_start(harness *h, int32_t f, const char *message) {
  clua_value argument = host_string(message);
  clua_values values = {&argument, 1, NULL};
  last_error[0] = last_trace[0] = 0;
  int32_t status = clua_start(h->vm, f, &values, 1, 0);
  harness_settle(h, status);
  return status;
}

int32_t harness_run(harness *h, const char *source, const char *message) {
  int32_t f = harness_load(h, source, "main.lua");
  if (f == 0) return CLUA_FAILED;
  int32_t status = harness_start(h, f, message);
  clua_release(h->vm, f);
  return status;
}

const char *harness_error(harness *h) {
  (void)h;
  return last_error;
}
const char *harness_traceback(harness *h) {
  (void)h;
  return last_trace;
}

void harness_deliver(harness *h, const char *text) {
  clua_value value = host_string(text);
  clua_values values = {&value, 1, NULL};
  uint64_t task = h->receiver;
  h->receiver = 0;
  harness_settle(h, clua_resume(h->vm, task, h->receiver_wait, &values, false));
  harness_ready(h);
}

void harness_ready(harness *h) {
  for (;;) {
    clua_run_ready_begin(h->vm);
    int32_t status = clua_run_one(h->vm);
    harness_settle(h, status);
    if (!clua_run_ready_end(h->vm) && status == CLUA_NO_TASK) return;
  }
}

void harness_advance(harness *h, double seconds) {
  double end = h->now + seconds;
  for (;;) {
    harness_ready(h);
    int best = -1;
    for (int i = 0; i < h->sleeping; i++)
      if (h->sleepers[i].at <= end && (best < 0 || h->sleepers[i].at < h->sleepers[best].at)) best = i;
    if (best < 0) break;
    sleeper s = h->sleepers[best];
    h->sleepers[best] = h->sleepers[--h->sleeping];
    h->now = s.at;
    clua_values none = {NULL, 0, NULL};
    harness_settle(h, clua_resume(h->vm, s.task, s.wait, &none, false));
  }
  h->now = end;
  harness_ready(h);
}

void expect_works(harness *h, const char *after, int refused) {
  char what[100];
  snprintf(what, sizeof what, "the VM works after %s with allocation %d refused", after, refused);
  h->length = 0;
  harness_run(h, "log(m, #(('x'):rep(1000))) local t = host.thing(3) log(t.number)", "fine");
  h->log[h->length] = 0;
  check(strcmp(h->log, "fine|1000|3|") == 0, what, h->log);
  h->length = 0;
}
