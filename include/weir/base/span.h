/* span.h: borrowed bytes. A span never owns; who made it says how long it lives. The cursor reads
 * a span and advances only on success. No pointer arithmetic on bytes stands outside base/ and the
 * protocol parsers of http/. */
#ifndef WEIR_BASE_SPAN_H
#define WEIR_BASE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "weir/base/check.h"

/* span is len bytes at ptr; ptr may be NULL only when len is 0. Not NUL-terminated. */
struct span {
  const char *ptr;
  size_t len;
};

#define SPAN_EMPTY ((struct span){NULL, 0})
/* SPAN_LIT makes a span of a string literal, without its NUL. */
#define SPAN_LIT(s) ((struct span){(s), sizeof(s) - 1})
/* SPAN_FMT and SPAN_ARG print a span with printf's %.*s. */
#define SPAN_FMT "%.*s"
#define SPAN_ARG(s) (int)(s).len, ((s).len ? (s).ptr : "")

static inline struct span span_of(const char *ptr, size_t len) { return (struct span){ptr, len}; }

/* span_str borrows a NUL-terminated string (argv, config and library borders only). */
static inline struct span span_str(const char *s) { return (struct span){s, s ? strlen(s) : 0}; }

static inline bool span_eq(struct span a, struct span b) {
  return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* span_eq_nocase compares ASCII letters without regard to case. */
bool span_eq_nocase(struct span a, struct span b);

/* span_cmp orders by bytes, shorter first on a common prefix; <0, 0, >0. */
int span_cmp(struct span a, struct span b);

static inline bool span_starts(struct span s, struct span prefix) {
  return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.ptr, prefix.ptr, prefix.len) == 0);
}

static inline bool span_ends(struct span s, struct span tail) {
  return s.len >= tail.len &&
         (tail.len == 0 || memcmp(s.ptr + (s.len - tail.len), tail.ptr, tail.len) == 0);
}

/* span_sub is bytes [from, from+len) clipped to s. */
static inline struct span span_sub(struct span s, size_t from, size_t len) {
  if (from > s.len) from = s.len;
  if (len > s.len - from) len = s.len - from;
  return span_of(s.ptr ? s.ptr + from : NULL, len);
}

static inline struct span span_from(struct span s, size_t from) {
  return span_sub(s, from, SIZE_MAX);
}

/* span_find_char is the index of the first c at or after from, or SIZE_MAX. */
size_t span_find_char(struct span s, char c, size_t from);

/* span_trim drops SP and HTAB at both ends. */
struct span span_trim(struct span s);

/* span_u64 parses 1 to 20 decimal digits and nothing else; false on overflow or any other byte,
 * *out untouched. */
MUST_USE bool span_u64(struct span s, uint64_t *out);

/* span_next_token cuts the next element of a list separated by sep off *rest (trimmed, may be
 * empty); false when *rest is used up. */
bool span_next_token(struct span *rest, char sep, struct span *token);

/* ascii_hex is the value of a hexadecimal digit in any case; -1: c is none. */
static inline int ascii_hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}
/* ascii_lower maps A-Z to a-z and leaves the rest. */
static inline char ascii_lower(char c) {
  return (c >= 'A' && c <= 'Z') ? (char)(c | 0x20) : c;
}

#endif
