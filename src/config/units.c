/* units.c: times, sizes, percentages and factors as the file writes them, both ways, exactly: what
 * is written reads back to the same number. No fractions but in the last two. Called by values.c.
 */
#include "values_priv.h"

/* unit is one suffix and what it multiplies by. Tables run from the largest down. */
struct unit {
  const char *text;
  uint64_t factor;
};

static const struct unit times[] = {
    {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
static const struct unit sizes[] = {{"PiB", UINT64_C(1) << 50}, {"TiB", UINT64_C(1) << 40},
                                    {"GiB", 1u << 30},          {"MiB", 1u << 20},
                                    {"KiB", 1u << 10},          {"B", 1}};

static size_t digits_len(struct span s) {
  size_t n = 0;
  while (n < s.len && s.ptr[n] >= '0' && s.ptr[n] <= '9') n++;
  return n;
}

/* unit_at finds the unit that s begins with: the letters up to the next digit are all of it. */
static const struct unit *unit_at(const struct unit *units, size_t count, struct span s,
                                  size_t *len) {
  size_t n = 0;
  while (n < s.len && (s.ptr[n] < '0' || s.ptr[n] > '9')) n++;
  for (size_t i = 0; i < count; i++)
    if (span_eq(span_sub(s, 0, n), span_str(units[i].text))) {
      *len = n;
      return &units[i];
    }
  return NULL;
}

/* part_parse cuts "30s" off *rest and adds it to *sum. */
static bool part_parse(const struct unit *units, size_t count, struct span *rest, uint64_t *sum,
                       const struct unit **unit) {
  size_t digits = digits_len(*rest), len = 0;
  uint64_t number = 0;
  if (!digits || !span_u64(span_sub(*rest, 0, digits), &number)) return false;
  *unit = unit_at(units, count, span_from(*rest, digits), &len);
  if (!*unit || __builtin_mul_overflow(number, (*unit)->factor, &number)) return false;
  if (__builtin_add_overflow(*sum, number, sum)) return false;
  *rest = span_from(*rest, digits + len);
  return true;
}

bool duration_parse(struct span text, uint64_t *ms) {
  uint64_t sum = 0, last = UINT64_MAX;
  if (span_eq(text, SPAN_LIT("0"))) {
    *ms = 0;
    return true;
  }
  if (!text.len) return false;
  while (text.len) { /* "1m30s": units go down, so at most five turns */
    const struct unit *unit = NULL;
    if (!part_parse(times, array_count(times), &text, &sum, &unit)) return false;
    if (unit->factor >= last) return false;
    last = unit->factor;
  }
  *ms = sum;
  return true;
}

bool size_parse(struct span text, uint64_t *bytes) {
  uint64_t sum = 0;
  const struct unit *unit = NULL;
  if (span_eq(text, SPAN_LIT("0"))) {
    *bytes = 0;
    return true;
  }
  if (!part_parse(sizes, array_count(sizes), &text, &sum, &unit) || text.len) return false;
  *bytes = sum;
  return true;
}

/* decimal_parse reads "12.5" in units of 1 / 10^places. */
static bool decimal_parse(struct span text, size_t places, uint64_t *out) {
  size_t whole_len = digits_len(text);
  uint64_t whole = 0, fraction = 0, unit = 1;
  for (size_t i = 0; i < places; i++) unit *= 10;
  if (!whole_len || whole_len > 9 || !span_u64(span_sub(text, 0, whole_len), &whole)) return false;
  if (whole_len < text.len) {
    struct span digits = span_from(text, whole_len + 1);
    if (text.ptr[whole_len] != '.' || !digits.len || digits.len > places) return false;
    if (!span_u64(digits, &fraction)) return false;
    for (size_t i = digits.len; i < places; i++) fraction *= 10;
  }
  *out = whole * unit + fraction;
  return true;
}

bool percent_parse(struct span text, uint64_t *ppm) {
  if (!span_ends(text, SPAN_LIT("%"))) return false;
  text.len--;
  return decimal_parse(text, 4, ppm);
}

bool factor_parse(struct span text, uint64_t *permille) {
  return decimal_parse(text, 3, permille);
}

static void unit_write(const struct unit *units, size_t count, uint64_t n, struct text *out) {
  for (size_t i = 0; i < count; i++)
    if (n % units[i].factor == 0 && n >= units[i].factor) {
      text_printf(out, "%llu%s", (unsigned long long)(n / units[i].factor), units[i].text);
      return;
    }
}

void duration_write(uint64_t ms, struct text *out) {
  if (ms == 0)
    text_lit(out, "0s");
  else if (ms == 60000 || ms == 90000) /* "60s" is how people say it */
    text_printf(out, "%llus", (unsigned long long)(ms / 1000));
  else
    unit_write(times, array_count(times), ms, out);
}

void size_write(uint64_t bytes, struct text *out) {
  if (bytes == 0)
    text_lit(out, "0");
  else
    unit_write(sizes, array_count(sizes), bytes, out);
}

/* fraction_write appends "." and the digits of fraction without zeros at their end. */
static void fraction_write(uint64_t fraction, int places, struct text *out) {
  char digits[24];
  if (!fraction) return;
  struct buf b = buf_of(digits, sizeof digits);
  buf_printf(&b, "%0*llu", places, (unsigned long long)fraction);
  struct span shown = buf_span(&b);
  while (shown.ptr[shown.len - 1] == '0') shown.len--;
  text_printf(out, "." SPAN_FMT, SPAN_ARG(shown));
}

void percent_write(uint64_t ppm, struct text *out) {
  text_printf(out, "%llu", (unsigned long long)(ppm / 10000));
  fraction_write(ppm % 10000, 4, out);
  text_lit(out, "%");
}

void factor_write(uint64_t permille, struct text *out) {
  text_printf(out, "%llu", (unsigned long long)(permille / 1000));
  fraction_write(permille % 1000, 3, out);
}

int word_find(const char *words, struct span word) {
  struct span rest = span_str(words), token;
  int index = 0;
  while (span_next_token(&rest, ' ', &token)) {
    if (!token.len) continue;
    if (span_eq(token, word)) return index;
    index++;
  }
  return -1;
}

struct span word_at(const char *words, uint32_t index) {
  struct span rest = span_str(words), token;
  while (span_next_token(&rest, ' ', &token))
    if (token.len && index-- == 0) return token;
  check(false); /* an index that word_find did not give */
  return SPAN_EMPTY;
}
