// VMs on several threads at once, a VM that moves to another thread, and the watchdog's own thread, which goes with the last VM.
#include "harness.h"
#include <dirent.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int threads(void) {
  DIR *d = opendir("/proc/self/task");
  int n = 0;
  for (struct dirent *e; d && (e = readdir(d));) n += e->d_name[0] != '.';
  if (d) closedir(d);
  return n;
}

static const char *const spin = "local n = 0 while true do n = n + 1 pcall(coroutine.wrap(function() n = n + 1 end)) end";

static clua_limits short_limits(void) {
  clua_limits limits = default_limits;
  limits.run_us = 60000;
  limits.slice_us = 2000;
  return limits;
}

// Opens, loops, closes; several of these run at the same time. Gives the number of loops that were stopped.
static void *live(void *unused) {
  (void)unused;
  intptr_t stopped = 0;
  for (int round = 0; round < 3; round++) {
    clua_limits limits = short_limits();
    harness *h = harness_open(&limits, false);
    int32_t f = 0;
    if (clua_load(h->vm, spin, strlen(spin), "s", 1, 0, &f) == CLUA_OK) {
      clua_values none = {NULL, 0, NULL};
      int32_t status = clua_start(h->vm, f, &none, 0, 0);
      while (status == CLUA_WAITING) {
        clua_run_ready_begin(h->vm);
        status = clua_run_one(h->vm);
        clua_run_ready_end(h->vm);
      }
      stopped += status == CLUA_FAILED && clua_last_end(h->vm)->kind == CLUA_FAILED_TIME;
      clua_end_taken(h->vm);
    }
    clua_close(h->vm);
    free(h);
  }
  return (void *)stopped;
}

static void *run_here(void *context) {  // the VM was made on another thread, nobody attached it
  harness *h = context;
  harness_run(h, spin, "");
  harness_ready(h);
  return NULL;
}

int main(void) {
  int before = threads();
  pthread_t ids[4];
  intptr_t stopped = 0;
  for (int i = 0; i < 4; i++) pthread_create(&ids[i], NULL, live, NULL);
  for (int i = 0; i < 4; i++) {
    void *result = NULL;
    pthread_join(ids[i], &result);
    stopped += (intptr_t)result;
  }
  check(stopped == 12, "loops are stopped on every thread", NULL);
  check(threads() == before, "the watchdog's thread goes with the last VM", NULL);

  clua_limits limits = short_limits();
  harness *h = harness_open(&limits, false);
  check(threads() == before + 1, "and comes with the first", NULL);
  pthread_t other;
  pthread_create(&other, NULL, run_here, h);
  pthread_join(other, NULL);
  clua_stats s;
  clua_get_stats(h->vm, &s);
  check(s.kills == 1, "a VM that moved to another thread is watched there", NULL);
  run_here(h);
  clua_get_stats(h->vm, &s);
  check(s.kills == 2, "and when it moves back", NULL);

  usleep(400000);  // the watchdog sleeps now; an entry wakes it
  double start = now_ms();
  run_here(h);
  check(now_ms() - start < 1000, "it wakes for the next run", NULL);
  harness_close(h);
  check(threads() == before, "no thread is left", NULL);
  return finish("threads");
}
