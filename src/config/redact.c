/* redact.c: hides secrets that stand in the file itself from the lines that are shown under
 * faults. A line is shown because something is wrong, so the file is read here by rules of its own
 * that forgive all: which name a string belongs to is enough. Strings of names that hold secrets,
 * and of names that could be such with a slip, are covered. What may still be misread, as behind a
 * quote that is missing, is covered by a look at the line alone. Called by excerpt.c. */
#include "excerpt_priv.h"

#define DEPTH_MAX 16u

/* scan goes through a file. owner is the name that a value would belong to, groups are around. */
struct scan {
  struct span text;
  size_t at;
  struct span name, owner, groups[DEPTH_MAX];
  uint32_t depth;
};

static const struct span secret_names[] = {{"key", 3}, {"keys", 4}, {"cert", 4}, {"ech", 3}};

/* holds_secret: the name is one of a secret, ends like one, or is one letter off. */
static bool holds_secret(struct span name) {
  if (span_eq(name, SPAN_LIT("tls_keys"))) return false; /* where they are written to */
  for (size_t i = 0; i < array_count(secret_names); i++)
    if (span_ends(name, secret_names[i]) || edit_distance(name, secret_names[i]) <= 1) return true;
  return false;
}

static bool is_named(struct span value) {
  return span_starts(value, SPAN_LIT("file:")) || span_starts(value, SPAN_LIT("env:")) ||
         span_starts(value, SPAN_LIT("cred:"));
}

/* in_rate: policies.*.rate.key is what is counted by, no secret. */
static bool in_rate(const struct scan *s) {
  return s->depth > 0 && s->depth <= DEPTH_MAX &&
         span_eq(s->groups[s->depth - 1], SPAN_LIT("rate"));
}

/* ---- reading the file ---- */

/* string_end is the offset of the quote that closes the string which opens at `quote`. */
static size_t string_end(struct span text, size_t quote) {
  for (size_t i = quote + 1; i < text.len; i++) {
    if (text.ptr[i] == '\\') i++;
    else if (text.ptr[i] == '"') return i;
  }
  return text.len;
}

/* past is the offset behind the next `end` from at on. */
static size_t past(struct span text, size_t at, struct span end) {
  while (at < text.len && !span_starts(span_from(text, at), end)) at++;
  return at < text.len ? at + end.len : text.len;
}

static bool is_name(char c) {
  char low = ascii_lower(c);
  return (low >= 'a' && low <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '*';
}

static void group_open(struct scan *s) {
  if (s->depth < DEPTH_MAX) s->groups[s->depth] = s->owner;
  s->depth++;
  s->owner = SPAN_EMPTY;
}

static void mark(struct scan *s, char c) {
  s->at++;
  switch (c) {
    case '=':
    case ':': s->owner = s->name; return;
    case ';': s->owner = SPAN_EMPTY; return;
    case '{': group_open(s); return;
    case '}':
      if (s->depth) s->depth--;
      s->owner = SPAN_EMPTY;
      return;
    default: return;
  }
}

/* next goes on by one token; true when that is a string. */
static bool next(struct scan *s) {
  struct span rest = span_from(s->text, s->at);
  size_t from = s->at;
  if (!rest.len) return false;
  if (rest.ptr[0] == '"') {
    s->at = string_end(s->text, from) + 1;
    return true;
  }
  if (rest.ptr[0] == '#' || span_starts(rest, SPAN_LIT("//"))) {
    s->at = past(s->text, from, SPAN_LIT("\n"));
  } else if (span_starts(rest, SPAN_LIT("/*"))) {
    s->at = past(s->text, from + 2, SPAN_LIT("*/"));
  } else if (is_name(rest.ptr[0])) {
    while (s->at < s->text.len && is_name(s->text.ptr[s->at])) s->at++;
    s->name = span_sub(s->text, from, s->at - from);
  } else {
    mark(s, rest.ptr[0]);
  }
  return false;
}

/* ---- a line by itself ---- */

static bool is_blank(char c) { return c == ' ' || c == '\t'; }

/* name_before: the line has the name of a secret, blanks, = or :, blanks before `quote`. */
static bool name_before(struct span line, size_t quote) {
  size_t i = quote;
  while (i > 0 && is_blank(line.ptr[i - 1])) i--;
  if (i == 0 || (line.ptr[i - 1] != '=' && line.ptr[i - 1] != ':')) return false;
  i--;
  while (i > 0 && is_blank(line.ptr[i - 1])) i--;
  size_t end = i;
  while (i > 0 && is_name(line.ptr[i - 1])) i--;
  return holds_secret(span_sub(line, i, end - i));
}

/* ---- hiding ---- */

/* hide writes stars over what of [from, to) of the file lies in the copy of the line at start. */
static void hide(char *copy, size_t start, size_t end, size_t from, size_t to) {
  if (from < start) from = start;
  if (to > end) to = end;
  if (from < to) memset(copy + (from - start), '*', to - from);
}

/* by_owner covers what belongs to a secret's name; strings of a rate are told in open, by offset.
 */
static void by_owner(struct span text, size_t start, size_t end, char *copy, char *open) {
  struct scan s = {.text = text};
  while (s.at < end) {
    size_t from = s.at;
    if (!next(&s)) continue;
    if (in_rate(&s) && from >= start && from < end) open[from - start] = 1;
    if (in_rate(&s) || !holds_secret(s.owner) || is_named(span_from(text, from + 1))) continue;
    hide(copy, start, end, from + 1, s.at - 1);
  }
}

static void by_line(struct span line, char *copy, const char *open) {
  for (size_t i = 0; i < line.len; i++) {
    if (line.ptr[i] != '"' || open[i] || !name_before(line, i)) continue;
    size_t to = string_end(line, i);
    if (!is_named(span_from(line, i + 1))) hide(copy, 0, line.len, i + 1, to);
    i = to;
  }
}

struct span redact(struct span text, size_t start, size_t end, struct arena *arena) {
  struct span line = span_sub(text, start, end - start);
  char *copy = arena_bytes(arena, line.len + 1), *open = arena_zalloc(arena, line.len + 1);
  check(copy != NULL && open != NULL); /* the faults' arena has no limit */
  if (line.len) memcpy(copy, line.ptr, line.len);
  by_owner(text, start, end, copy, open);
  by_line(line, copy, open);
  return span_of(copy, line.len);
}
