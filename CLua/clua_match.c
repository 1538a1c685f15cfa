// The pattern matcher: backtracking like stock Lua's, results equal (a differential test runs both), but every step
// counts.
#include "clua_match.h"
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "include/clua.h"
#include <ctype.h>
#include <string.h>

#define DEPTH_MAX 200     // C recursion, as in stock Lua
#define FUEL_CHUNK 16384  // steps between looks: about 30 microseconds

static const char *fail(matcher *m, const char *message) {
  if (m->error == MATCH_FINE) {
    m->error = MATCH_MALFORMED;
    m->message = message;
  }
  return NULL;
}

static bool out_of_steps(matcher *m) {
  m->budget -= FUEL_CHUNK;
  m->fuel = FUEL_CHUNK;
  if (m->budget < 0 && m->error == MATCH_FINE) {
    m->error = MATCH_TOO_COMPLEX;
    m->message = "pattern too complex for this subject";
  }
  if (m->look) m->look(m);
  return m->error != MATCH_FINE;
}

// True: stop.
static inline bool step(matcher *m) { return --m->fuel <= 0 && out_of_steps(m); }

// ---------------------------------------------------------------- single characters

static int in_class(int c, int k) {
  int r;
  switch (k | 32) {
    case 'a': r = isalpha(c); break;
    case 'c': r = iscntrl(c); break;
    case 'd': r = isdigit(c); break;
    case 'g': r = isgraph(c); break;
    case 'l': r = islower(c); break;
    case 'p': r = ispunct(c); break;
    case 's': r = isspace(c); break;
    case 'u': r = isupper(c); break;
    case 'w': r = isalnum(c); break;
    case 'x': r = isxdigit(c); break;
    case 'z': r = c == 0; break;  // deprecated, still understood
    default: return k == c;
  }
  return isupper(k) ? r == 0 : r != 0;
}

// One past the single-character item at p.
static const char *item_end(matcher *m, const char *p) {
  if (p >= m->pattern_end) return fail(m, "malformed pattern (ends unexpectedly)");
  if (*p == '%') {
    if (p + 1 >= m->pattern_end) return fail(m, "malformed pattern (ends with '%')");
    return p + 2;
  }
  if (*p != '[') return p + 1;
  p++;
  if (p < m->pattern_end && *p == '^') p++;
  do {  // a ']' in first place stands for itself
    if (p >= m->pattern_end) return fail(m, "malformed pattern (missing ']')");
    if (*p++ == '%') p++;
  } while (p >= m->pattern_end || *p != ']');
  return p + 1;
}

static int in_set(int c, const char *p, const char *close) {  // p at '[', close at ']'
  int hit = 1;
  p++;
  if (*p == '^') {
    hit = 0;
    p++;
  }
  for (; p < close; p++) {
    if (*p == '%') {
      p++;
      if (in_class(c, (unsigned char)*p)) return hit;
    } else if (p + 2 < close && p[1] == '-') {
      if ((unsigned char)p[0] <= c && c <= (unsigned char)p[2]) return hit;
      p += 2;
    } else if ((unsigned char)*p == c) {
      return hit;
    }
  }
  return !hit;
}

static inline int single(matcher *m, const char *s, const char *p, const char *end) {
  if (s >= m->subject_end) return 0;
  int c = (unsigned char)*s;
  switch (*p) {
    case '.': return 1;
    case '%': return in_class(c, (unsigned char)p[1]);
    case '[': return in_set(c, p, end - 1);
    default: return (unsigned char)*p == c;
  }
}

// ---------------------------------------------------------------- repetition

static const char *greedy(matcher *m, const char *s, const char *p, const char *end, ptrdiff_t least) {
  ptrdiff_t n = 0;
  while (single(m, s + n, p, end)) {
    if (step(m)) return NULL;
    n++;
  }
  for (; n >= least; n--) {
    const char *r = match_at(m, s + n, end + 1);
    if (r || m->error) return r;
  }
  return NULL;
}

static const char *lazy(matcher *m, const char *s, const char *p, const char *end) {
  for (;; s++) {
    const char *r = match_at(m, s, end + 1);
    if (r || m->error) return r;
    if (!single(m, s, p, end) || step(m)) return NULL;
  }
}

// ---------------------------------------------------------------- captures, %b, %f, %1

static const char *open_capture(matcher *m, const char *s, const char *p) {
  if (m->captures >= MATCH_CAPTURES) return fail(m, "too many captures");
  bool position = p + 1 < m->pattern_end && p[1] == ')';
  m->capture[m->captures].at = s;
  m->capture[m->captures].length = position ? CAPTURE_POSITION : CAPTURE_OPEN;
  m->captures++;
  const char *r = match_at(m, s, p + (position ? 2 : 1));
  if (r == NULL) m->captures--;
  return r;
}

static const char *close_capture(matcher *m, const char *s, const char *p) {
  int i = m->captures - 1;
  while (i >= 0 && m->capture[i].length != CAPTURE_OPEN) i--;
  if (i < 0) return fail(m, "invalid pattern capture");
  m->capture[i].length = s - m->capture[i].at;
  const char *r = match_at(m, s, p + 1);
  if (r == NULL) m->capture[i].length = CAPTURE_OPEN;
  return r;
}

static const char *balanced(matcher *m, const char *s, const char *p) {  // p at '%' of %bxy
  if (p + 3 >= m->pattern_end) return fail(m, "malformed pattern (missing arguments to '%b')");
  if (s >= m->subject_end || *s != p[2]) return NULL;
  int depth = 1;
  for (const char *q = s + 1; q < m->subject_end; q++) {
    if (step(m)) return NULL;
    if (*q == p[3]) {
      if (--depth == 0) return q + 1;
    } else if (*q == p[2]) {
      depth++;
    }
  }
  return NULL;
}

