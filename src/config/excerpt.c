/* excerpt.c: turns a place into the line that is shown, safe for any terminal: no control bytes,
 * no broken UTF-8, of bounded length. Also columns and short names of places. Called by faults.c.
 * */
#include "excerpt_priv.h"

/* Bytes shown before and after the place's first byte. */
#define WINDOW_BEFORE 100u
#define WINDOW_AFTER 100u
#define TAB_WIDTH 4u
#define CUT "..."

static bool is_continuation(char c) { return ((unsigned char)c & 0xc0) == 0x80; }

static size_t line_start(struct span text, size_t offset) {
  return span_last(span_sub(text, 0, offset), '\n') + 1; /* none: SIZE_MAX + 1 is 0 */
}

static size_t line_end(struct span text, size_t offset) {
  size_t end = span_find_char(text, '\n', offset);
  if (end == SIZE_MAX) end = text.len;
  if (end > offset && text.ptr[end - 1] == '\r') end--;
  return end;
}

uint32_t place_column(const struct place *at) {
  struct span text = at->src->text;
  uint32_t column = 1;
  for (size_t i = line_start(text, at->offset); i < at->offset && i < text.len; i++)
    if (!is_continuation(text.ptr[i])) column++;
  return column;
}

void place_short(const struct place *at, struct buf *out) {
  struct span path = at->src->path;
  path = span_from(path, span_last(path, '/') + 1);
  buf_printf(out, SPAN_FMT ":%u", SPAN_ARG(path), at->line);
}

/* sequence_len is the length of the valid UTF-8 sequence at i, or 0. Overlong forms, surrogates
 * and what is beyond U+10FFFF are not valid (RFC 3629 section 4). */
static size_t sequence_len(struct span s, size_t i) {
  unsigned char c = (unsigned char)s.ptr[i];
  size_t len = c < 0x80                ? 1
               : c >= 0xc2 && c < 0xe0 ? 2
               : c >= 0xe0 && c < 0xf0 ? 3
               : c >= 0xf0 && c < 0xf5 ? 4
                                       : 0;
  if (len == 0 || len > s.len - i) return 0;
  for (size_t k = 1; k < len; k++)
    if (!is_continuation(s.ptr[i + k])) return 0;
  unsigned char d = len > 1 ? (unsigned char)s.ptr[i + 1] : 0;
  if ((c == 0xe0 && d < 0xa0) || (c == 0xed && d > 0x9f)) return 0;
  if ((c == 0xf0 && d < 0x90) || (c == 0xf4 && d > 0x8f)) return 0;
  if (c == 0xc2 && d < 0xa0) return 0; /* C1 controls */
  return len;
}

/* put_shown appends what stands for the character at i; returns its bytes, adds to *width. */
static size_t put_shown(struct buf *out, struct span s, size_t i, uint32_t *width) {
  if (s.ptr[i] == '\t') {
    for (unsigned k = 0; k < TAB_WIDTH; k++) buf_char(out, ' ');
    *width += TAB_WIDTH;
    return 1;
  }
  size_t len = sequence_len(s, i);
  bool shown = len > 1 || (len == 1 && (unsigned char)s.ptr[i] >= 0x20 && s.ptr[i] != 0x7f);
  if (shown)
    buf_put(out, span_sub(s, i, len));
  else
    buf_char(out, '?');
  *width += 1;
  return shown ? len : 1;
}

void text_shown(struct text *out, struct span s) {
  for (size_t i = 0; i < s.len;) {
    char shown[8];
    struct buf b = buf_of(shown, sizeof shown);
    uint32_t width = 0;
    i += put_shown(&b, s, i, &width);
    text_put(out, buf_span(&b));
  }
}

void excerpt_make(struct excerpt *out, const struct place *at, struct arena *arena) {
  struct span text = at->src->text;
  size_t offset = at->offset < text.len ? at->offset : text.len;
  size_t start = line_start(text, offset), end = line_end(text, offset);
  if (offset > end) offset = end; /* at the CR of a CRLF */
  text = redact(text, start, end, arena);
  offset -= start;
  end -= start;
  start = 0;
  size_t from = offset - start > WINDOW_BEFORE ? offset - WINDOW_BEFORE : start;
  size_t to = end - offset > WINDOW_AFTER ? offset + WINDOW_AFTER : end;
  while (from > start && from < offset && is_continuation(text.ptr[from])) from++;
  while (to < end && to > offset && is_continuation(text.ptr[to])) to--;
  char shown[(WINDOW_BEFORE + WINDOW_AFTER) * TAB_WIDTH + 2 * sizeof CUT];
  struct buf b = buf_of(shown, sizeof shown);
  struct span line = span_sub(text, 0, to);
  uint32_t width = 0, caret_end = 0, caret_at = 0;
  if (from > start) {
    buf_lit(&b, CUT);
    width = sizeof CUT - 1;
  }
  bool found = false;
  for (size_t i = from; i < to;) {
    if (i >= offset && !found) {
      found = true;
      caret_at = width;
    }
    size_t len = put_shown(&b, line, i, &width);
    if (i >= offset && i < offset + at->len) caret_end = width;
    i += len;
  }
  if (!found) caret_at = width;
  if (to < end) buf_lit(&b, CUT);
  out->line = arena_copy(arena, buf_span(&b), NULL);
  out->caret_at = caret_at;
  out->caret_len = caret_end > caret_at ? caret_end - caret_at : 1;
}
