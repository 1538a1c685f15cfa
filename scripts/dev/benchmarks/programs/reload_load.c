// reload_load: many peers of one server whose script is being replaced meanwhile. Every peer sends numbered messages and
// expects each answered exactly once, in order, by one generation of the script or the next, never by an older one again.
//
//   reload_load -p PORT [-c TCP_PIPES] [-u UDP_SOCKETS] [-i IDLE_TCP_PIPES] [-q DEPTH] [-r MESSAGES_PER_SECOND]
//
// A message is "NUMBER\n", its answer "GENERATION NUMBER\n" with a generation counted upwards, or "BROKEN ..." by a script
// that should never have come to answer. TCP pipes keep DEPTH messages in flight, UDP sockets one. -r spreads so many
// messages a second over the pipes in place of the highest rate. An idle pipe sends one message at the start and one at
// the end.
//
// Prints "READY" once every pipe was answered, then one line of JSON for each line read from standard input ("lap" starts
// the longest wait anew) and, after the input's end and the last answers, the final one. Exit status 1: an answer
// was missing, doubled, out of order, from an older generation or a broken one. Talks to 127.0.0.1 only.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "histogram.h"

typedef enum { TCP, UDP, IDLE } kind;

typedef struct {
  int fd;
  kind kind;
  uint64_t sent, answered;
  uint64_t generation;   // of the last answer
  uint64_t sent_at[64];  // ring of the messages in flight
  char rest[64];         // an answer that has not come whole
  size_t rest_length;
  int is_over;
} peer;

static struct {
  int port, tcp, udp, idle, depth, rate;
} options = {.tcp = 1000, .udp = 200, .depth = 1};

static peer *peers;
static int count, epoll, timer = -1;
static histogram waits;                    // since the last lap
static uint64_t longest;                   // of all laps, in ns
static uint64_t answered[3], newest;       // by kind
static uint64_t wrong, backwards, broken, missing, ended;
static int sending, lap_asked, input_over;

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void die(const char *what) {
  fprintf(stderr, "reload_load: %s: %s\n", what, strerror(errno));
  exit(1);
}

static int depth_of(const peer *p) { return p->kind == TCP ? options.depth : 1; }

static void send_one(peer *p, uint64_t t) {
  char text[24];
  int length = snprintf(text, sizeof text, "%llu\n", (unsigned long long)p->sent);
  ssize_t n;
  do n = send(p->fd, text, (size_t)length, MSG_NOSIGNAL);
  while (n < 0 && (errno == EINTR || errno == ECONNREFUSED));
  // So few bytes are in flight that a socket which does not take them is gone.
  if (n != length) {
    fprintf(stderr, "reload_load: send of peer %d: %s\n", (int)(p - peers), strerror(errno));
    p->is_over = 1;
    ended++;
    return;
  }
  p->sent_at[p->sent % 64] = t;
  p->sent++;
}

static void refill(peer *p, uint64_t t) {
  if (!sending || p->kind == IDLE || options.rate) return;
  while (!p->is_over && p->sent - p->answered < (uint64_t)depth_of(p)) send_one(p, t);
}

static void answer_came(peer *p, const char *line, uint64_t t) {
  unsigned long long generation, number;
  if (!strncmp(line, "BROKEN", 6)) {
    if (!broken++) fprintf(stderr, "reload_load: a broken script answered: %s\n", line);
    p->answered++;
    return;
  }
  if (sscanf(line, "%llu %llu", &generation, &number) != 2 || number != p->answered) {
    if (!wrong++)
      fprintf(stderr, "reload_load: peer %d expected the answer to %llu and got '%s'\n", (int)(p - peers),
              (unsigned long long)p->answered, line);
    return;
  }
  if (generation < p->generation) backwards++;
  p->generation = generation;
  if (generation > newest) newest = generation;
  uint64_t wait = t - p->sent_at[p->answered % 64];
  // All idle pipes speak at once: their wait is that of a crowd.
  if (p->kind != IDLE) {
    histogram_record(&waits, wait);
    if (wait > longest) longest = wait;
  }
  p->answered++;
  answered[p->kind]++;
}

static void bytes_came(peer *p, char *bytes, size_t length, uint64_t t) {
  size_t at = 0;
  while (at < length) {
    char *end = memchr(bytes + at, '\n', length - at);
    size_t piece = end ? (size_t)(end - bytes) - at : length - at;
    if (p->rest_length + piece >= sizeof p->rest) {
      wrong++;
      p->rest_length = 0;
    } else {
      memcpy(p->rest + p->rest_length, bytes + at, piece);
      p->rest_length += piece;
    }
    at += piece + (end ? 1 : 0);
    if (!end) break;
    p->rest[p->rest_length] = 0;
    p->rest_length = 0;
    answer_came(p, p->rest, t);
  }
}

static void readable(peer *p) {
  static char input[1 << 16];
  for (;;) {
    ssize_t n = recv(p->fd, input, sizeof input, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNREFUSED)) break;
    if (n <= 0) {
      if (!ended++) fprintf(stderr, "reload_load: peer %d: %s\n", (int)(p - peers), n ? strerror(errno) : "closed");
      p->is_over = 1;
      epoll_ctl(epoll, EPOLL_CTL_DEL, p->fd, NULL);
      return;
    }
    bytes_came(p, input, (size_t)n, now());
    if (p->kind != UDP && (size_t)n < sizeof input) break;
  }
  refill(p, now());
}

