/* lex.c: tokens of libconfig's grammar with their places; the authority on what is wrong with a
 * text. Stricter than libconfig where that loses meaning silently: line breaks and NUL in strings,
 * unknown escapes, leading zeros, numbers that wrap, fractions. It builds nothing (parse.c). */
#include "lex_priv.h"
#include "values_priv.h"

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_alpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
static bool is_name(char c) {
  return is_alpha(c) || is_digit(c) || c == '_' || c == '-' || c == '*';
}
static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

struct span token_text(const struct token *token) {
  return span_sub(token->at.src->text, token->at.offset, token->at.len);
}

/* byte is the byte at an offset; NUL behind the end. */
static char byte(const struct lexer *lex, size_t at) {
  return at < lex->src->text.len ? lex->src->text.ptr[at] : '\0';
}

static bool ended(const struct lexer *lex) { return lex->offset >= lex->src->text.len; }

static struct place here(const struct lexer *lex, size_t len) {
  return (struct place){lex->src, lex->offset, (uint32_t)len, lex->line};
}

static bool comment_starts(const struct lexer *lex, size_t at) {
  char c = byte(lex, at), next = byte(lex, at + 1);
  return c == '#' || (c == '/' && (next == '/' || next == '*'));
}

/* ---- between tokens ---- */

static void skip_line(struct lexer *lex) {
  size_t end = span_find_char(lex->src->text, '\n', lex->offset);
  lex->offset = (uint32_t)(end == SIZE_MAX ? lex->src->text.len : end);
}

/* count_line is called at a line break. */
static void count_line(struct lexer *lex) {
  lex->line++;
  lex->line_at = lex->offset + 1;
}

static void skip_block(struct lexer *lex) {
  struct place start = here(lex, 2);
  for (lex->offset += 2; !ended(lex); lex->offset++) {
    if (byte(lex, lex->offset) == '\n') count_line(lex);
    if (byte(lex, lex->offset) == '*' && byte(lex, lex->offset + 1) == '/') {
      lex->offset += 2;
      return;
    }
  }
  fault_add(lex->faults, FAULT_COMMENT_OPEN, start, "this comment is never closed");
  fault_note(lex->faults, "*/ is missing");
}

/* A comment with a NUL would hide the rest of the file from libconfig. */
static void skip_comment(struct lexer *lex) {
  struct place start = here(lex, 1);
  if (byte(lex, lex->offset) == '/' && byte(lex, lex->offset + 1) == '*')
    skip_block(lex);
  else
    skip_line(lex);
  size_t nul = span_find_char(span_sub(lex->src->text, 0, lex->offset), '\0', start.offset);
  if (nul == SIZE_MAX) return;
  for (size_t i = start.offset; i < nul; i++)
    if (byte(lex, i) == '\n') start.line++;
  start.offset = (uint32_t)nul;
  fault_add(lex->faults, FAULT_NUL, start, "a NUL byte stands in a comment");
}

static void skip_blanks(struct lexer *lex) {
  while (!ended(lex)) {
    char c = byte(lex, lex->offset);
    if (is_blank(c)) {
      if (c == '\n') count_line(lex);
      lex->offset++;
    } else if (comment_starts(lex, lex->offset)) {
      skip_comment(lex);
    } else {
      return;
    }
  }
}

/* ---- strings ---- */

