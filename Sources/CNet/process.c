#include "cnet_process.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <termios.h>
#include <unistd.h>

// Measured: M_TRIM_THRESHOLD and M_TOP_PAD keep the heap's top from going back to the kernel between messages.
// M_MMAP_THRESHOLD: glibc refuses more than half of an arena's heap (32 MiB on 64-bit), so that is what is asked for.
static const int trim_threshold = 256 << 20;
static const int mmap_threshold = 32 << 20;
static const int top_pad = 4 << 20;

int cnet_tune_malloc(void) {
#ifdef __GLIBC__
  int refused = 0;
  refused += mallopt(M_TRIM_THRESHOLD, trim_threshold) != 1;
  refused += mallopt(M_MMAP_THRESHOLD, mmap_threshold) != 1;
  refused += mallopt(M_TOP_PAD, top_pad) != 1;
  return refused;
#else
  (void)trim_threshold, (void)mmap_threshold, (void)top_pad;
  return 0;
#endif
}

int64_t cnet_raise_descriptor_limit(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return -1;
  if (limit.rlim_cur != limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0 || getrlimit(RLIMIT_NOFILE, &limit) != 0) return -1;
  }
  return limit.rlim_cur == RLIM_INFINITY ? INT64_MAX : (int64_t)limit.rlim_cur;
}

void cnet_ignore_sigpipe(void) { signal(SIGPIPE, SIG_IGN); }

// Signals

static int signal_pipe[2] = {-1, -1};
static volatile sig_atomic_t first_signal;
static volatile sig_atomic_t hangup_ends = 1;
static int hangup_was_ignored;

static void caught(int number) {
  int saved = errno;
  if (number == SIGHUP && !hangup_ends) {
    unsigned char byte = SIGHUP;
    ssize_t written = write(signal_pipe[1], &byte, 1);
    (void)written;  // a full pipe has enough of them
    errno = saved;
    return;
  }
  if (first_signal != 0 || number == SIGALRM) {
    cnet_terminal_restore();
    _exit(128 + (first_signal != 0 ? first_signal : number));
  }
  first_signal = number;
  unsigned char byte = (unsigned char)number;
  ssize_t written = write(signal_pipe[1], &byte, 1);
  (void)written;  // full only where nobody reads; then a second signal ends the process
  errno = saved;
}

int cnet_catch_signals(void) {
  if (signal_pipe[0] >= 0) return signal_pipe[0];
  if (pipe(signal_pipe) != 0) return -1;
  for (int end = 0; end < 2; end++) {
    fcntl(signal_pipe[end], F_SETFD, FD_CLOEXEC);
    fcntl(signal_pipe[end], F_SETFL, O_NONBLOCK);
  }
  struct sigaction action = {.sa_handler = caught, .sa_flags = SA_RESTART};
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGALRM, &action, NULL);
  struct sigaction was;
  hangup_was_ignored = sigaction(SIGHUP, NULL, &was) == 0 && was.sa_handler == SIG_IGN;
  if (!hangup_was_ignored) sigaction(SIGHUP, &action, NULL);
  return signal_pipe[0];
}

int cnet_hangup_is_message(void) {
  struct sigaction action = {.sa_handler = caught, .sa_flags = SA_RESTART};
  sigemptyset(&action.sa_mask);
  hangup_ends = 0;
  sigaction(SIGHUP, &action, NULL);
  return hangup_was_ignored;
}

int cnet_has_terminal(void) {
  int fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (fd >= 0) close(fd);
  return fd >= 0;
}

void cnet_end_within(unsigned seconds) { alarm(seconds); }

// Terminal

// Bracketed paste (xterm's private mode 2004): pasted text comes between marks, so its line breaks do not send.
static const char paste_on[] = "\033[?2004h", paste_off[] = "\033[?2004l";
static struct termios terminal_was;
static volatile sig_atomic_t terminal_fd = -1;

int cnet_terminal_raw(int fd) {
  struct termios raw;
  if (tcgetattr(fd, &raw) != 0) return -1;
  if (terminal_fd < 0) {
    terminal_was = raw;
    terminal_fd = fd;
  }
  raw.c_iflag &= ~(tcflag_t)(BRKINT | ICRNL | INPCK | ISTRIP | IXON);
  raw.c_cflag |= CS8;
  raw.c_lflag &= ~(tcflag_t)(ECHO | ICANON | IEXTEN | ISIG);
  raw.c_cc[VMIN] = 1;
  raw.c_cc[VTIME] = 0;
  if (tcsetattr(fd, TCSADRAIN, &raw) != 0) return -1;
  return write(fd, paste_on, sizeof paste_on - 1) < 0 ? -1 : 0;
}

void cnet_terminal_restore(void) {
  if (terminal_fd >= 0) {
    ssize_t written = write(terminal_fd, paste_off, sizeof paste_off - 1);
    (void)written;
    tcsetattr(terminal_fd, TCSANOW, &terminal_was);
    terminal_fd = -1;
  }
}

int cnet_terminal_columns(int fd) {
  struct winsize size;
  return ioctl(fd, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

int cnet_terminal_rows(int fd) {
  struct winsize size;
  return ioctl(fd, TIOCGWINSZ, &size) == 0 ? size.ws_row : 0;
}
