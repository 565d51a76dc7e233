/* fuzz_rate.c: rates and parts of rate keys as written (model/rate.c). The first byte picks which.
 * Checked: what is taken is within its bounds and, written again, is the same text. */
#include "weir/base/buf.h"
#include "weir/model/limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static char period_of(uint64_t ns) {
  if (ns == UINT64_C(1000000000)) return 's';
  check(ns == 60 * UINT64_C(1000000000) || ns == 3600 * UINT64_C(1000000000));
  return ns == 60 * UINT64_C(1000000000) ? 'm' : 'h';
}

static void one_rate(struct span text) {
  uint32_t limit = 0;
  uint64_t period_ns = 0;
  char room[32];
  struct buf again = buf_of(room, sizeof room);
  if (!rate_parse(text, &limit, &period_ns)) {
    check(limit == 0 && period_ns == 0);
    return;
  }
  check(limit > 0 && limit <= GCRA_LIMIT_MAX);
  buf_u64(&again, limit);
  buf_char(&again, '/');
  buf_char(&again, period_of(period_ns));
  check(span_eq(buf_span(&again), text));
  struct gcra g = gcra_of(limit, period_ns, limit);
  check(g.interval_ns * limit >= period_ns && g.burst_ns >= period_ns);
}

static void one_part(struct span text) {
  static const struct span words[] = {
      [RATE_NONE] = {"none", 4},      [RATE_CLIENT_IP] = {"client_ip", 9},
      [RATE_ROUTE] = {"route", 5},    [RATE_HEADER] = {"header:", 7},
      [RATE_COOKIE] = {"cookie:", 7}};
  struct rate_part part = {.source = UINT8_MAX};
  if (!rate_part_parse(text, &part)) {
    check(part.source == UINT8_MAX);
    return;
  }
  check(part.source < array_count(words));
  check(span_starts(text, words[part.source]));
  check(span_eq(span_from(text, words[part.source].len), part.name));
  check(part.name.len == 0 || http_is_token(part.name));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  if (len == 0) return 0;
  struct span text = span_of((const char *)data + 1, len - 1);
  if (data[0] & 1) one_part(text);
  else one_rate(text);
  return 0;
}
