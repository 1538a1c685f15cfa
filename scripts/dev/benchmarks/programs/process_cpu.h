// What another process has used so far, read from /proc (Linux).
#ifndef BENCH_PROCESS_CPU_H
#define BENCH_PROCESS_CPU_H

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct {
  double run;     // seconds on a CPU, all threads, to the nanosecond (schedstat)
  double waited;  // seconds ready to run while somebody else had the CPU
  double user;    // seconds in user mode, to the clock tick (10 ms)
  double system;  // seconds in the kernel, to the clock tick
} process_cpu;

// Threads that have ended are missing from `run`; no server measured here ends a thread while it serves.
static process_cpu process_cpu_read(int pid) {
  process_cpu cpu = {0, 0, 0, 0};
  char path[512], text[1024];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  FILE *file = fopen(path, "r");
  if (!file) return cpu;
  text[fread(text, 1, sizeof text - 1, file)] = 0;
  fclose(file);
  // The program's name stands in brackets and may hold spaces: fields are counted from the last bracket.
  const char *fields = strrchr(text, ')');
  unsigned long user, system;
  const char *form = "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu";
  if (fields && sscanf(fields + 2, form, &user, &system) == 2) {
    double hertz = (double)sysconf(_SC_CLK_TCK);
    cpu.user = (double)user / hertz;
    cpu.system = (double)system / hertz;
  }
  snprintf(path, sizeof path, "/proc/%d/task", pid);
  DIR *tasks = opendir(path);
  if (!tasks) return cpu;
  struct dirent *entry;
  while ((entry = readdir(tasks))) {
    if (entry->d_name[0] == '.') continue;
    snprintf(path, sizeof path, "/proc/%d/task/%.32s/schedstat", pid, entry->d_name);
    file = fopen(path, "r");
    if (!file) continue;
    unsigned long long ran, waited;
    if (fscanf(file, "%llu %llu", &ran, &waited) == 2) {
      cpu.run += (double)ran / 1e9;
      cpu.waited += (double)waited / 1e9;
    }
    fclose(file);
  }
  closedir(tasks);
  return cpu;
}

#endif