static int hex_digit(char c) {
  if (is_digit(c)) return c - '0';
  c = ascii_lower(c);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static struct place inside(const struct lexer *lex, size_t at, size_t len) {
  return (struct place){lex->src, (uint32_t)at, (uint32_t)len, lex->line};
}

/* escape resolves the one at the backslash at `at`; returns its bytes, 0 when it was refused. */
static size_t escape(const struct lexer *lex, size_t at, char *out) {
  char c = byte(lex, at + 1);
  static const char from[] = "\\\"nrtf", to[] = "\\\"\n\r\t\f";
  const char *known = c ? strchr(from, c) : NULL;
  if (known) {
    *out = to[known - from];
    return 2;
  }
  int high = hex_digit(byte(lex, at + 2)), low = hex_digit(byte(lex, at + 3));
  bool hex = (c == 'x' || c == 'X') && high >= 0 && low >= 0;
  if (hex && (high | low)) {
    *out = (char)(high * 16 + low);
    return 4;
  }
  if (hex) {
    fault_add(lex->faults, FAULT_NUL, inside(lex, at, 4), "a string cannot hold a NUL");
    return 0;
  }
  size_t len = (unsigned char)c > 0x20 && (unsigned char)c < 0x7f ? 2 : 1;
  fault_add(lex->faults, FAULT_ESCAPE, inside(lex, at, len), "unknown escape in a string");
  fault_note(lex->faults, "known: \\\\ \\\" \\n \\r \\t \\f \\xHH");
  return 0;
}

/* string_end is the offset of the closing quote, or of the line's end. */
static size_t string_end(const struct lexer *lex) {
  size_t at = lex->offset + 1;
  for (; at < lex->src->text.len; at++) {
    char c = byte(lex, at);
    if (c == '"' || c == '\n') return at;
    if (c == '\\' && byte(lex, at + 1) != '\n') at++;
  }
  return lex->src->text.len;
}

static void lex_string(struct lexer *lex, struct token *out) {
  size_t end = string_end(lex), len = 0;
  bool closed = byte(lex, end) == '"';
  out->kind = TOKEN_STRING;
  out->at = here(lex, end - lex->offset + (closed ? 1 : 0));
  char *bytes = arena_bytes(lex->arena, end - lex->offset);
  check(bytes != NULL);
  if (!closed) {
    out->bad = true;
    fault_add(lex->faults, FAULT_STRING_OPEN, here(lex, 1), "this string is not closed");
    fault_note(lex->faults, "\" is missing on this line");
  }
  for (size_t at = lex->offset + 1; at < end;) {
    char c = byte(lex, at);
    size_t used = 1;
    if (c == '\\') {
      used = closed ? escape(lex, at, &c) : 1;
      if (!used) out->bad = true;
    } else if (c == '\0') {
      out->bad = true;
      fault_add(lex->faults, FAULT_NUL, inside(lex, at, 1), "a string cannot hold a NUL");
    }
    bytes[len++] = c;
    at += used ? used : 2;
  }
  out->string = span_of(bytes, len);
  lex->offset = (uint32_t)(end + (closed ? 1 : 0));
}

/* ---- numbers ---- */

/* number_end takes all that looks like one value, so that `10s` and `10.0.0.0/8` are one fault. */
static size_t number_end(const struct lexer *lex) {
  size_t at = lex->offset;
  for (; at < lex->src->text.len && !comment_starts(lex, at); at++) {
    char c = byte(lex, at);
    if (!is_name(c) && (c == '\0' || !strchr(".+%:/", c))) break;
  }
  return at;
}

/* digits_value adds up digits of a base up to INT64_MAX (+1 for negatives); false on overflow. */
static bool digits_value(struct span digits, uint64_t base, uint64_t *out) {
  uint64_t value = 0;
  for (size_t i = 0; i < digits.len; i++) {
    uint64_t digit = (uint64_t)hex_digit(digits.ptr[i]);
    if (__builtin_mul_overflow(value, base, &value)) return false;
    if (__builtin_add_overflow(value, digit, &value)) return false;
  }
  *out = value;
  return true;
}

/* number is a literal taken apart. */
struct number {
  struct span digits;
  uint64_t base;
  bool negative, is_long;
};

/* number_split tells whether text is a whole number as libconfig knows them, no leading zeros. */
static bool number_split(struct span text, struct number *out) {
  struct number n = {.base = 10};
  bool sign = text.len && (text.ptr[0] == '-' || text.ptr[0] == '+');
  n.negative = sign && text.ptr[0] == '-';
  if (sign) text = span_from(text, 1);
  for (unsigned i = 0; i < 2 && span_ends(text, SPAN_LIT("L")); i++) {
    n.is_long = true;
    text.len--;
  }
  if (!sign && (span_starts(text, SPAN_LIT("0x")) || span_starts(text, SPAN_LIT("0X")))) {
    n.base = 16;
    text = span_from(text, 2);
  }
  if (!text.len || (n.base == 10 && text.len > 1 && text.ptr[0] == '0')) return false;
  for (size_t i = 0; i < text.len; i++) {
    int digit = hex_digit(text.ptr[i]);
    if (digit < 0 || (uint64_t)digit >= n.base) return false;
  }
  n.digits = text;
  *out = n;
  return true;
}

static void number_value(struct lexer *lex, const struct number *n, struct token *out) {
  uint64_t value = 0, max = n->is_long ? INT64_MAX : INT32_MAX;
  out->is_long = n->is_long;
  if (!digits_value(n->digits, n->base, &value) || value > max + (n->negative ? 1 : 0)) {
    out->bad = true;
    fault_add(lex->faults, FAULT_NUMBER_RANGE, out->at, "the number " SPAN_FMT " does not fit",
              SPAN_ARG(token_text(out)));
    fault_note(lex->faults, n->is_long ? "64 bits is the most" : "32 bits is the most");
    return;
  }
  out->integer = n->negative ? (int64_t)(0 - value) : (int64_t)value;
}

static void lex_number(struct lexer *lex, struct token *out) {
  out->kind = TOKEN_INT;
  out->at = here(lex, number_end(lex) - lex->offset);
  lex->offset += out->at.len;
  struct number n;
  if (number_split(token_text(out), &n)) {
    number_value(lex, &n, out);
    return;
  }
  out->bad = true;
  struct span text = token_text(out);
  fault_add(lex->faults, FAULT_NUMBER, out->at, SPAN_FMT " is no whole number", SPAN_ARG(text));
  if (text.len > 1 && text.ptr[0] == '0' && is_digit(text.ptr[1]))
    fault_note(lex->faults, "no leading zeros");
  else
    value_note(lex->key, text, lex->faults);
}

/* ---- the rest ---- */

static void lex_name(struct lexer *lex, struct token *out) {
  size_t end = lex->offset;
  while (is_name(byte(lex, end))) end++;
  out->kind = TOKEN_NAME;
  out->at = here(lex, end - lex->offset);
  lex->offset = (uint32_t)end;
  struct span text = token_text(out);
  out->boolean = span_eq_nocase(text, SPAN_LIT("true"));
  if (out->boolean || span_eq_nocase(text, SPAN_LIT("false"))) out->kind = TOKEN_BOOL;
}

static enum token_kind punctuation(char c) {
  switch (c) {
    case '=':
    case ':': return TOKEN_ASSIGN;
    case ';': return TOKEN_SEMICOLON;
    case ',': return TOKEN_COMMA;
    case '{': return TOKEN_OPEN_GROUP;
    case '}': return TOKEN_CLOSE_GROUP;
    case '[': return TOKEN_OPEN_ARRAY;
    case ']': return TOKEN_CLOSE_ARRAY;
    case '(': return TOKEN_OPEN_LIST;
    case ')': return TOKEN_CLOSE_LIST;
    default: return TOKEN_BAD;
  }
}

static bool is_garbage(const struct lexer *lex, size_t at) {
  char c = byte(lex, at);
  return at < lex->src->text.len && c != '\0' && !is_blank(c) && !is_name(c) && c != '"' &&
         c != '@' && c != '+' && c != '.' && !comment_starts(lex, at) &&
         punctuation(c) == TOKEN_BAD;
}

static void lex_at(struct lexer *lex, struct token *out) {
  if (!span_starts(span_from(lex->src->text, lex->offset), SPAN_LIT("@include"))) {
    out->at = here(lex, 1);
    lex->offset++;
    fault_add(lex->faults, FAULT_GARBAGE, out->at, "`@` means nothing here");
    return;
  }
  out->at = here(lex, sizeof "@include" - 1);
  skip_line(lex);
  fault_add(lex->faults, FAULT_AT_INCLUDE, out->at, "@include is not used in this file");
  fault_note(lex->faults, "write include = [ \"weir.d/*.conf\" ];");
}

static void lex_garbage(struct lexer *lex, struct token *out) {
  static const struct span bom = SPAN_LIT("\xef\xbb\xbf");
  char c = byte(lex, lex->offset);
  size_t end = lex->offset + 1;
  if (c == '\0') {
    while (end < lex->src->text.len && byte(lex, end) == '\0') end++;
    out->at = here(lex, end - lex->offset);
    fault_add(lex->faults, FAULT_NUL, out->at, "a NUL byte stands in the file");
  } else if (lex->offset == 0 && span_starts(lex->src->text, bom)) {
    end = bom.len;
    out->at = here(lex, end);
    fault_add(lex->faults, FAULT_BOM, out->at, "the file begins with a byte order mark");
    fault_note(lex->faults, "save it as UTF-8 without BOM");
  } else {
    size_t quote = c == '\'' ? span_find_char(lex->src->text, '\'', end) : SIZE_MAX;
    bool quoted = quote < span_find_char(lex->src->text, '\n', end);
    while (!quoted && is_garbage(lex, end)) end++;
    if (quoted) end = quote + 1;
    out->at = here(lex, end - lex->offset);
    fault_add(lex->faults, FAULT_GARBAGE, out->at, "this means nothing here");
    if (c == '\'') fault_note(lex->faults, "strings stand in double quotes");
  }
  lex->offset = (uint32_t)end;
}

void lex_next(struct lexer *lex, struct token *out) {
  skip_blanks(lex);
  *out = (struct token){.kind = TOKEN_BAD, .at = here(lex, 1)};
  if (ended(lex)) {
    out->kind = TOKEN_END;
    return;
  }
  char c = byte(lex, lex->offset);
  if (c == '"') {
    lex_string(lex, out);
  } else if (is_digit(c) || c == '-' || c == '+' || c == '.') {
    lex_number(lex, out);
  } else if (is_name(c)) {
    lex_name(lex, out);
  } else if (c == '@') {
    lex_at(lex, out);
  } else if (punctuation(c) != TOKEN_BAD) {
    out->kind = punctuation(c);
    lex->offset++;
  } else {
    lex_garbage(lex, out);
  }
}
