#pragma once

#include <stddef.h>
#include <sys/socket.h>

// Several datagrams of one socket with one system call (recvmmsg(2), which Swift's Glibc does not show).

typedef struct cnet_datagrams cnet_datagrams;

/// Room for 16 datagrams of any length; NULL when memory is out. One of them serves all sockets of a thread.
cnet_datagrams *cnet_datagrams_make(void);
void cnet_datagrams_free(cnet_datagrams *batch);

/// Takes what waits on a socket, without waiting for more. Returns how many came, at most `cnet_datagrams_room`, or -1
/// with errno. Fewer than that means that no more waited.
int cnet_datagrams_receive(cnet_datagrams *batch, int socket);

/// The bytes and the sender of a datagram of the last `cnet_datagrams_receive`; valid until the next one.
const void *cnet_datagrams_bytes(const cnet_datagrams *batch, int index, size_t *length);
const struct sockaddr_storage *cnet_datagrams_sender(const cnet_datagrams *batch, int index);

enum { cnet_datagrams_room = 16 };