static bool frontier(matcher *m, const char *s, const char *p, const char *end) {
  int before = s == m->subject ? 0 : (unsigned char)s[-1];
  int here = s < m->subject_end ? (unsigned char)*s : 0;
  return !in_set(before, p, end - 1) && in_set(here, p, end - 1);
}

static const char *back_reference(matcher *m, const char *s, const char *p) {
  int i = p[1] - '1';
  if (i < 0 || i >= m->captures || m->capture[i].length == CAPTURE_OPEN) {
    m->error_index = i + 1;
    return fail(m, "invalid capture index");
  }
  if (m->capture[i].length == CAPTURE_POSITION) return NULL;  // as in stock Lua: a position never matches back
  ptrdiff_t n = m->capture[i].length;
  m->fuel -= n >> 4;
  return m->subject_end - s >= n && memcmp(m->capture[i].at, s, (size_t)n) == 0 ? s + n : NULL;
}

// ---------------------------------------------------------------- the walk

static const char *walk(matcher *m, const char *s, const char *p) {
  for (;;) {
    if (step(m)) return NULL;
    if (p == m->pattern_end) return s;
    switch (*p) {
      case '(': return open_capture(m, s, p);
      case ')': return close_capture(m, s, p);
      case '$':
        if (p + 1 == m->pattern_end) return s == m->subject_end ? s : NULL;
        break;
      case '%': {
        if (p + 1 >= m->pattern_end) break;
        if (p[1] == 'b') {
          s = balanced(m, s, p);
          if (s == NULL) return NULL;
          p += 4;
          continue;
        }
        if (p[1] == 'f') {
          p += 2;
          if (p >= m->pattern_end || *p != '[') return fail(m, "missing '[' after '%f' in pattern");
          const char *end = item_end(m, p);
          if (end == NULL || !frontier(m, s, p, end)) return NULL;
          p = end;
          continue;
        }
        if (isdigit((unsigned char)p[1])) {
          s = back_reference(m, s, p);
          if (s == NULL) return NULL;
          p += 2;
          continue;
        }
        break;
      }
      default: break;
    }
    const char *end = item_end(m, p);
    if (end == NULL) return NULL;
    switch (end < m->pattern_end ? *end : 0) {
      case '*': return greedy(m, s, p, end, 0);
      case '+': return greedy(m, s, p, end, 1);
      case '-': return lazy(m, s, p, end);
      case '?':
        if (single(m, s, p, end)) {
          const char *r = match_at(m, s + 1, end + 1);
          if (r || m->error) return r;
        }
        p = end + 1;
        continue;
      default: break;
    }
    if (!single(m, s, p, end)) return NULL;
    s++;
    p = end;
  }
}

const char *match_at(matcher *m, const char *s, const char *p) {
  if (++m->depth > DEPTH_MAX) {
    if (m->error == MATCH_FINE) {
      m->error = MATCH_TOO_COMPLEX;
      m->message = "pattern too complex";
    }
    return NULL;
  }
  s = walk(m, s, p);
  m->depth--;
  return s;
}

// ---------------------------------------------------------------- searching

const char *match_candidate(const matcher *m, const char *s, const char *p) {
  if (p >= m->pattern_end || strchr("^$*+?.([%-)", *p)) return s;  // also true for '\0'
  char next = p + 1 < m->pattern_end ? p[1] : 0;
  if (next == '*' || next == '?' || next == '-') return s;
  return s < m->subject_end ? memchr(s, *p, (size_t)(m->subject_end - s)) : NULL;
}

const char *match_search(matcher *m, const char **s, const char *p, bool anchored) {
  for (const char *q = *s;; q++) {
    if (!anchored) {
      q = match_candidate(m, q, p);
      if (q == NULL) return NULL;
    }
    m->captures = 0;
    m->depth = 0;
    const char *end = match_at(m, q, p);
    if (end) {
      *s = q;
      return end;
    }
    if (m->error || anchored || q >= m->subject_end) return NULL;
  }
}

void match_init(matcher *m, const char *subject, size_t subject_length, const char *pattern, size_t pattern_length,
                int64_t steps) {
  m->subject = subject;
  m->subject_end = subject + subject_length;
  m->pattern_end = pattern + pattern_length;
  m->fuel = steps < FUEL_CHUNK ? steps : FUEL_CHUNK;
  m->budget = steps - m->fuel;
  m->look = NULL;
  m->context = NULL;
  m->depth = m->captures = 0;
  m->error = MATCH_FINE;
  m->message = NULL;
  m->error_index = -1;
}

int32_t clua_match(const char *pattern, size_t pattern_length, const char *subject, size_t length, int64_t steps) {
  matcher m;
  match_init(&m, subject ? subject : "", length, pattern ? pattern : "", pattern_length, steps);
  const char *p = m.pattern_end - pattern_length;
  bool anchored = pattern_length && *p == '^';
  const char *s = m.subject;
  if (match_search(&m, &s, p + anchored, anchored)) {
    for (int i = 0; i < m.captures; i++)
      if (m.capture[i].length == CAPTURE_OPEN) return CLUA_MATCH_MALFORMED;
    return CLUA_MATCH_YES;
  }
  return m.error == MATCH_FINE        ? CLUA_MATCH_NO
         : m.error == MATCH_MALFORMED ? CLUA_MATCH_MALFORMED
                                      : CLUA_MATCH_TOO_COMPLEX;
}
