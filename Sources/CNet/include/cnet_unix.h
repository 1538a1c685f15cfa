#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// Unix-domain stream sockets and what comes with them, as far as Swift's Glibc module does not reach. Functions that can
// fail answer a negative errno; -ENAMETOOLONG: the path is longer than `cnet_unix_longest_path`.

/// Bytes a socket's path may have: sun_path without its final zero (unix(7)).
enum { cnet_unix_longest_path = 107 };

/// A listening, non-blocking, close-on-exec socket at a path that is free, mode 0600 from its first moment on.
int cnet_unix_listen(const char *path, int backlog);

/// The next connection, non-blocking and close-on-exec.
int cnet_unix_accept(int listener);

/// A blocking, close-on-exec connection; gives up after `timeout_ms` where the listener takes nobody (-EAGAIN).
int cnet_unix_connect(const char *path, int timeout_ms);

/// Who is at the other end (SO_PEERCRED): the effective user at connect or listen, and the process, 0 where it is of
/// another pid namespace.
int cnet_unix_peer(int fd, uint32_t *uid, int32_t *pid);

/// Waits until a process has ended, its parent having asked for its status or not. 1: ended; 0: the time is over.
int cnet_wait_process(pid_t pid, int timeout_ms);
