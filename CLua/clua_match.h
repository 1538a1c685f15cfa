// Lua patterns (manual 6.4.1), matched by our own code so that steps can be counted. Knows no lua_State.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MATCH_CAPTURES 32
#define CAPTURE_OPEN (-1)
#define CAPTURE_POSITION (-2)

enum match_error { MATCH_FINE, MATCH_MALFORMED, MATCH_TOO_COMPLEX };

typedef struct matcher {
  const char *subject, *subject_end, *pattern_end;
  int64_t fuel;                     // steps until the next look at budget and clock
  int64_t budget;                   // steps left beyond that
  void (*look)(struct matcher *m);  // may leave by longjmp: the matcher holds nothing
  void *context;
  int depth, captures;
  enum match_error error;
  const char *message;  // of the error; a capture's number is in error_index
  int error_index;
  struct {
    const char *at;
    ptrdiff_t length;
  } capture[MATCH_CAPTURES];
} matcher;

void match_init(matcher *m, const char *subject, size_t subject_length, const char *pattern, size_t pattern_length,
                int64_t steps);
const char *match_at(matcher *m, const char *s, const char *p);  // end of the match that begins at s, or NULL
// First match at or after *s (only there if anchored); *s is moved to where it begins.
const char *match_search(matcher *m, const char **s, const char *p, bool anchored);
const char *match_candidate(const matcher *m, const char *s,
                            const char *p);  // next place a match could begin; NULL: none
