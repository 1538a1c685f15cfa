#pragma once

#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

// epoll(7) and accept4(2), whose packed structure and GNU extensions Swift's Glibc does not show.

/// A new epoll descriptor, closed on exec, or -errno.
int cnet_poll_open(void);

/// Adds, changes or removes (`events` 0 and `how` EPOLL_CTL_DEL) a descriptor; `object` comes back with its events.
/// Returns 0 or -errno.
int cnet_poll_control(int poller, int how, int fd, uint32_t events, void *object);

/// Waits for events, at most `nanoseconds`, which are kept to the kernel's precision; negative waits for ever. Returns how
/// many came, 0 also after a signal.
int cnet_poll_wait(int poller, struct epoll_event *events, int room, int64_t nanoseconds);

/// A new timerfd(2) of the monotonic clock, closed on exec, or -errno.
int cnet_alarm_open(void);

/// Rings once, at this time of the monotonic clock in nanoseconds; whatever was set before is forgotten. Returns 0 or -errno.
int cnet_alarm_set(int alarm, uint64_t time);

/// The monotonic clock in nanoseconds as of the kernel's last tick, some milliseconds ago at most: costs next to nothing.
static inline int64_t cnet_coarse_time(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static inline void *cnet_event_object(const struct epoll_event *event) { return event->data.ptr; }
static inline uint32_t cnet_event_flags(const struct epoll_event *event) { return event->events; }

/// accept4(2) with SOCK_NONBLOCK and SOCK_CLOEXEC: a descriptor or -errno.
int cnet_accept(int listener, struct sockaddr_storage *peer, socklen_t *length);
