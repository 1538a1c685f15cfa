#define _GNU_SOURCE
#include "cnet_streams.h"

#include <sys/syscall.h>
#include <unistd.h>

static const int flags = MSG_DONTWAIT | MSG_NOSIGNAL;

ssize_t cnet_receive(int socket, void *bytes, size_t room) {
  return syscall(SYS_recvfrom, socket, bytes, room, MSG_DONTWAIT, NULL, NULL);
}

ssize_t cnet_send(int socket, const void *bytes, size_t count) {
  return syscall(SYS_sendto, socket, bytes, count, flags, NULL, 0);
}

ssize_t cnet_send_message(int socket, const struct msghdr *message) {
  return syscall(SYS_sendmsg, socket, message, flags);
}

ssize_t cnet_send_to(int socket, const void *bytes, size_t count, const struct sockaddr *to, socklen_t length) {
  return syscall(SYS_sendto, socket, bytes, count, flags, to, length);
}

ssize_t cnet_receive_from(int socket, void *bytes, size_t room, struct sockaddr_storage *from) {
  socklen_t length = sizeof *from;
  return syscall(SYS_recvfrom, socket, bytes, room, MSG_DONTWAIT, from, &length);
}
