#define _GNU_SOURCE
#include "cnet_unix.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

_Static_assert(sizeof((struct sockaddr_un *)0)->sun_path == cnet_unix_longest_path + 1, "sun_path has another size");

static int fill(struct sockaddr_un *address, const char *path) {
  size_t length = strlen(path);
  if (length == 0) return -ENOENT;
  if (length > cnet_unix_longest_path) return -ENAMETOOLONG;
  memset(address, 0, sizeof *address);
  address->sun_family = AF_UNIX;
  memcpy(address->sun_path, path, length + 1);
  return 0;
}

static int give_up(int fd) {
  int failure = -errno;
  close(fd);
  return failure;
}

int cnet_unix_listen(const char *path, int backlog) {
  struct sockaddr_un address;
  int failure = fill(&address, path);
  if (failure) return failure;
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  // Linux gives the file the mode of the unbound socket, so there is no moment in which others could connect.
  if (fchmod(fd, 0600) != 0) return give_up(fd);
  if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0) return give_up(fd);
  if (chmod(path, 0600) != 0 || listen(fd, backlog) != 0) {
    failure = give_up(fd);
    unlink(path);
    return failure;
  }
  return fd;
}

int cnet_unix_accept(int listener) {
  int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  return fd < 0 ? -errno : fd;
}

int cnet_unix_connect(const char *path, int timeout_ms) {
  struct sockaddr_un address;
  int failure = fill(&address, path);
  if (failure) return failure;
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  struct timeval limit = {.tv_sec = timeout_ms / 1000, .tv_usec = (timeout_ms % 1000) * 1000}, none = {0, 0};
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) return give_up(fd);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof none);
  return fd;
}

int cnet_unix_peer(int fd, uint32_t *uid, int32_t *pid) {
  struct ucred peer;
  socklen_t length = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return -errno;
  *uid = peer.uid;
  *pid = peer.pid;
  return 0;
}

int cnet_wait_process(pid_t pid, int timeout_ms) {
#ifdef SYS_pidfd_open
  int fd = (int)syscall(SYS_pidfd_open, pid, 0);
  if (fd >= 0) {
    struct pollfd ended = {.fd = fd, .events = POLLIN};
    int ready;
    do ready = poll(&ended, 1, timeout_ms);
    while (ready < 0 && errno == EINTR);
    int failure = errno;
    close(fd);
    return ready < 0 ? -failure : ready;
  }
  if (errno == ESRCH) return 1;
#endif
  // Before Linux 5.3: asked again and again.
  for (int waited = 0; kill(pid, 0) == 0 || errno == EPERM; waited += 20) {
    if (waited >= timeout_ms) return 0;
    nanosleep(&(struct timespec){.tv_nsec = 20 * 1000 * 1000}, NULL);
  }
  return 1;
}
