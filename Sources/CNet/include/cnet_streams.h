#pragma once

#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

// recv(2), send(2) and sendto(2) on descriptors that never block, as bare system calls. glibc's functions are points where
// a thread may be cancelled (pthreads(7)), which in a program of several threads costs each call two atomic operations and
// some sixty instructions; nobody cancels threads here. -1 with errno for failures.

ssize_t cnet_receive(int socket, void *bytes, size_t room);

/// Never raises SIGPIPE.
ssize_t cnet_send(int socket, const void *bytes, size_t count);
ssize_t cnet_send_message(int socket, const struct msghdr *message);
ssize_t cnet_send_to(int socket, const void *bytes, size_t count, const struct sockaddr *to, socklen_t length);

/// A datagram and its sender's address.
ssize_t cnet_receive_from(int socket, void *bytes, size_t room, struct sockaddr_storage *from);
