/* buf.h: bounded writer over memory that somebody else owns, and a growing heap text for use off
 * the data path. Every append checks capacity; after the first failure the writer is `full` and
 * stays so (one check at the end is enough). There is no "compute length, then copy". */
#ifndef WEIR_BASE_BUF_H
#define WEIR_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/span.h"

/* buf writes into ptr[0..cap). len never passes cap. */
struct buf {
  char *ptr;
  size_t len, cap;
  bool full;
};

static inline struct buf buf_of(void *ptr, size_t cap) {
  return (struct buf){.ptr = (char *)ptr, .len = 0, .cap = cap, .full = false};
}
static inline struct span buf_span(const struct buf *b) { return span_of(b->ptr, b->len); }
static inline size_t buf_room(const struct buf *b) { return b->cap - b->len; }

/* buf_put appends s whole or not at all. */
static inline void buf_put(struct buf *b, struct span s) {
  if (__builtin_expect(b->full || s.len > b->cap - b->len, 0)) {
    b->full = true;
    return;
  }
  if (s.len) memcpy(b->ptr + b->len, s.ptr, s.len);
  b->len += s.len;
}
static inline void buf_char(struct buf *b, char c) {
  if (__builtin_expect(b->full || b->len == b->cap, 0)) {
    b->full = true;
    return;
  }
  b->ptr[b->len++] = c;
}
#define buf_lit(b, literal) buf_put((b), SPAN_LIT(literal))
/* buf_u64 appends decimal digits; buf_hex lower-case hex without leading zeros. */
void buf_u64(struct buf *b, uint64_t v);
void buf_i64(struct buf *b, int64_t v);
void buf_hex(struct buf *b, uint64_t v);
/* buf_json appends s as the inside of a JSON string (escapes " \ controls; bytes that are not
 * UTF-8 become \ufffd). Bytes appended: at most 6 per byte. */
void buf_json(struct buf *b, struct span s);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* text grows on the heap without bound: for CLI, config and metrics output only. */
struct text {
  char *ptr;
  size_t len, cap;
};
void text_fini(struct text *t);
void text_put(struct text *t, struct span s);
void text_printf(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void text_json(struct text *t, struct span s);
static inline struct span text_span(const struct text *t) { return span_of(t->ptr, t->len); }
#define text_lit(t, literal) text_put((t), SPAN_LIT(literal))

#endif
