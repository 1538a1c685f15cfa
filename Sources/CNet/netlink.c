#define _GNU_SOURCE
#include "cnet_netlink.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

uint32_t cnet_netlink_change_groups(void) {
  return RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE;
}

int cnet_netlink_open(uint32_t groups) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
  if (fd < 0) return -errno;
  struct sockaddr_nl local;
  memset(&local, 0, sizeof local);
  local.nl_family = AF_NETLINK;
  local.nl_groups = groups;
  if (bind(fd, (struct sockaddr *)&local, sizeof local) != 0) {
    int reason = errno;
    close(fd);
    return -reason;
  }
  return fd;
}

ssize_t cnet_netlink_waiting(int fd, int timeout_ms) {
  for (;;) {
    ssize_t count = recv(fd, NULL, 0, MSG_PEEK | MSG_TRUNC);
    if (count >= 0) return count;
    if (errno == EINTR) continue;
    if (errno != EAGAIN || timeout_ms == 0) return -errno;
    struct pollfd item = {.fd = fd, .events = POLLIN};
    int ready = poll(&item, 1, timeout_ms);
    if (ready == 0) return -EAGAIN;
    if (ready < 0 && errno != EINTR) return -errno;
  }
}

ssize_t cnet_netlink_receive(int fd, void *buffer, size_t capacity) {
  struct sockaddr_nl sender;
  memset(&sender, 0, sizeof sender);
  struct iovec part = {.iov_base = buffer, .iov_len = capacity};
  struct msghdr message;
  memset(&message, 0, sizeof message);
  message.msg_name = &sender;
  message.msg_namelen = sizeof sender;
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  ssize_t count;
  do {
    count = recvmsg(fd, &message, 0);
  } while (count < 0 && errno == EINTR);
  if (count < 0) return -errno;
  if (message.msg_namelen != sizeof sender || sender.nl_pid != 0) return -EPERM;
  if (message.msg_flags & MSG_TRUNC) return -EMSGSIZE;
  return count;
}

ssize_t cnet_netlink_send(int fd, const void *bytes, size_t count) {
  struct sockaddr_nl kernel;
  memset(&kernel, 0, sizeof kernel);
  kernel.nl_family = AF_NETLINK;
  ssize_t sent;
  do {
    sent = sendto(fd, bytes, count, MSG_NOSIGNAL, (struct sockaddr *)&kernel, sizeof kernel);
  } while (sent < 0 && errno == EINTR);
  return sent < 0 ? -errno : sent;
}

int cnet_wake_open(void) {
  int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  return fd < 0 ? -errno : fd;
}

void cnet_name_thread(const char *name) { pthread_setname_np(pthread_self(), name); }

int cnet_ai_idn(void) { return AI_IDN; }
