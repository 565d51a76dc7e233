/* path.c: the canonical path of path.h. A path without escapes, empty segments and dot segments
 * is looked through once and borrowed; any other is written segment by segment into memory of the
 * same length, where a ".." takes back what the segment before it wrote. Called by proxy/ before
 * routing and by config/ for the paths of routes. RFC 3986 sections 5.2.4, 6.2.2; RFC 3629. */
#include "weir/http/path.h"

#include "bytes_priv.h"
#include "weir/base/buf.h"

static bool fail(enum end *why, enum end cause) {
  *why = cause;
  return false;
}

/* ---- one look ---- */

/* dots_len is the length of "." or ".." at the start of s, 0 when there is none. */
static size_t dots_len(struct span s) {
  size_t dots = 0;
  while (dots < s.len && dots < 3 && s.ptr[dots] == '.') dots++;
  return dots < 3 ? dots : 0;
}

/* is_dots: "." or ".." up to the end of a segment, or up to its parameters. */
static bool is_dots(struct span segment) {
  size_t dots = dots_len(segment);
  return dots && (dots == segment.len || segment.ptr[dots] == '/' || segment.ptr[dots] == ';');
}

/* is_plain: nothing in it wants a second look. */
static bool is_plain(struct span path) {
  size_t at = 0;
  while ((at = bytes_end_of(BYTE_PATH, path.ptr, at, path.len)) < path.len) {
    if (path.ptr[at] != '/') return false;
    at++;
    char next = at < path.len ? path.ptr[at] : 'a';
    if (next == '/' || (next == '.' && is_dots(span_from(path, at)))) return false;
  }
  return true;
}

/* ---- escapes ---- */

/* utf8_state checks a sequence of escaped bytes; {0} is between two characters. */
struct utf8_state {
  uint8_t need;      /* continuation bytes that must follow */
  uint8_t low, high; /* bounds of the next one */
};

/* utf8_start takes the first byte of a character (RFC 3629 section 4); false: it is none. */
static bool utf8_start(struct utf8_state *s, unsigned byte) {
  s->low = 0x80;
  s->high = 0xbf;
  if (byte >= 0xc2 && byte <= 0xdf) s->need = 1;
  else if (byte >= 0xe0 && byte <= 0xef) s->need = 2;
  else if (byte >= 0xf0 && byte <= 0xf4) s->need = 3;
  else return false;
  if (byte == 0xe0) s->low = 0xa0;
  if (byte == 0xed) s->high = 0x9f; /* no surrogates */
  if (byte == 0xf0) s->low = 0x90;
  if (byte == 0xf4) s->high = 0x8f; /* up to U+10FFFF */
  return true;
}

/* utf8_byte takes one more byte, below 0x80 for a plain one; false: this is no UTF-8. */
static bool utf8_byte(struct utf8_state *s, unsigned byte) {
  if (!s->need) return byte < 0x80 || utf8_start(s, byte);
  if (byte < s->low || byte > s->high) return false;
  s->need--;
  s->low = 0x80;
  s->high = 0xbf;
  return true;
}

static bool is_unreserved(unsigned c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
         c == '.' || c == '_' || c == '~';
}

static void put_escape(struct buf *b, unsigned byte) {
  static const char digits[] = "0123456789ABCDEF";
  buf_char(b, '%');
  buf_char(b, digits[byte >> 4]);
  buf_char(b, digits[byte & 15]);
}

/* ---- segments ---- */

struct writer {
  const struct path_policy *policy;
  struct buf out;
  struct utf8_state utf8;
  enum end *why;
};

/* put_escaped writes the byte of an escape in its canonical form. */
static bool put_escaped(struct writer *w, unsigned byte) {
  if (byte < 0x20 || byte == 0x7f) return fail(w->why, END_BAD_REQUEST_PATH_ESCAPE);
  bool slash = byte == '/' || byte == '\\';
  if (slash && w->policy->encoded_slash == PATH_ENCODED_REFUSE)
    return fail(w->why, END_BAD_REQUEST_PATH_ENCODED_SLASH);
  if (is_unreserved(byte)) buf_char(&w->out, (char)byte);
  else put_escape(&w->out, byte);
  return true;
}

