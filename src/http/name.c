/* name.c: field names by number. The hash is perfect over name.def: the slot of each row is
 * written there, so that a clash does not compile. Also the grammar of names and values as
 * predicates. Called by the parsers for each field, and by filters and config. RFC 9110
 * section 5.1. */
#include "weir/http/name.h"

#include "bytes_priv.h"

#define F_HOP HTTP_NAME_HOP
#define F_OWN HTTP_NAME_OWN
#define F_PINNED HTTP_NAME_PINNED
#define F_FORWARDING HTTP_NAME_FORWARDING
#define F_FIXED HTTP_NAME_FIXED
#define F_NO_TRAILER HTTP_NAME_NO_TRAILER

enum { NAME_LEN_MIN = 2, NAME_LEN_MAX = 32 };

/* name_row: text is padded so that it can be read eight bytes at a time. */
struct name_row {
  char text[NAME_LEN_MAX];
  uint8_t len;
  uint8_t flags;
};

static const struct name_row rows[HTTP_NAME_COUNT] = {
#define NAME(id, string, slot, bits) \
  [HTTP_NAME_##id] = {.text = string, .len = sizeof(string) - 1, .flags = (bits)},
#include "weir/http/name.def"
#undef NAME
};
#define NAME(id, string, slot, bits) \
  _Static_assert(sizeof(string) - 1 >= NAME_LEN_MIN && sizeof(string) <= NAME_LEN_MAX, string);
#include "weir/http/name.def"
#undef NAME

static const uint8_t slots[256] = {
#define NAME(id, string, slot, bits) [slot] = HTTP_NAME_##id,
#include "weir/http/name.def"
#undef NAME
};

/* name_slot hashes length and three letters; 0x20 makes letters lower case (and mixes up some
 * others, which the comparison tells apart). */
static unsigned name_slot(struct span name) {
  unsigned first = (unsigned char)name.ptr[0] | 0x20u;
  unsigned middle = (unsigned char)name.ptr[name.len / 2] | 0x20u;
  unsigned last = (unsigned char)name.ptr[name.len - 2] | 0x20u;
  return ((unsigned)name.len * 45 + first * 199 + middle * 63 + last * 229) & 255;
}

static uint64_t load8(const char *p) {
  uint64_t word;
  memcpy(&word, p, sizeof(word));
  return word;
}

/* lower8 makes A-Z of eight bytes lower case and leaves all others. */
static uint64_t lower8(uint64_t word) {
  const uint64_t ones = 0x0101010101010101u;
  uint64_t low7 = word & (ones * 0x7f);
  uint64_t from_a = low7 + ones * (0x80 - 'A');
  uint64_t after_z = low7 + ones * (0x7f - 'Z');
  uint64_t upper = (from_a ^ after_z) & ~word & (ones * 0x80);
  return word | (upper >> 2);
}

/* load_short packs 2 to 7 bytes into a word, each of them at least once. */
static uint64_t load_short(const char *p, size_t len) {
  uint32_t low, high;
  if (len < 4)
    return (unsigned char)p[0] | (unsigned)(unsigned char)p[len / 2] << 8 |
           (unsigned)(unsigned char)p[len - 1] << 16;
  memcpy(&low, p, sizeof(low));
  memcpy(&high, p + len - sizeof(high), sizeof(high));
  return low | (uint64_t)high << 32;
}

/* equals_lower compares name, any case, with len bytes of lower-case text. */
static bool equals_lower(const char *name, const char *text, size_t len) {
  if (len < 8) return lower8(load_short(name, len)) == load_short(text, len);
  for (size_t at = 0; at + 8 <= len; at += 8)
    if (lower8(load8(name + at)) != load8(text + at)) return false;
  return lower8(load8(name + len - 8)) == load8(text + len - 8);
}

enum http_name http_name_find(struct span name) {
  if (name.len < NAME_LEN_MIN || name.len >= NAME_LEN_MAX) return HTTP_NAME_OTHER;
  unsigned id = slots[name_slot(name)];
  const struct name_row *row = &rows[id];
  if (row->len != name.len || !equals_lower(name.ptr, row->text, name.len)) return HTTP_NAME_OTHER;
  return (enum http_name)id;
}

struct span http_name_text(enum http_name id) {
  check((unsigned)id < HTTP_NAME_COUNT);
  return span_of(rows[id].text, rows[id].len);
}

unsigned http_name_flags(enum http_name id) {
  check((unsigned)id < HTTP_NAME_COUNT);
  return rows[id].flags;
}

enum http_name http_name_alias(struct span name) {
  char dashed[NAME_LEN_MAX];
  bool changed = false;
  if (name.len >= sizeof(dashed)) return HTTP_NAME_OTHER;
  for (size_t i = 0; i < name.len; i++) {
    bool underscore = name.ptr[i] == '_';
    dashed[i] = underscore ? '-' : name.ptr[i];
    changed |= underscore;
  }
  return changed ? http_name_find(span_of(dashed, name.len)) : HTTP_NAME_OTHER;
}

bool http_name_shadows(struct span name) {
  unsigned controlled = HTTP_NAME_HOP | HTTP_NAME_OWN | HTTP_NAME_FORWARDING | HTTP_NAME_FIXED;
  return (http_name_flags(http_name_alias(name)) & controlled) != 0;
}

bool http_name_speaks_for(struct span name) {
  const struct span prefix = SPAN_LIT("x-forwarded");
  if (name.len < prefix.len || ascii_lower(name.ptr[0]) != 'x') return false;
  for (size_t i = 1; i < prefix.len; i++) {
    char c = name.ptr[i] == '_' ? '-' : ascii_lower(name.ptr[i]);
    if (c != prefix.ptr[i]) return false;
  }
  return true;
}

bool http_name_keyed(struct span name) {
  unsigned gone = HTTP_NAME_HOP | HTTP_NAME_OWN;
  return http_is_token(name) && !(http_name_flags(http_name_find(name)) & gone);
}

bool http_is_token(struct span s) {
  return s.len > 0 && bytes_end_of(BYTE_TOKEN, s.ptr, 0, s.len) == s.len;
}

bool http_is_value(struct span s) {
  return s.len == 0 || bytes_value_end(s.ptr, 0, s.len) == s.len;
}
