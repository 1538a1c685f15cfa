#define _GNU_SOURCE
#include "cnet_datagrams.h"

#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { LONGEST = 65536 };

struct cnet_datagrams {
  struct mmsghdr headers[cnet_datagrams_room];
  struct iovec parts[cnet_datagrams_room];
  struct sockaddr_storage senders[cnet_datagrams_room];
  char bytes[cnet_datagrams_room][LONGEST];
};

cnet_datagrams *cnet_datagrams_make(void) {
  // Not cleared: pages that no datagram reaches are never touched.
  cnet_datagrams *batch = malloc(sizeof *batch);
  if (batch == NULL) return NULL;
  memset(batch->headers, 0, sizeof batch->headers);
  memset(batch->senders, 0, sizeof batch->senders);
  for (int i = 0; i < cnet_datagrams_room; i++) {
    batch->parts[i] = (struct iovec){.iov_base = batch->bytes[i], .iov_len = LONGEST};
    batch->headers[i].msg_hdr.msg_iov = &batch->parts[i];
    batch->headers[i].msg_hdr.msg_iovlen = 1;
    batch->headers[i].msg_hdr.msg_name = &batch->senders[i];
  }
  return batch;
}

void cnet_datagrams_free(cnet_datagrams *batch) { free(batch); }

int cnet_datagrams_receive(cnet_datagrams *batch, int socket) {
  for (int i = 0; i < cnet_datagrams_room; i++) batch->headers[i].msg_hdr.msg_namelen = sizeof batch->senders[i];
  // Bare, as cnet_receive is.
  return (int)syscall(SYS_recvmmsg, socket, batch->headers, cnet_datagrams_room, MSG_DONTWAIT, NULL);
}

const void *cnet_datagrams_bytes(const cnet_datagrams *batch, int index, size_t *length) {
  *length = batch->headers[index].msg_len;
  return batch->bytes[index];
}

const struct sockaddr_storage *cnet_datagrams_sender(const cnet_datagrams *batch, int index) {
  return &batch->senders[index];
}
