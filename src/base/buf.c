/* buf.c: numbers, JSON text and formats into a bounded writer (buf) or a growing one (text). All
 * appends are whole or not at all, but for JSON text, which may stop inside when full. */
#include "weir/base/buf.h"

#include <stdarg.h>
#include <stdio.h>

#include "weir/base/mem.h"

void buf_u64(struct buf *b, uint64_t v) {
  char digits[20];
  size_t at = sizeof(digits);
  do {
    digits[--at] = (char)('0' + v % 10);
    v /= 10;
  } while (v != 0);
  buf_put(b, span_of(digits + at, sizeof(digits) - at));
}

void buf_i64(struct buf *b, int64_t v) {
  if (v >= 0) {
    buf_u64(b, (uint64_t)v);
    return;
  }
  if (!b->full && buf_room(b) < 2) b->full = true;
  size_t before = b->len;
  buf_char(b, '-');
  buf_u64(b, 0 - (uint64_t)v);
  if (b->full) b->len = before;
}

void buf_hex(struct buf *b, uint64_t v) {
  char digits[16];
  size_t at = sizeof(digits);
  do {
    digits[--at] = "0123456789abcdef"[v & 15];
    v >>= 4;
  } while (v != 0);
  buf_put(b, span_of(digits + at, sizeof(digits) - at));
}

void buf_printf(struct buf *b, const char *fmt, ...) {
  if (b->full) return;
  va_list args;
  va_start(args, fmt);
  /* vsnprintf wants room for a NUL, which is not ours to keep: one byte of cap stays unused. */
  int len = vsnprintf(b->ptr ? b->ptr + b->len : NULL, buf_room(b), fmt, args);
  va_end(args);
  check(len >= 0);
  if ((size_t)len >= buf_room(b)) {
    b->full = true;
    return;
  }
  b->len += (size_t)len;
}

/* utf8_len is the length of the valid UTF-8 sequence at the start of s, 0 when there is none
 * (RFC 3629 section 4: no overlong forms, surrogates or values above 10ffff). */
static size_t utf8_len(struct span s) {
  const unsigned char *p = (const unsigned char *)s.ptr;
  if (p[0] < 0x80) return 1;
  if (p[0] < 0xc2 || p[0] > 0xf4) return 0;
  size_t len = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
  if (len > s.len) return 0;
  unsigned char low = 0x80, high = 0xbf;
  if (p[0] == 0xe0) low = 0xa0;
  if (p[0] == 0xed) high = 0x9f;
  if (p[0] == 0xf0) low = 0x90;
  if (p[0] == 0xf4) high = 0x8f;
  if (p[1] < low || p[1] > high) return 0;
  for (size_t i = 2; i < len; i++)
    if ((p[i] & 0xc0) != 0x80) return 0;
  return len;
}

/* json_plain is how many bytes at the start of s stand in JSON as they are. */
static size_t json_plain(struct span s) {
  size_t at = 0;
  while (at < s.len) {
    unsigned char c = (unsigned char)s.ptr[at];
    if (c < 0x20 || c == '"' || c == '\\' || c == 0x7f) break;
    size_t len = utf8_len(span_of(s.ptr + at, s.len - at));
    if (len == 0) break;
    at += len;
  }
  return at;
}

/* json_escape writes the escape of one byte that is not plain. */
static struct span json_escape(unsigned char c, char out[6]) {
  switch (c) {
    case '"': return SPAN_LIT("\\\"");
    case '\\': return SPAN_LIT("\\\\");
    case '\n': return SPAN_LIT("\\n");
    case '\r': return SPAN_LIT("\\r");
    case '\t': return SPAN_LIT("\\t");
    default: break;
  }
  if (c >= 0x80) return SPAN_LIT("\\ufffd");
  memcpy(out, "\\u00", 4);
  out[4] = "0123456789abcdef"[c >> 4];
  out[5] = "0123456789abcdef"[c & 15];
  return span_of(out, 6);
}

/* json_next cuts the next piece of JSON text off *rest, which is not empty. */
static struct span json_next(struct span *rest, char scratch[6]) {
  size_t plain = json_plain(*rest);
  struct span piece =
      plain ? span_sub(*rest, 0, plain) : json_escape((unsigned char)rest->ptr[0], scratch);
  *rest = span_from(*rest, plain ? plain : 1);
  return piece;
}

void buf_json(struct buf *b, struct span s) {
  char scratch[6];
  while (s.len > 0 && !b->full) buf_put(b, json_next(&s, scratch));
}

static void text_reserve(struct text *t, size_t more) {
  size_t need;
  check(!__builtin_add_overflow(t->len, more, &need));
  if (need <= t->cap) return;
  size_t cap = t->cap ? t->cap : 256;
  while (cap < need) check(!__builtin_mul_overflow(cap, (size_t)2, &cap));
  t->ptr = mem_grow(t->ptr, cap, 1);
  t->cap = cap;
}

void text_fini(struct text *t) {
  mem_free(t->ptr);
  *t = (struct text){0};
}

void text_put(struct text *t, struct span s) {
  if (s.len == 0) return;
  text_reserve(t, s.len);
  memcpy(t->ptr + t->len, s.ptr, s.len);
  t->len += s.len;
}

void text_printf(struct text *t, const char *fmt, ...) {
  va_list args, again;
  va_start(args, fmt);
  va_copy(again, args);
  int len = vsnprintf(NULL, 0, fmt, args);
  va_end(args);
  check(len >= 0);
  text_reserve(t, (size_t)len + 1);
  check(vsnprintf(t->ptr + t->len, (size_t)len + 1, fmt, again) == len);
  va_end(again);
  t->len += (size_t)len;
}

void text_json(struct text *t, struct span s) {
  char scratch[6];
  while (s.len > 0) text_put(t, json_next(&s, scratch));
}
