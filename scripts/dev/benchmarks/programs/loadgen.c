// loadgen: a closed-loop echo load generator in one thread. Every connection keeps `depth` messages in flight:
// an answer that arrived whole is checked byte by byte, timed, and replaced by the next message.
//
//   loadgen tcp|udp -p PORT [-c CONNECTIONS] [-s BYTES] [-q DEPTH] [-d SECONDS] [-w WARMUP] [-P SERVER_PID]
//   loadgen tcp|udp -p PORT [-c CONNECTIONS] [-s BYTES] [-q DEPTH] -n MESSAGES
//
// The first form runs for a time (the warm-up is not counted), the second until every connection had its share of
// MESSAGES answered: with it a server under callgrind gets a known number of messages. Prints one line of JSON.
// Exit status 1: a wrong byte, a closed connection, or no end within the time limit; 2: bad arguments.
// Talks to 127.0.0.1 only. UDP keeps one datagram in flight per socket and sends anew after one was lost.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "histogram.h"
#include "process_cpu.h"

typedef struct {
  int fd;
  int index;
  int wants_out;         // armed for EPOLLOUT
  uint64_t sent;         // messages begun
  uint64_t received;     // messages answered whole
  size_t partial;        // bytes of the answer under way
  uint64_t *sent_at;     // ring of `depth` times
  uint8_t *out;          // bytes not yet taken by the kernel
  size_t out_length, out_offset;
  uint64_t last_send;    // UDP: when to give a datagram up
} connection;

static struct {
  int udp, port, count, depth, server;
  size_t size;
  double seconds, warmup;
  uint64_t messages;     // 0: run for a time
} options = {.count = 1, .depth = 1, .size = 64, .seconds = 2, .warmup = 0.4};

static int epoll;
static uint8_t *pattern;
static uint8_t input[1 << 20];
static histogram latencies;
static int measuring;
static uint64_t errors, lost, answered, share;

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void die(const char *what) {
  fprintf(stderr, "loadgen: %s: %s\n", what, strerror(errno));
  exit(1);
}

// --- messages -------------------------------------------------------------------------------------------------

static size_t header_size(void) { return options.size < 8 ? options.size : 8; }

// Each message begins with a value made of its connection and number, so that a swapped answer is seen.
static void header(uint8_t *to, int index, uint64_t number) {
  uint64_t value = ((uint64_t)(uint32_t)index << 40) ^ (number * 0x9E3779B97F4A7C15ull);
  memcpy(to, &value, header_size());
}

static int is_right(const connection *c, size_t offset, const uint8_t *bytes, size_t length) {
  uint8_t head[8];
  size_t i = 0;
  if (offset < header_size()) {
    header(head, c->index, c->received);
    for (; i < length && offset + i < header_size(); i++)
      if (bytes[i] != head[offset + i]) return 0;
  }
  if (i == length) return 1;
  // Comparing whole 64 KiB messages would make the generator the limit; both ends of each piece will do.
  if (options.size <= 2048) return !memcmp(bytes + i, pattern + offset + i, length - i);
  return bytes[i] == pattern[offset + i] && bytes[length - 1] == pattern[offset + length - 1];
}

static void answer_arrived(connection *c, uint64_t t) {
  if (measuring) histogram_record(&latencies, t - c->sent_at[c->received % (uint64_t)options.depth]);
  c->received++;
  answered++;
}

static uint64_t still_to_send(const connection *c) { return share ? share - c->sent : UINT64_MAX; }

// --- TCP ------------------------------------------------------------------------------------------------------

static void flush(connection *c) {
  int blocked = 0;
  while (c->out_offset < c->out_length && !blocked) {
    ssize_t n = send(c->fd, c->out + c->out_offset, c->out_length - c->out_offset, MSG_NOSIGNAL);
    if (n >= 0) c->out_offset += (size_t)n;
    else if (errno == EAGAIN) blocked = 1;
    else if (errno != EINTR) die("send");
  }
  if (!blocked) c->out_offset = c->out_length = 0;
  if (c->wants_out == blocked) return;
  c->wants_out = blocked;
  struct epoll_event event = {.events = EPOLLIN | (blocked ? EPOLLOUT : 0), .data.ptr = c};
  epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event);
}