/* put_byte writes what stands at *at of a segment and moves on. */
static bool put_byte(struct writer *w, struct span segment, size_t *at) {
  char c = segment.ptr[*at];
  unsigned byte = (unsigned char)c;
  bool escape = c == '%';
  if (escape) {
    bool two = segment.len - *at >= 3;
    if (!two || !(byte_class(segment.ptr[*at + 1]) & byte_class(segment.ptr[*at + 2]) & BYTE_HEX))
      return fail(w->why, END_BAD_REQUEST_PATH_ESCAPE);
    byte = (unsigned)(ascii_hex(segment.ptr[*at + 1]) * 16 + ascii_hex(segment.ptr[*at + 2]));
  } else if (!(byte_class(c) & BYTE_PATH)) {
    return fail(w->why, END_BAD_REQUEST_PATH);
  }
  if (w->policy->utf8 == PATH_UTF8_VALID && !utf8_byte(&w->utf8, byte))
    return fail(w->why, END_BAD_REQUEST_PATH_UTF8);
  *at += escape ? 3 : 1;
  if (escape) return put_escaped(w, byte);
  buf_char(&w->out, c);
  return true;
}

static bool put_segment(struct writer *w, struct span segment) {
  w->utf8.need = 0;
  for (size_t at = 0; at < segment.len;) /* put_byte moves on or refuses */
    if (!put_byte(w, segment, &at)) return false;
  return !w->utf8.need || fail(w->why, END_BAD_REQUEST_PATH_UTF8);
}

/* piece_end: here a backend may see a segment end: at an encoded slash or an encoded ";". */
static size_t piece_end(struct span s, size_t at) {
  for (; at < s.len; at++) {
    if (s.ptr[at] == ';') return at;
    struct span three = span_sub(s, at, 3);
    if (span_eq(three, SPAN_LIT("%2F")) || span_eq(three, SPAN_LIT("%5C")) ||
        span_eq(three, SPAN_LIT("%3B")))
      return at;
  }
  return s.len;
}

/* hides_dots: "." or ".." is a piece of this canonical segment, but not the whole of it. After a
 * ";" come parameters, up to the next encoded slash. */
static bool hides_dots(struct span s) {
  bool name = true;
  for (size_t from = 0; from <= s.len;) {
    size_t end = piece_end(s, from), dots = dots_len(span_from(s, from));
    bool whole = from == 0 && end == s.len;
    if (name && dots && dots == end - from && !whole) return true;
    if (end == s.len) return false;
    name = s.ptr[end] == '%' && s.ptr[end + 1] != '3';
    from = end + (s.ptr[end] == '%' ? 3 : 1);
  }
  return false;
}

/* take_back removes the last segment that was written, with its slash. */
static bool take_back(struct writer *w) {
  struct buf *b = &w->out;
  if (b->len == 0) return fail(w->why, END_BAD_REQUEST_PATH_DOTS);
  while (b->ptr[b->len - 1] != '/') b->len--;
  b->len--;
  return true;
}

/* settle looks at the segment that was written from `from` (its slash) on: empty ones and dots. */
static bool settle(struct writer *w, size_t from, bool last) {
  struct buf *b = &w->out;
  struct span segment = span_from(buf_span(b), from + 1);
  if (segment.len == 0 && !last) {
    if (w->policy->slashes == PATH_SLASHES_REFUSE)
      return fail(w->why, END_BAD_REQUEST_PATH_SLASHES);
    if (w->policy->slashes == PATH_SLASHES_MERGE) b->len = from;
    return true;
  }
  if (hides_dots(segment)) return fail(w->why, END_BAD_REQUEST_PATH_DOTS);
  size_t dots = dots_len(segment);
  if (!dots || dots != segment.len) return true;
  if (w->policy->dot_segments == PATH_DOTS_REFUSE) return fail(w->why, END_BAD_REQUEST_PATH_DOTS);
  b->len = from;
  if (dots == 2 && !take_back(w)) return false;
  if (last) buf_char(b, '/');
  return true;
}

/* write_path writes path, which begins with "/". */
static bool write_path(struct writer *w, struct span path) {
  for (size_t at = 0; at < path.len;) { /* each turn takes a slash and a segment */
    size_t end = span_find_char(path, '/', at + 1), from = w->out.len;
    bool last = end == SIZE_MAX;
    buf_char(&w->out, '/');
    if (!put_segment(w, span_sub(path, at + 1, (last ? path.len : end) - at - 1))) return false;
    if (!settle(w, from, last)) return false;
    at = last ? path.len : end;
  }
  return true;
}

bool path_canonical(struct span path, const struct path_policy *policy, struct arena *arena,
                    struct span *out, enum end *why) {
  if (path.len == 0 || path.ptr[0] != '/') return fail(why, END_BAD_REQUEST_PATH);
  if (is_plain(path)) {
    *out = path;
    return true;
  }
  char *bytes = arena_bytes(arena, path.len);
  if (bytes == NULL) return fail(why, END_LIMIT_STREAM_MEMORY);
  struct writer w = {.policy = policy, .out = buf_of(bytes, path.len), .why = why};
  if (!write_path(&w, path)) return false;
  check(!w.out.full && w.out.len > 0);
  arena_shrink(arena, bytes, path.len, w.out.len);
  *out = buf_span(&w.out);
  return true;
}
