// hold: opens TCP connections to 127.0.0.1, has one message echoed on each, and keeps them open, idle, until its
// standard input ends. What a server's memory grew by meanwhile, divided by their number, is what an idle pipe costs.
//
//   hold PORT CONNECTIONS    prints {"opened":N,"echoed":N} once all were tried
//
// The connections are ended by a reset, so that no port stays in TIME_WAIT for the next run.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

// Opened together before their answers are read: below any listen backlog.
enum { BATCH = 64 };

static int opened(int port) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  struct linger reset = {.l_onoff = 1, .l_linger = 0};
  struct timeval patience = {.tv_sec = 10, .tv_usec = 0};
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  if (connect(fd, (struct sockaddr *)&to, sizeof to)) {
    close(fd);
    return -1;
  }
  return fd;
}

int main(int count, char **arguments) {
  int port = count > 2 ? atoi(arguments[1]) : 0, wanted = count > 2 ? atoi(arguments[2]) : 0;
  if (port <= 0 || port > 65535 || wanted <= 0 || wanted > 100000) {
    fprintf(stderr, "usage: hold PORT CONNECTIONS\n");
    return 2;
  }
  struct rlimit files;
  if (!getrlimit(RLIMIT_NOFILE, &files)) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  char message[64], answer[64];
  memset(message, 'x', sizeof message);
  int made = 0, echoed = 0, failed = 0;
  for (int first = 0; first < wanted && !failed; first += BATCH) {
    int fds[BATCH], n = 0;
    for (; n < BATCH && first + n < wanted; n++) {
      fds[n] = opened(port);
      if (fds[n] < 0) {
        perror("hold: connect");
        failed = 1;
        break;
      }
      made++;
      if (send(fds[n], message, sizeof message, MSG_NOSIGNAL) != sizeof message) perror("hold: send");
    }
    for (int i = 0; i < n; i++) {
      ssize_t got = recv(fds[i], answer, sizeof answer, MSG_WAITALL);
      if (got == sizeof answer && !memcmp(message, answer, sizeof answer)) echoed++;
    }
  }
  printf("{\"opened\":%d,\"echoed\":%d}\n", made, echoed);
  fflush(stdout);
  while (read(0, answer, sizeof answer) > 0) continue;
  return echoed == wanted ? 0 : 1;
}
