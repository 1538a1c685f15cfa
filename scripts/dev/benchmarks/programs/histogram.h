// A latency histogram: 64 buckets per power of two of nanoseconds, so a percentile is right within 1.6 %
// and recording costs one increment.
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>
#include <string.h>

enum { HISTOGRAM_BUCKETS = 64 * 40 };

typedef struct {
  uint64_t counts[HISTOGRAM_BUCKETS];
  uint64_t total;
  uint64_t max;
} histogram;

static inline void histogram_clear(histogram *h) { memset(h, 0, sizeof *h); }

static inline int histogram_bucket(uint64_t ns) {
  if (ns < 64) return (int)ns;
  int exponent = 63 - __builtin_clzll(ns);
  int bucket = 64 * (exponent - 5) + (int)((ns >> (exponent - 6)) & 63);
  return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

static inline void histogram_record(histogram *h, uint64_t ns) {
  h->counts[histogram_bucket(ns)]++;
  h->total++;
  if (ns > h->max) h->max = ns;
}

// The middle of a bucket, in nanoseconds.
static inline uint64_t histogram_value(int bucket) {
  if (bucket < 64) return (uint64_t)bucket;
  int exponent = bucket / 64 + 5;
  uint64_t width = 1ull << (exponent - 6);
  return (1ull << exponent) + (uint64_t)(bucket & 63) * width + width / 2;
}

// The latency below which `share` (0 to 1) of the messages lie, in microseconds; 0 when nothing was recorded.
static inline double histogram_percentile(const histogram *h, double share) {
  uint64_t wanted = (uint64_t)(share * (double)h->total), seen = 0;
  for (int i = 0; i < HISTOGRAM_BUCKETS; i++) {
    seen += h->counts[i];
    if (seen > wanted) return (double)histogram_value(i) / 1000.0;
  }
  return (double)h->max / 1000.0;
}

#endif
