/* span.c: comparisons, searches and small parsers over borrowed bytes. Never allocates, never
 * reads past a span. ASCII only: no locale. Called by every layer. */
#include "weir/base/span.h"

static unsigned char lower(char c) { return (unsigned char)ascii_lower(c); }

bool span_eq_nocase(struct span a, struct span b) {
  if (a.len != b.len) return false;
  for (size_t i = 0; i < a.len; i++)
    if (lower(a.ptr[i]) != lower(b.ptr[i])) return false;
  return true;
}

int span_cmp(struct span a, struct span b) {
  size_t common = a.len < b.len ? a.len : b.len;
  int order = common ? memcmp(a.ptr, b.ptr, common) : 0;
  if (order != 0) return order;
  return (a.len > b.len) - (a.len < b.len);
}

size_t span_find_char(struct span s, char c, size_t from) {
  if (from >= s.len) return SIZE_MAX;
  const char *hit = memchr(s.ptr + from, c, s.len - from);
  return hit ? (size_t)(hit - s.ptr) : SIZE_MAX;
}

static bool is_blank(char c) { return c == ' ' || c == '\t'; }

struct span span_trim(struct span s) {
  while (s.len > 0 && is_blank(s.ptr[0])) s = span_of(s.ptr + 1, s.len - 1);
  while (s.len > 0 && is_blank(s.ptr[s.len - 1])) s.len--;
  return s;
}

bool span_u64(struct span s, uint64_t *out) {
  if (s.len == 0 || s.len > 20) return false;
  uint64_t value = 0;
  for (size_t i = 0; i < s.len; i++) {
    unsigned digit = (unsigned)(unsigned char)s.ptr[i] - '0';
    if (digit > 9) return false;
    if (__builtin_mul_overflow(value, (uint64_t)10, &value)) return false;
    if (__builtin_add_overflow(value, (uint64_t)digit, &value)) return false;
  }
  *out = value;
  return true;
}

bool span_next_token(struct span *rest, char sep, struct span *token) {
  if (rest->len == 0) return false;
  size_t end = span_find_char(*rest, sep, 0);
  *token = span_trim(span_sub(*rest, 0, end));
  *rest = end == SIZE_MAX ? SPAN_EMPTY : span_from(*rest, end + 1);
  return true;
}
