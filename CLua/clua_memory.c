// Lua's memory: counted, with a cap, and small blocks from pages of their own size class. Lua says how large a block is
// when it gives it back, so a small block needs no header, and taking one costs a fifth of malloc. A page that is empty
// goes back to malloc, so a burst does not stay.
#include "clua_private.h"
#include <stdio.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifdef SANITIZED
#include <sanitizer/asan_interface.h>
#define FORBID(p, n) ASAN_POISON_MEMORY_REGION(p, n)
#define PERMIT(p, n) ASAN_UNPOISON_MEMORY_REGION(p, n)
#else
#define FORBID(p, n) ((void)(p), (void)(n))
#define PERMIT(p, n) ((void)(p), (void)(n))
#endif

// ---------------------------------------------------------------- small blocks

#define GRAIN 16
#define COARSE_GRAIN 128  // above FINE_MAX
#define PAGE_SPAN ((size_t)16 << 10)  // pages begin at multiples of it
#define PAGE_SIZE (PAGE_SPAN - 64)    // leaves room for malloc's own header, or every second span would be lost

_Static_assert(FINE_CLASSES * GRAIN == FINE_MAX, "a size class for each grain");
_Static_assert((SMALL_CLASSES - FINE_CLASSES) * COARSE_GRAIN == SMALL_MAX - FINE_MAX, "and for each coarse grain");

struct page {
  struct page *next, *previous;  // pages of the class that have room
  void *given_back;              // blocks, linked through their first bytes
  char *fresh, *end;             // blocks never taken yet
  uint32_t used;
};

static inline size_t class_of(size_t size) {
  return size <= FINE_MAX ? (size - 1) / GRAIN : FINE_CLASSES + (size - FINE_MAX - 1) / COARSE_GRAIN;
}
static inline size_t block_size(size_t class) {
  return class < FINE_CLASSES ? (class + 1) * GRAIN : FINE_MAX + (class - FINE_CLASSES + 1) * COARSE_GRAIN;
}
static inline bool is_full(const struct page *p, size_t class) {
  return p->given_back == NULL && (size_t)(p->end - p->fresh) < block_size(class);
}

static void link_page(clua_vm *v, struct page *p, size_t class) {
  p->previous = NULL;
  p->next = v->pages[class];
  if (p->next) p->next->previous = p;
  v->pages[class] = p;
}

static void unlink_page(clua_vm *v, struct page *p, size_t class) {
  if (p->next) p->next->previous = p->previous;
  if (p->previous)
    p->previous->next = p->next;
  else
    v->pages[class] = p->next;
}

__attribute__((noinline)) static void free_page(clua_vm *v, struct page *p) {
  v->stats.pages--;
  PERMIT(p, PAGE_SIZE);
  free(p);
}

__attribute__((noinline)) static bool add_page(clua_vm *v, size_t class) {
  void *memory;
  if (posix_memalign(&memory, PAGE_SPAN, PAGE_SIZE)) return false;
  struct page *p = memory;
  size_t header = (sizeof *p + GRAIN - 1) / GRAIN * GRAIN;
  *p = (struct page){.fresh = (char *)memory + header, .end = (char *)memory + PAGE_SIZE};
  FORBID(p->fresh, PAGE_SIZE - header);
  link_page(v, p, class);
  v->stats.pages++;
  return true;
}

static inline void *take_small(clua_vm *v, size_t size) {
  size_t class = class_of(size);
  if (v->pages[class] == NULL && !add_page(v, class)) return NULL;
  struct page *p = v->pages[class];
  void *block = p->given_back;
  if (block) {
    PERMIT(block, GRAIN);
    p->given_back = *(void **)block;
    FORBID(block, GRAIN);
  } else {
    block = p->fresh;
    p->fresh += block_size(class);
  }
  PERMIT(block, size);
  p->used++;
  if (is_full(p, class)) unlink_page(v, p, class);
  return block;
}

