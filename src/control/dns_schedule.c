/* dns_schedule.c: when a name is asked for again, under which names, and what of a result is news.
 * Neither sockets nor clock: time and dice are arguments. Called by resolver_round.c and dns.c. */
#include "control/dns_schedule_priv.h"
#include "weir/base/buf.h"
#include "weir/base/hash.h"

static const struct {
  const char *label, *sentence;
} results[RESOLVE_COUNT] = {
#define RESOLVE(id, label, sentence) [RESOLVE_##id] = {label, sentence},
#include "control/resolve.def"
#undef RESOLVE
};

const char *resolve_label(enum resolve_result result) { return results[result].label; }
const char *resolve_sentence(enum resolve_result result) { return results[result].sentence; }

const char *resolve_family(bool v6) { return v6 ? "IPv6 (AAAA)" : "IPv4 (A)"; }

/* jittered is ms, by at most jitter_percent longer or shorter, at least 1. */
static uint64_t jittered(uint64_t ms, const struct name_query *q, uint64_t *rng) {
  uint64_t most = ms * q->jitter_percent / 100;
  uint64_t by = most ? rng_next(rng) % (2 * most + 1) : 0;
  uint64_t out = ms - most + by;
  return out ? out : 1;
}

/* pause_ms doubles with every failure in a row. */
static uint64_t pause_ms(const struct name_query *q, uint32_t failures) {
  uint64_t pause = q->retry_ms;
  for (uint32_t i = 1; i < failures && pause < q->max_retry_ms; i++) {
    pause *= 2;
  }
  return pause < q->max_retry_ms ? pause : q->max_retry_ms;
}

static uint32_t bounded_ttl(const struct name_query *q, uint32_t ttl_s) {
  uint64_t ms = ttl_s > INT32_MAX ? 0 : (uint64_t)ttl_s * 1000; /* RFC 2181 section 8 */
  ms = ms > q->max_ttl_ms ? q->max_ttl_ms : ms;
  return ms < q->min_ttl_ms ? q->min_ttl_ms : (uint32_t)ms;
}

enum name_change name_good(struct name_state *s, const struct name_query *q, uint32_t ttl_s,
                           enum resolve_result half, const struct name_now *now) {
  bool failed = s->failing != RESOLVE_OK;
  uint8_t was_half = s->half;
  s->answered = s->good = true;
  s->failing = RESOLVE_OK;
  s->failures = half ? s->failures + 1 : 0;
  s->half = (uint8_t)half;
  s->half_ms = was_half ? s->half_ms : now->ms;
  s->ttl_ms = bounded_ttl(q, ttl_s);
  s->answer_ms = now->ms;
  uint64_t wait = s->ttl_ms;
  if (half) {
    uint64_t pause = pause_ms(q, s->failures);
    wait = pause < wait ? pause : wait;
  }
  s->next_ms = now->ms + jittered(wait, q, now->rng);
  if (half) {
    return half != was_half ? NAME_HALF : NAME_SAME;
  }
  return failed ? NAME_RECOVERS : was_half ? NAME_WHOLE : NAME_SAME;
}

enum name_change name_bad(struct name_state *s, const struct name_query *q,
                          enum resolve_result result, const struct name_now *now) {
  check(result != RESOLVE_OK);
  bool news = s->failing != result;
  if (s->failing == RESOLVE_OK) {
    s->failing_ms = now->ms;
  }
  s->answered = true;
  s->half = RESOLVE_OK;
  s->failing = (uint8_t)result;
  s->failures++;
  s->next_ms = now->ms + jittered(pause_ms(q, s->failures), q, now->rng);
  return news ? NAME_FAILS : NAME_SAME;
}

/* ---- the search list ---- */

static uint32_t dots(struct span name) {
  uint32_t count = 0;
  for (size_t at = 0; (at = span_find_char(name, '.', at)) != SIZE_MAX; at++) {
    count++;
  }
  return count;
}

bool dns_search_name(const struct dns_search *s, struct span name, uint32_t i,
                     char out[DNS_NAME_SIZE]) {
  bool absolute = span_ends(name, SPAN_LIT("."));
  struct span bare = span_sub(name, 0, name.len - (absolute ? 1 : 0));
  uint32_t domains = absolute ? 0 : s->count;
  bool bare_first = dots(bare) >= s->ndots;
  struct buf b = buf_of(out, DNS_NAME_SIZE - 1);
  if (i > domains) {
    return false;
  }
  buf_put(&b, bare);
  if (i != (bare_first ? 0 : domains)) {
    buf_char(&b, '.');
    buf_put(&b, span_str(s->domains[i - (bare_first ? 1 : 0)]));
  }
  out[b.full ? 0 : b.len] = 0;
  return true;
}