static void send_tcp(connection *c, uint64_t count, uint64_t t) {
  if (c->out_offset) {
    memmove(c->out, c->out + c->out_offset, c->out_length - c->out_offset);
    c->out_length -= c->out_offset;
    c->out_offset = 0;
  }
  for (; count && still_to_send(c); count--) {
    uint8_t *to = c->out + c->out_length;
    memcpy(to, pattern, options.size);
    header(to, c->index, c->sent);
    c->sent_at[c->sent++ % (uint64_t)options.depth] = t;
    c->out_length += options.size;
  }
  flush(c);
}

static int read_tcp(connection *c) {
  ssize_t n = recv(c->fd, input, sizeof input, 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 1;
  if (n <= 0) {
    fprintf(stderr, "loadgen: the server closed connection %d\n", c->index);
    return 0;
  }
  uint64_t t = now(), finished = 0;
  for (size_t at = 0; at < (size_t)n;) {
    size_t length = options.size - c->partial;
    if (length > (size_t)n - at) length = (size_t)n - at;
    if (c->received >= c->sent || !is_right(c, c->partial, input + at, length)) {
      fprintf(stderr, "loadgen: wrong bytes on connection %d, message %llu\n", c->index,
              (unsigned long long)c->received);
      return 0;
    }
    at += length;
    c->partial += length;
    if (c->partial < options.size) break;
    c->partial = 0;
    answer_arrived(c, t);
    finished++;
  }
  if (finished) send_tcp(c, finished, t);
  return 1;
}

// --- UDP ------------------------------------------------------------------------------------------------------

static void send_udp(connection *c, uint64_t t) {
  if (!still_to_send(c)) return;
  memcpy(c->out, pattern, options.size);
  header(c->out, c->index, c->sent);
  while (send(c->fd, c->out, options.size, 0) < 0) {
    if (errno != EAGAIN && errno != EINTR && errno != ECONNREFUSED) die("send");
    if (errno == ECONNREFUSED) errors++;
    usleep(50);
  }
  c->sent_at[0] = c->last_send = t;
  c->sent++;
}

static void read_udp(connection *c) {
  ssize_t n = recv(c->fd, input, sizeof input, 0);
  if (n < 0) {
    if (errno != EAGAIN && errno != EINTR) errors++;
    return;
  }
  uint64_t t = now();
  // An answer given up earlier is neither expected nor wrong.
  if ((size_t)n != options.size || !is_right(c, 0, input, (size_t)n)) {
    if (!lost) errors++;
    return;
  }
  answer_arrived(c, t);
  send_udp(c, t);
}

static void send_lost_again(connection *connections, uint64_t t) {
  // A server under callgrind is slow, not lossy.
  uint64_t patience = options.messages ? 5000000000ull : 200000000ull;
  for (int i = 0; i < options.count; i++) {
    connection *c = &connections[i];
    if (c->sent == c->received || t < c->last_send + patience) continue;
    lost++;
    c->sent = c->received;
    send_udp(c, t);
  }
}

// --- the run --------------------------------------------------------------------------------------------------

static void open_connection(connection *c, int index) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int on = 1, buffer = 1 << 20;
  c->index = index;
  c->sent_at = calloc((size_t)options.depth, sizeof *c->sent_at);
  c->out = malloc(options.size * (size_t)options.depth);
  c->fd = socket(AF_INET, (options.udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
  if (c->fd < 0 || !c->out || !c->sent_at) die("socket");
  if (options.udp) {
    setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
  } else {
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  if (connect(c->fd, (struct sockaddr *)&to, sizeof to) < 0) die("connect");
  fcntl(c->fd, F_SETFL, O_NONBLOCK);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event)) die("epoll_ctl");
}

static int parse(int count, char **arguments) {
  if (count < 2 || (strcmp(arguments[1], "tcp") && strcmp(arguments[1], "udp"))) return 0;
  options.udp = !strcmp(arguments[1], "udp");
  optind = 2;
  for (int o; (o = getopt(count, arguments, "p:c:s:q:d:w:n:P:")) != -1;) switch (o) {
    case 'p': options.port = atoi(optarg); break;
    case 'c': options.count = atoi(optarg); break;
    case 's': options.size = (size_t)atol(optarg); break;
    case 'q': options.depth = atoi(optarg); break;
    case 'd': options.seconds = atof(optarg); break;
    case 'w': options.warmup = atof(optarg); break;
    case 'n': options.messages = (uint64_t)atoll(optarg); break;
    case 'P': options.server = atoi(optarg); break;
    default: return 0;
  }
  if (options.udp && (options.depth > 1 || options.size > 60000)) return 0;
  return options.port > 0 && options.port < 65536 && options.count > 0 && options.count <= 20000 &&
         options.size > 0 && options.size <= 16u << 20 && options.depth > 0 && options.depth <= 65536 &&
         options.seconds > 0 && options.seconds <= 120 && options.warmup >= 0 && options.warmup <= 60;
}

int main(int count, char **arguments) {
  if (!parse(count, arguments)) {
    fprintf(stderr, "usage: loadgen tcp|udp -p PORT [-c CONNECTIONS] [-s BYTES] [-q DEPTH]"
                    " [-d SECONDS -w WARMUP | -n MESSAGES] [-P SERVER_PID]\n");
    return 2;
  }
  // Nobody waits for a server that hangs.
  alarm(options.messages ? 120 : (unsigned)(options.seconds + options.warmup + 15));
  pattern = malloc(options.size);
  for (size_t i = 0; i < options.size; i++) pattern[i] = (uint8_t)(i * 131 + (i >> 8) * 7 + 17);
  struct rlimit files = {0, 0};
  if (!getrlimit(RLIMIT_NOFILE, &files)) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  epoll = epoll_create1(EPOLL_CLOEXEC);
  connection *connections = calloc((size_t)options.count, sizeof *connections);
  for (int i = 0; i < options.count; i++) open_connection(&connections[i], i);
  if (options.messages) share = (options.messages + (uint64_t)options.count - 1) / (uint64_t)options.count;

  uint64_t start = now(), measure_at = start + (uint64_t)(options.warmup * 1e9);
  uint64_t end = options.messages ? UINT64_MAX : measure_at + (uint64_t)(options.seconds * 1e9);
  if (options.messages) measure_at = start;
  for (int i = 0; i < options.count; i++) {
    if (options.udp) send_udp(&connections[i], now());
    else send_tcp(&connections[i], (uint64_t)options.depth, now());
  }

  process_cpu before = {0, 0, 0, 0}, own_before = before;
  uint64_t began = start, last_check = start, t = start;
  int good = 1;
  struct epoll_event events[256];
  while (good && t < end && (!share || answered < share * (uint64_t)options.count)) {
    int ready = epoll_wait(epoll, events, 256, 50);
    t = now();
    if (!measuring && t >= measure_at) {
      measuring = 1;
      began = t;
      if (options.server) before = process_cpu_read(options.server);
      own_before = process_cpu_read(getpid());
    }
    for (int i = 0; i < ready && good; i++) {
      connection *c = events[i].data.ptr;
      if (options.udp) {
        read_udp(c);
        continue;
      }
      if (events[i].events & EPOLLOUT) flush(c);
      if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) good = read_tcp(c);
    }
    if (options.udp && t - last_check > 50000000ull) {
      last_check = t;
      send_lost_again(connections, t);
    }
  }

  double elapsed = (double)(now() - began) / 1e9;
  process_cpu after = before, own_after = process_cpu_read(getpid());
  if (options.server) after = process_cpu_read(options.server);
  if (!good) errors++;
  double measured = (double)latencies.total, per = latencies.total ? 1e6 / measured : 0;
  printf("{\"messages\":%llu,\"seconds\":%.3f,\"rate\":%.0f,\"mb_per_s\":%.1f,", (unsigned long long)latencies.total,
         elapsed, measured / elapsed, measured * (double)options.size / elapsed / 1e6);
  printf("\"p50\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f,", histogram_percentile(&latencies, .5),
         histogram_percentile(&latencies, .99), histogram_percentile(&latencies, .999), (double)latencies.max / 1e3);
  printf("\"cpu\":%.4f,\"cpu_user\":%.4f,\"cpu_system\":%.4f,", (after.run - before.run) * per,
         (after.user - before.user) * per, (after.system - before.system) * per);
  // How far each side was at work, and how long it was ready but somebody else had its CPU: shares of the time.
  printf("\"busy\":%.3f,\"waited\":%.3f,", (after.run - before.run) / elapsed,
         (after.waited - before.waited) / elapsed);
  printf("\"generator_busy\":%.3f,\"generator_waited\":%.3f,", (own_after.run - own_before.run) / elapsed,
         (own_after.waited - own_before.waited) / elapsed);
  printf("\"errors\":%llu,\"lost\":%llu}\n", (unsigned long long)errors, (unsigned long long)lost);
  return errors ? 1 : 0;
}