static inline void give_small(clua_vm *v, void *block, size_t size) {
  size_t class = class_of(size);
  struct page *p = (struct page *)((uintptr_t)block & ~(PAGE_SPAN - 1));
  if (is_full(p, class)) link_page(v, p, class);
  PERMIT(block, GRAIN);
  *(void **)block = p->given_back;
  FORBID(block, block_size(class));
  p->given_back = block;
  if (--p->used > 0 || (p->next == NULL && p->previous == NULL)) return;  // one page stays, empty or not
  unlink_page(v, p, class);
  free_page(v, p);
}

void memory_close(clua_vm *v) {
  for (size_t class = 0; class < SMALL_CLASSES; class++)
    if (v->pages[class]) free_page(v, v->pages[class]);
}

// ---------------------------------------------------------------- the cap

static bool refused_by_test(clua_vm *v) {
  if (v->fail_after < 0) return false;
  if (v->fail_after == 0) return true;  // stays 0: a retry after an emergency collection fails as well
  v->fail_after--;
  return false;
}

// A refusal is an ordinary Lua error later on, but by then the stack is gone: keep the place. Reads CallInfos only.
static void note_refusal(clua_vm *v) {
  v->stats.refused_allocations++;
  lua_State *L = v->running;
  if (L == NULL || !v->user_mode) return;
  lua_Debug ar;
  for (int level = 0; level < 8 && lua_getstack(L, level, &ar); level++) {
    if (!lua_getinfo(L, "Sl", &ar) || ar.currentline <= 0) continue;
    snprintf(v->refused_at, sizeof v->refused_at, "%s:%d: ", ar.short_src, ar.currentline);
    return;
  }
}

__attribute__((noinline)) static bool refused_beyond_ceiling(clua_vm *v, size_t growth) {
  size_t cap = v->limits.memory + (v->user_mode ? 0 : v->limits.reserve);
  if (v->used + growth <= cap && !refused_by_test(v)) return false;
  note_refusal(v);
  return true;
}

// Beyond `ceiling` more is asked; a test has it at nothing.
static inline bool refused(clua_vm *v, size_t growth) {
  return v->used + growth > v->ceiling && refused_beyond_ceiling(v, growth);
}

static inline void count(clua_vm *v, size_t old, size_t size) {
  v->used += size - old;
  if (v->used > v->peak) v->peak = v->used;
}

__attribute__((noinline)) static void *resize(clua_vm *v, void *p, size_t old, size_t size) {
  if (size > old && refused(v, size - old)) return NULL;
  void *q;
  if (old > SMALL_MAX && size > SMALL_MAX) {
    q = realloc(p, size);
    if (q == NULL && size < old) q = p;
  } else if (old <= SMALL_MAX && size <= SMALL_MAX && class_of(old) == class_of(size)) {
    PERMIT(p, size);
    q = p;
  } else {
    q = size <= SMALL_MAX ? take_small(v, size) : malloc(size);
    if (q == NULL) return NULL;
    memcpy(q, p, old < size ? old : size);
    if (old <= SMALL_MAX)
      give_small(v, p, old);
    else
      free(p);
  }
  if (q) count(v, old, size);
  return q;
}

void *memory_allocate(void *context, void *p, size_t old, size_t size) {
  clua_vm *v = context;
  if (p == NULL) {  // `old` says what kind of object is wanted
    if (size == 0 || refused(v, size)) return NULL;
    p = size <= SMALL_MAX ? take_small(v, size) : malloc(size);
    if (p) count(v, 0, size);
    return p;
  }
  if (size > 0) return resize(v, p, old, size);
  v->used -= old;
  if (old <= SMALL_MAX)
    give_small(v, p, old);
  else
    free(p);
  return NULL;
}

// C memory of ours: outside the count, inside the tests.
void *vm_realloc(clua_vm *v, void *p, size_t old_size, size_t size) {
  if (size == 0) {
    free(p);
    return NULL;
  }
  if (size > old_size && refused_by_test(v)) return NULL;
  return realloc(p, size);
}

void clua_fail_allocations(clua_vm *v, int64_t after) {
  v->fail_after = after < 0 ? -1 : after;
  set_ceiling(v, v->user_mode);
}