static void open_peer(peer *p, kind k) {
  p->kind = k;
  p->fd = socket(AF_INET, (k == UDP ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
  if (p->fd < 0) die("socket");
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int one = 1;
  if (connect(p->fd, (struct sockaddr *)&to, sizeof to)) die("connect");
  if (k != UDP) setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  fcntl(p->fd, F_SETFL, O_NONBLOCK);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = p};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, p->fd, &event)) die("epoll_ctl");
}

static int is_settled(void) {
  for (int i = 0; i < count; i++)
    if (!peers[i].is_over && peers[i].sent != peers[i].answered) return 0;
  return 1;
}

static void wait_and_read(int timeout) {
  struct epoll_event events[512];
  int n = epoll_wait(epoll, events, 512, timeout);
  for (int i = 0; i < n; i++) {
    void *who = events[i].data.ptr;
    if (who == &timer) {
      uint64_t elapsed;
      if (read(timer, &elapsed, sizeof elapsed) < 0 && errno != EAGAIN) die("timer");
    } else if (who) {
      readable(who);
    } else {
      char text[256];
      if (read(0, text, sizeof text) > 0) {
        lap_asked = 1;
      } else {
        input_over = 1;
        epoll_ctl(epoll, EPOLL_CTL_DEL, 0, NULL);
      }
    }
  }
}

static void start_timer(void) {
  timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  struct itimerspec every = {{0, 1000000}, {0, 1000000}};
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = &timer};
  if (timer < 0 || timerfd_settime(timer, 0, &every, NULL) || epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &event))
    die("timer");
}

static void report(int is_final) {
  printf("{\"tcp\":%llu,\"udp\":%llu,\"idle\":%llu,\"wrong\":%llu,\"backwards\":%llu,\"broken\":%llu,\"missing\":%llu,"
         "\"ended\":%llu,\"generation\":%llu,\"p50\":%.1f,\"p99\":%.1f,\"lap_longest\":%.1f,\"longest\":%.1f,"
         "\"final\":%s}\n",
         (unsigned long long)answered[TCP], (unsigned long long)answered[UDP], (unsigned long long)answered[IDLE],
         (unsigned long long)wrong, (unsigned long long)backwards, (unsigned long long)broken,
         (unsigned long long)missing, (unsigned long long)ended, (unsigned long long)newest,
         histogram_percentile(&waits, 0.5), histogram_percentile(&waits, 0.99), (double)waits.max / 1000.0,
         (double)longest / 1000.0, is_final ? "true" : "false");
  fflush(stdout);
  histogram_clear(&waits);
}

static void settle(const char *what, double seconds) {
  uint64_t deadline = now() + (uint64_t)(seconds * 1e9);
  while (!is_settled() && now() < deadline) wait_and_read(50);
  if (!is_settled()) fprintf(stderr, "reload_load: %s: not every answer came within %.0f s\n", what, seconds);
}

static void parse(int argc, char **argv) {
  int option;
  while ((option = getopt(argc, argv, "p:c:u:i:q:r:")) != -1) {
    int value = atoi(optarg ? optarg : "");
    switch (option) {
    case 'p': options.port = value; break;
    case 'c': options.tcp = value; break;
    case 'u': options.udp = value; break;
    case 'i': options.idle = value; break;
    case 'q': options.depth = value; break;
    case 'r': options.rate = value; break;
    default: exit(2);
    }
  }
  if (options.port < 1 || options.port > 65535 || options.tcp < 0 || options.udp < 0 || options.idle < 0 ||
      options.depth < 1 || options.depth > 64 || options.rate < 0) {
    fprintf(stderr, "reload_load: -p PORT, counts from 0 up, -q 1 to 64\n");
    exit(2);
  }
}

int main(int argc, char **argv) {
  parse(argc, argv);
  count = options.tcp + options.udp + options.idle;
  peers = calloc((size_t)count + 1, sizeof *peers);
  epoll = epoll_create1(EPOLL_CLOEXEC);
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  for (int i = 0; i < count; i++)
    open_peer(&peers[i], i < options.tcp ? TCP : i < options.tcp + options.udp ? UDP : IDLE);

  for (int i = 0; i < count; i++) send_one(&peers[i], now());
  settle("start", 60);
  if (!is_settled()) return 1;
  histogram_clear(&waits);
  longest = 0;
  sending = 1;

  struct epoll_event input = {.events = EPOLLIN, .data.ptr = NULL};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &input)) die("standard input must be a pipe");
  if (options.rate) start_timer();
  printf("READY\n");
  fflush(stdout);
  int active = options.tcp + options.udp, next = 0;
  for (int i = 0; i < active; i++) refill(&peers[i], now());
  uint64_t began = now(), paced = 0;
  while (!input_over) {
    wait_and_read(1000);
    uint64_t due = options.rate ? (now() - began) * (uint64_t)options.rate / 1000000000ull : 0;
    // A peer whose answer is late is left out of its turn; so is the message.
    for (; paced < due && active; paced++, next = (next + 1) % active) {
      peer *p = &peers[next];
      if (!p->is_over && p->sent - p->answered < (uint64_t)depth_of(p)) send_one(p, now());
    }
    if (lap_asked) report(0);
    lap_asked = 0;
  }
  sending = 0;
  settle("end", 20);
  for (int i = active; i < count; i++)
    if (!peers[i].is_over) send_one(&peers[i], now());
  settle("idle pipes", 20);
  for (int i = 0; i < count; i++) missing += peers[i].sent - peers[i].answered;
  report(1);
  return wrong || backwards || broken || missing || ended ? 1 : 0;
}
