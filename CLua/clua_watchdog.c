// Run time without a permanent hook (a count hook doubles the cost of everything: 5.4 checks it at every
// instruction).
//
// A thread looks every few milliseconds. Only when one entry into Lua is still running does it send a signal to that
// VM's thread, and the handler there arms lua_sethook: on the same thread, as lua.c does for SIGINT; from another
// thread it would race with the interpreter. A run that ends in time pays two relaxed stores. The hook yields where
// it can, because pcall cannot catch a yield; where it cannot (a callback of sort or gsub) it raises, at every
// instruction until it is out.
#include "clua_private.h"
#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

#define WATCH_SIGNAL (SIGRTMIN + 5)
#define WATCH_SLOTS 256
#define TICK_MAX_US 5000
#define TICK_MIN_US 200
#define IDLE_TICKS 20             // looks without any entry before the thread goes to sleep
#define IDLE_SLEEP_NS 200000000L  // bounds what a lost wake-up costs: watch_enter's store and load may be reordered
#define MARK_SHIFT 40
#define MARK_US (((uint64_t)1 << MARK_SHIFT) - 1)

_Atomic int watch_asleep;

static struct {
  pthread_mutex_t life;                // starting and stopping the thread
  pthread_mutex_t lock;                // the slots
  _Atomic(clua_vm *) vm[WATCH_SLOTS];  // a queued signal may outlive its VM: it carries the slot, not the pointer
  struct {
    uint64_t seq, since_us;
  } seen[WATCH_SLOTS];
  int count;
  uint32_t tick_us;
  pthread_t thread;
  bool running;
  _Atomic bool stop;
  sem_t wake;
} watch = {.life = PTHREAD_MUTEX_INITIALIZER, .lock = PTHREAD_MUTEX_INITIALIZER};

