#define _GNU_SOURCE
#include "cnet_poller.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

int cnet_poll_open(void) {
  int fd = epoll_create1(EPOLL_CLOEXEC);
  return fd < 0 ? -errno : fd;
}

int cnet_poll_control(int poller, int how, int fd, uint32_t events, void *object) {
  struct epoll_event event = {.events = events, .data = {.ptr = object}};
  return epoll_ctl(poller, how, fd, &event) == 0 ? 0 : -errno;
}

// Rounded up, so that nothing due is found not due yet and waited for again and again.
static int milliseconds(int64_t nanoseconds) {
  if (nanoseconds < 0) return -1;
  int64_t rounded = nanoseconds / 1000000 + (nanoseconds % 1000000 != 0);
  return rounded > INT_MAX ? INT_MAX : (int)rounded;
}

int cnet_poll_wait(int poller, struct epoll_event *events, int room, int64_t nanoseconds) {
  // Only a wait between two milliseconds needs the newer call (Linux 5.11), which old kernels and sandboxes refuse.
  static int has_pwait2 = 1;
  int count;
  if (nanoseconds > 0 && __atomic_load_n(&has_pwait2, __ATOMIC_RELAXED)) {
    struct timespec time = {.tv_sec = nanoseconds / 1000000000, .tv_nsec = nanoseconds % 1000000000};
    count = epoll_pwait2(poller, events, room, &time, NULL);
    if (count >= 0) return count;
    if (errno != ENOSYS && errno != EPERM) return 0;
    __atomic_store_n(&has_pwait2, 0, __ATOMIC_RELAXED);
  }
  // Bare, as cnet_receive is.
  count = (int)syscall(SYS_epoll_pwait, poller, events, room, milliseconds(nanoseconds), NULL, 0);
  return count < 0 ? 0 : count;
}

int cnet_alarm_open(void) {
  int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  return fd < 0 ? -errno : fd;
}

int cnet_alarm_set(int alarm, uint64_t time) {
  // A time of nothing would be no alarm.
  if (time == 0) time = 1;
  struct itimerspec at = {.it_value = {.tv_sec = (time_t)(time / 1000000000), .tv_nsec = (long)(time % 1000000000)}};
  return timerfd_settime(alarm, TFD_TIMER_ABSTIME, &at, NULL) == 0 ? 0 : -errno;
}

int cnet_accept(int listener, struct sockaddr_storage *peer, socklen_t *length) {
  *length = sizeof *peer;
  int fd = accept4(listener, (struct sockaddr *)peer, length, SOCK_NONBLOCK | SOCK_CLOEXEC);
  return fd < 0 ? -errno : fd;
}
