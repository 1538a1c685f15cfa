// The bare echo everything is measured against: C, epoll, one thread, TCP and UDP on one port of 127.0.0.1.
//
//   echo_epoll PORT          prints READY and serves until it is ended
//
// One read and one write per message and nothing else: what the kernel costs. What a connection could not take at
// once is kept, and the connection not read from, until it was sent.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct {
  int fd;
  char *pending;  // bytes the kernel did not take
  size_t length, offset, capacity;
} connection;

static char buffer[65536];  // one read: as much as the other servers read at once
static int epoll, listener, datagrams;

static void watch(int operation, connection *c, unsigned events) {
  struct epoll_event event = {.events = events, .data.ptr = c};
  epoll_ctl(epoll, operation, c->fd, &event);
}

static void close_connection(connection *c) {
  close(c->fd);
  free(c->pending);
  free(c);
}

static void accept_all(void) {
  int fd, on = 1;
  while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    connection *c = calloc(1, sizeof *c);
    if (!c) {
      close(fd);
      continue;
    }
    c->fd = fd;
    watch(EPOLL_CTL_ADD, c, EPOLLIN);
  }
}

static void echo_datagrams(void) {
  // A bound on the batch, so that TCP connections get their turn.
  for (int i = 0; i < 64; i++) {
    struct sockaddr_in from;
    socklen_t length = sizeof from;
    ssize_t n = recvfrom(datagrams, buffer, sizeof buffer, 0, (struct sockaddr *)&from, &length);
    if (n < 0) return;
    sendto(datagrams, buffer, (size_t)n, 0, (struct sockaddr *)&from, length);
  }
}

static void send_pending(connection *c) {
  while (c->offset < c->length) {
    ssize_t n = send(c->fd, c->pending + c->offset, c->length - c->offset, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) return;
    if (n < 0) break;
    c->offset += (size_t)n;
  }
  c->length = c->offset = 0;
  watch(EPOLL_CTL_MOD, c, EPOLLIN);
}

static void echo_stream(connection *c) {
  ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
  if (n < 0 && errno == EAGAIN) return;
  if (n <= 0) return close_connection(c);
  ssize_t sent = send(c->fd, buffer, (size_t)n, MSG_NOSIGNAL);
  if (sent < 0 && errno != EAGAIN) return close_connection(c);
  if (sent < 0) sent = 0;
  if (sent == n) return;
  size_t left = (size_t)(n - sent);
  if (c->capacity < left) {
    char *larger = realloc(c->pending, left);
    if (!larger) return close_connection(c);
    c->pending = larger;
    c->capacity = left;
  }
  memcpy(c->pending, buffer + sent, left);
  c->length = left;
  c->offset = 0;
  watch(EPOLL_CTL_MOD, c, EPOLLOUT);
}

static int bound(int type, int port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int on = 1, size = 1 << 20, fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (type == SOCK_STREAM) {
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  } else {
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
  }
  if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address)) {
    perror("echo_epoll: bind");
    exit(1);
  }
  return fd;
}

int main(int count, char **arguments) {
  int port = count > 1 ? atoi(arguments[1]) : 0;
  if (port <= 0 || port > 65535) {
    fprintf(stderr, "usage: echo_epoll PORT\n");
    return 2;
  }
  struct rlimit files;
  if (!getrlimit(RLIMIT_NOFILE, &files)) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  listener = bound(SOCK_STREAM, port);
  datagrams = bound(SOCK_DGRAM, port);
  if (listen(listener, 1024)) {
    perror("echo_epoll: listen");
    return 1;
  }
  epoll = epoll_create1(EPOLL_CLOEXEC);
  connection streams = {.fd = listener}, packets = {.fd = datagrams};
  watch(EPOLL_CTL_ADD, &streams, EPOLLIN);
  watch(EPOLL_CTL_ADD, &packets, EPOLLIN);
  puts("READY");
  fflush(stdout);
  struct epoll_event events[256];
  for (;;) {
    int ready = epoll_wait(epoll, events, 256, -1);
    for (int i = 0; i < ready; i++) {
      connection *c = events[i].data.ptr;
      if (c == &streams) accept_all();
      else if (c == &packets) echo_datagrams();
      else if (events[i].events & EPOLLOUT) send_pending(c);
      else echo_stream(c);
    }
  }
}
