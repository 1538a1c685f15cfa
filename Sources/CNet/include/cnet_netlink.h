#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// What interfaces and the resolver need that Swift's Glibc module does not reach. Functions that can fail answer a
// negative errno.

/// The multicast groups of rtnetlink that tell about links, addresses and routes of both families.
uint32_t cnet_netlink_change_groups(void);

/// A non-blocking, close-on-exec rtnetlink socket bound to `groups` (0: none). Answers the descriptor.
int cnet_netlink_open(uint32_t groups);

/// Bytes of the next waiting datagram, which stays in the queue; waits at most `timeout_ms` for one.
ssize_t cnet_netlink_waiting(int fd, int timeout_ms);

/// Takes the next datagram if the kernel sent it. -EMSGSIZE: it did not fit and is lost. -EPERM: some process sent it.
ssize_t cnet_netlink_receive(int fd, void *buffer, size_t capacity);

/// Sends one request to the kernel. Answers the number of bytes sent.
ssize_t cnet_netlink_send(int fd, const void *bytes, size_t count);

/// A non-blocking, close-on-exec descriptor that becomes readable when eight bytes are written to it (eventfd).
int cnet_wake_open(void);

/// Names the calling thread; the kernel keeps 15 bytes.
void cnet_name_thread(const char *name);

/// getaddrinfo's flag for names outside ASCII (RFC 5890).
int cnet_ai_idn(void);
