#pragma once
#include <stdint.h>

// What the command line asks of the process itself: the allocator, descriptors, signals, the terminal.

/// Tells the C library's allocator to keep what it was given: large blocks are not mapped and unmapped per message
/// (worth up to 15 % with 64 KiB messages). Call before the first thread. Returns 0, or how many settings were refused.
int cnet_tune_malloc(void);

/// Raises the soft limit of open descriptors to the hard one. Returns the limit now in force, or -1 with errno.
int64_t cnet_raise_descriptor_limit(void);

/// Writes to a closed socket or pipe then fail with EPIPE and do not kill the process.
void cnet_ignore_sigpipe(void);

/// Catches SIGINT, SIGTERM and SIGHUP: the first writes its number as one byte to the pipe whose reading end is
/// returned (or -1 with errno); a second one, or SIGALRM, restores the terminal and ends the process at once with
/// 128 + the first signal's number. The handlers are async-signal-safe. SIGHUP stays ignored where it was (nohup).
int cnet_catch_signals(void);

/// From now on SIGHUP ends nothing: it writes its byte and no more, however often it comes. Call after
/// `cnet_catch_signals`. Returns 1 where it was ignored before (nohup), else 0.
int cnet_hangup_is_message(void);

/// Whether the process has a terminal (1 or 0). One that had and has none any more was hung up on.
int cnet_has_terminal(void);

/// Ends the process `seconds` from now as a second signal would, whatever its threads are doing. 0 takes it back.
void cnet_end_within(unsigned seconds);

/// Puts the terminal `fd` into raw mode (no echo, no line buffer, no signals from keys; output still gets its
/// carriage returns) and remembers how it was. Returns 0, or -1 with errno.
int cnet_terminal_raw(int fd);

/// Puts the terminal back as it was; harmless where nothing was changed. Async-signal-safe.
void cnet_terminal_restore(void);

/// Columns of the terminal `fd`, or 0 where it is none.
int cnet_terminal_columns(int fd);

/// Rows of the terminal `fd`, or 0 where it is none.
int cnet_terminal_rows(int fd);
