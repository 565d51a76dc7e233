/* priority.c: the value of the Priority field, read as a dictionary of structured fields (RFC 8941
 * sections 3 and 4.2; RFC 9218 section 4). Values that mean nothing here are read past by their
 * grammar, loosely inside inner lists and parameters. Called by the h2 connections of proxy/. */
#include "weir/http/priority.h"

enum { URGENCY_MAX = 7 };

/* item is a bare item as far as it matters. */
struct item {
  enum { ITEM_OTHER, ITEM_INTEGER, ITEM_BOOLEAN } type;
  uint64_t value; /* clipped; a negative integer is OTHER: it is out of every range */
};

static bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_alpha(char c) { return is_lower(ascii_lower(c)); }

/* next is the byte at the start of rest, or NUL (which no structured field has) at its end. */
static char next(const struct span *rest) { return rest->len > 0 ? rest->ptr[0] : 0; }

static void skip(struct span *rest, size_t count) { *rest = span_from(*rest, count); }

static bool skip_char(struct span *rest, char c) {
  if (next(rest) != c) return false;
  skip(rest, 1);
  return true;
}

static void skip_blanks(struct span *rest, bool tabs) {
  while (next(rest) == ' ' || (tabs && next(rest) == '\t')) skip(rest, 1);
}

static bool read_key(struct span *rest, struct span *key) {
  struct span from = *rest;
  if (!is_lower(next(rest)) && next(rest) != '*') return false;
  while (is_lower(next(rest)) || is_digit(next(rest)) ||
         (next(rest) && strchr("_-.*", next(rest))))
    skip(rest, 1);
  *key = span_sub(from, 0, from.len - rest->len);
  return true;
}

/* read_number reads an integer of at most 15 digits, or a decimal. */
static bool read_number(struct span *rest, struct item *out) {
  bool negative = skip_char(rest, '-');
  size_t digits = 0, fraction = 0;
  uint64_t value = 0;
  for (; is_digit(next(rest)); skip(rest, 1)) {
    if (++digits > 15) return false;
    value = value * 10 + (uint64_t)(next(rest) - '0');
  }
  if (digits == 0) return false;
  *out = (struct item){.type = negative && value ? ITEM_OTHER : ITEM_INTEGER, .value = value};
  if (!skip_char(rest, '.')) return true;
  for (; is_digit(next(rest)); skip(rest, 1)) fraction++;
  out->type = ITEM_OTHER;
  return digits <= 12 && fraction >= 1 && fraction <= 3;
}

static bool read_string(struct span *rest) {
  for (skip(rest, 1); rest->len > 0; skip(rest, 1)) {
    char c = next(rest);
    if (c == '"') return skip_char(rest, '"');
    if (c < 0x20 || c > 0x7e) return false;
    if (c != '\\') continue;
    skip(rest, 1);
    if (next(rest) != '"' && next(rest) != '\\') return false;
  }
  return false;
}

static bool read_bytes(struct span *rest) {
  for (skip(rest, 1); rest->len > 0; skip(rest, 1)) {
    char c = next(rest);
    if (c == ':') return skip_char(rest, ':');
    if (!is_alpha(c) && !is_digit(c) && c != '+' && c != '/' && c != '=') return false;
  }
  return false;
}

static bool read_token(struct span *rest) {
  static const char marks[] = "!#$%&'*+-.^_`|~:/";
  while (is_alpha(next(rest)) || is_digit(next(rest)) || (next(rest) && strchr(marks, next(rest))))
    skip(rest, 1);
  return true;
}

static bool read_boolean(struct span *rest, struct item *out) {
  skip(rest, 1);
  *out = (struct item){.type = ITEM_BOOLEAN, .value = next(rest) == '1'};
  return skip_char(rest, '0') || skip_char(rest, '1');
}

static bool read_bare(struct span *rest, struct item *out) {
  char c = next(rest);
  *out = (struct item){.type = ITEM_OTHER};
  if (c == '-' || is_digit(c)) return read_number(rest, out);
  if (c == '"') return read_string(rest);
  if (c == ':') return read_bytes(rest);
  if (c == '?') return read_boolean(rest, out);
  return (is_alpha(c) || c == '*') && read_token(rest);
}

static bool read_parameters(struct span *rest) {
  struct item ignored;
  struct span key;
  while (skip_char(rest, ';')) {
    skip_blanks(rest, false);
    if (!read_key(rest, &key)) return false;
    if (skip_char(rest, '=') && !read_bare(rest, &ignored)) return false;
  }
  return true;
}

static bool read_inner_list(struct span *rest, struct item *out) {
  struct item ignored;
  *out = (struct item){.type = ITEM_OTHER};
  skip(rest, 1);
  for (;;) { /* each turn reads an item or returns */
    skip_blanks(rest, false);
    if (skip_char(rest, ')')) return true;
    if (!read_bare(rest, &ignored) || !read_parameters(rest)) return false;
    if (next(rest) != ' ' && next(rest) != ')') return false;
  }
}

/* read_member reads key, value and parameters; a key alone is true. */
static bool read_member(struct span *rest, struct span *key, struct item *value) {
  *value = (struct item){.type = ITEM_BOOLEAN, .value = 1};
  if (!read_key(rest, key)) return false;
  if (skip_char(rest, '=')) {
    bool list = next(rest) == '(';
    if (!(list ? read_inner_list(rest, value) : read_bare(rest, value))) return false;
  }
  return read_parameters(rest);
}

static void take_member(struct span key, struct item value, struct http_priority *out) {
  if (span_eq(key, SPAN_LIT("u")) && value.type == ITEM_INTEGER && value.value <= URGENCY_MAX)
    out->urgency = (uint8_t)value.value;
  if (span_eq(key, SPAN_LIT("i")) && value.type == ITEM_BOOLEAN)
    out->incremental = value.value != 0;
}

bool http_priority_parse(struct span value, struct http_priority *out) {
  struct http_priority made = *out;
  struct span rest = value, key;
  struct item item;
  skip_blanks(&rest, false);
  while (rest.len > 0) { /* each turn reads a key at least */
    if (!read_member(&rest, &key, &item)) return false;
    take_member(key, item, &made);
    skip_blanks(&rest, true);
    if (rest.len == 0) break;
    if (!skip_char(&rest, ',')) return false;
    skip_blanks(&rest, true);
    if (rest.len == 0) return false; /* a comma at the end */
  }
  *out = made;
  return true;
}