uint64_t watch_clock(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

// How long this entry was seen running: exact for a run that goes on after a slice, otherwise by the watchdog's
// looks. The mark carries the entry's number, or a late look would charge the next one.
static inline uint32_t ran_us(const clua_vm *v) {
  if (v->entered_us) {
    uint64_t us = watch_clock() - v->entered_us;
    return us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
  }
  uint64_t mark = atomic_load_explicit(&v->mark, memory_order_relaxed);
  uint64_t seq = atomic_load_explicit(&v->seq, memory_order_relaxed);
  if (mark >> MARK_SHIFT != (seq & 0xffffff)) return 0;
  uint64_t us = mark & MARK_US;
  return us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

void watch_wake(void) {
  if (atomic_exchange(&watch_asleep, 0)) sem_post(&watch.wake);
}

// ---------------------------------------------------------------- stopping a task

static bool may_preempt(clua_vm *v, lua_State *L) {
  return v->cur && v->chain_ok && L == v->running && L != v->closing && lua_isyieldable(L);
}

static void hook(lua_State *L, lua_Debug *ar) {
  (void)ar;
  clua_vm *v = vm_of(L);
  if (!v->killing && v->cur && v->cur->killed && v->cur->state == TASK_RUNNING) {
    watch_kill(L, KILL_HOST);
    return;
  }
  if (!v->killing) {
    uint32_t ran = ran_us(v), spent = v->cur ? v->cur->spent_us : 0;
    if ((uint64_t)spent + ran < atomic_load_explicit(&v->budget_us, memory_order_relaxed)) {
      lua_sethook(L, NULL, 0, 0);  // the next look arms it again
      v->armed = 0;
      if (ran >= v->limits.slice_us && may_preempt(v, L) && !(v->cur->flags & CLUA_NO_WAIT)) {
        v->op = OP_SLICE;
        v->slice_us = ran;
        lua_yield(L, 0);
      }
      return;
    }
  }
  watch_kill(L, KILL_TIME);
}

void watch_hook(lua_State *L) { lua_sethook(L, hook, LUA_MASKCOUNT, 1); }

void watch_note(lua_State *L, enum kill_reason why) {
  clua_vm *v = vm_of(L);
  v->killing = why;
  text_set(&v->killed_by, "", 0);
  add_where(L, &v->killed_by);
  if (why == KILL_EXIT)
    text_addf(&v->killed_by, "os.exit");
  else if (why == KILL_YIELD)
    text_addf(&v->killed_by, "attempt to yield where nothing can wait");
  else if (why == KILL_HOST)
    text_addf(&v->killed_by, "ended: %s", v->cur && v->cur->reason ? v->cur->reason : "no memory for the reason");
  else
    text_addf(&v->killed_by, "stopped: it ran for %g s without a wait",
              atomic_load_explicit(&v->budget_us, memory_order_relaxed) / 1e6);
  text_set(&v->trace, "stack traceback:", 16);
  add_traceback(&v->trace, L, 0);
  for (int i = v->depth - 2; i >= 0; i--) {
    text_addf(&v->trace, "\n\t-- the coroutine was resumed by:");
    add_traceback(&v->trace, v->chain[i], 0);
  }
}

// Inside a hook lua_yield returns and the interpreter unwinds afterwards; from a C function it does not return.
void watch_kill(lua_State *L, enum kill_reason why) {
  clua_vm *v = vm_of(L);
  if (!v->killing) watch_note(L, why);
  watch_hook(L);
  if (may_preempt(v, L)) {
    v->op = OP_KILL;
    lua_yield(L, 0);
    return;
  }
  lua_pushlstring(L, v->killed_by.bytes, v->killed_by.length);
  lua_error(L);
}

void watch_poll(lua_State *L) {
  clua_vm *v = vm_of(L);
  if (v->killing) watch_kill(L, v->killing);
  uint32_t ran = ran_us(v), spent = v->cur ? v->cur->spent_us : 0;
  if (ran && (uint64_t)spent + ran >= atomic_load_explicit(&v->budget_us, memory_order_relaxed))
    watch_kill(L, KILL_TIME);
}

// ---------------------------------------------------------------- the signal, on the VM's thread

static void kicked(int sig, siginfo_t *info, void *context) {
  (void)sig;
  (void)context;
  int saved = errno, slot = info->si_value.sival_int;
  clua_vm *v = slot >= 0 && slot < WATCH_SLOTS ? atomic_load(&watch.vm[slot]) : NULL;
  if (v) {
    bool here = pthread_equal(atomic_load(&v->thread), pthread_self());
    if (here && inside(v) && v->running && ran_us(v) && !(v->armed && lua_gethook(v->running))) {
      v->armed = 1;
      lua_sethook(v->running, hook, LUA_MASKCOUNT, 1);
    }
    atomic_store(&v->kicked, false);
  }
  errno = saved;
}

// ---------------------------------------------------------------- the thread

// One signal at a time: lua_sethook goes through all calls on the stack, and a script that is 200 000 deep would get
// the next one before it is through with this one, for ever.
static void kick(clua_vm *v, int slot) {
  if (atomic_exchange(&v->kicked, true)) return;
  union sigval value = {.sival_int = slot};
  if (pthread_sigqueue(atomic_load(&v->thread), WATCH_SIGNAL, value) != 0) atomic_store(&v->kicked, false);
}

// One look at every VM. True when some VM entered Lua since the last one.
static bool look(void) {
  bool active = false;
  uint64_t now = watch_clock();
  pthread_mutex_lock(&watch.lock);
  for (int i = 0; i < WATCH_SLOTS; i++) {
    clua_vm *v = atomic_load_explicit(&watch.vm[i], memory_order_relaxed);
    if (v == NULL) continue;
    uint64_t seq = atomic_load_explicit(&v->seq, memory_order_relaxed);
    if (seq != watch.seen[i].seq) {
      watch.seen[i].seq = seq;
      watch.seen[i].since_us = now;
      active = true;
    } else if (seq & 1) {
      active = true;
      uint64_t us = now - watch.seen[i].since_us;
      if (us > MARK_US) us = MARK_US;
      atomic_store_explicit(&v->mark, seq << MARK_SHIFT | us, memory_order_relaxed);
      if (us >= v->limits.slice_us || us >= atomic_load_explicit(&v->budget_us, memory_order_relaxed)) kick(v, i);
    }
  }
  pthread_mutex_unlock(&watch.lock);
  return active;
}

static void *watch_main(void *unused) {
  (void)unused;
  int idle = 0;
  while (!atomic_load(&watch.stop)) {
    idle = look() ? 0 : idle + 1;
    if (idle < IDLE_TICKS) {
      struct timespec tick = {0, (long)watch.tick_us * 1000};
      nanosleep(&tick, NULL);
      continue;
    }
    atomic_store(&watch_asleep, 1);
    if (!look() && !atomic_load(&watch.stop)) {
      struct timespec until;
      clock_gettime(CLOCK_MONOTONIC, &until);
      until.tv_nsec += IDLE_SLEEP_NS;
      until.tv_sec += until.tv_nsec / 1000000000L;
      until.tv_nsec %= 1000000000L;
      sem_clockwait(&watch.wake, CLOCK_MONOTONIC, &until);
    }
    atomic_store(&watch_asleep, 0);
  }
  return NULL;
}

static bool start_thread(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = kicked;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  sigemptyset(&action.sa_mask);
  if (sigaction(WATCH_SIGNAL, &action, NULL) != 0) return false;
  atomic_store(&watch.stop, false);
  atomic_store(&watch_asleep, 0);
  if (sem_init(&watch.wake, 0, 0) != 0) return false;
  sigset_t all, old;  // the thread takes no signal of the process
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  int error = pthread_create(&watch.thread, NULL, watch_main, NULL);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  watch.running = error == 0;
  return watch.running;
}

static void stop_thread(void) {
  atomic_store(&watch.stop, true);
  sem_post(&watch.wake);
  pthread_join(watch.thread, NULL);
  sem_destroy(&watch.wake);
  watch.running = false;
}

bool clua_attach(clua_vm *v) {
  sigset_t ours;
  sigemptyset(&ours);
  sigaddset(&ours, WATCH_SIGNAL);
  pthread_sigmask(SIG_UNBLOCK, &ours, NULL);
  atomic_store(&v->thread, pthread_self());
  atomic_store(&v->kicked, false);
  if (v->slot >= 0) return true;

  pthread_mutex_lock(&watch.life);
  pthread_mutex_lock(&watch.lock);
  int slot = 0;
  while (slot < WATCH_SLOTS && atomic_load(&watch.vm[slot])) slot++;
  if (slot < WATCH_SLOTS) {
    watch.seen[slot].seq = ~(uint64_t)0;
    uint32_t tick = v->limits.slice_us / 2;
    tick = tick < TICK_MIN_US ? TICK_MIN_US : tick > TICK_MAX_US ? TICK_MAX_US : tick;
    if (watch.count == 0 || tick < watch.tick_us) watch.tick_us = tick;
    atomic_store(&watch.vm[slot], v);
    v->slot = slot;
    watch.count++;
  }
  pthread_mutex_unlock(&watch.lock);
  bool ok = slot < WATCH_SLOTS && (watch.running || start_thread());
  pthread_mutex_unlock(&watch.life);
  return ok;
}

void clua_detach(clua_vm *v) {
  if (v->slot < 0) return;
  pthread_mutex_lock(&watch.life);
  pthread_mutex_lock(&watch.lock);
  atomic_store(&watch.vm[v->slot], NULL);
  v->slot = -1;
  bool last = --watch.count == 0;
  pthread_mutex_unlock(&watch.lock);
  if (last && watch.running) stop_thread();
  pthread_mutex_unlock(&watch.life);
}

bool clua_is_attached_here(const clua_vm *v) {
  return v->slot >= 0 &&
         pthread_equal(atomic_load_explicit(&((clua_vm *)v)->thread, memory_order_relaxed), pthread_self());
}
