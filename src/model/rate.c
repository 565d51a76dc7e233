/* rate.c: rates as written, the keys of who asks, and the tables that rates are kept in. Counts
 * nothing itself (base/gcra.c does) and decides nothing (proxy/limit.c). Called by config/ and
 * proxy/. */
#include "object_priv.h"
#include "weir/base/hash.h"
#include "weir/base/mem.h"
#include "weir/http/pairs.h"
#include "weir/model/limits.h"

#define SECOND_NS UINT64_C(1000000000)

/* ---- as written ---- */

static const struct {
  struct span text;
  enum rate_source source;
  bool named;
} forms[] = {
    {SPAN_LIT("client_ip"), RATE_CLIENT_IP, false}, {SPAN_LIT("route"), RATE_ROUTE, false},
    {SPAN_LIT("none"), RATE_NONE, false},           {SPAN_LIT("header:"), RATE_HEADER, true},
    {SPAN_LIT("cookie:"), RATE_COOKIE, true},
};

static bool name_fits(enum rate_source source, struct span name) {
  return source == RATE_HEADER ? http_name_keyed(name) : http_is_token(name);
}

bool rate_part_parse(struct span text, struct rate_part *out) {
  for (size_t i = 0; i < array_count(forms); i++) {
    if (!span_starts(text, forms[i].text)) continue;
    struct span name = span_from(text, forms[i].text.len);
    if (forms[i].named ? !name_fits(forms[i].source, name) : name.len > 0) continue;
    *out = (struct rate_part){.source = (uint8_t)forms[i].source, .name = name};
    return true;
  }
  return false;
}

static const struct {
  struct span text;
  uint64_t seconds;
} periods[] = {{SPAN_LIT("s"), 1}, {SPAN_LIT("m"), 60}, {SPAN_LIT("h"), 3600}};

bool rate_parse(struct span text, uint32_t *limit, uint64_t *period_ns) {
  uint64_t number = 0;
  size_t slash = span_find_char(text, '/', 0);
  if (slash == SIZE_MAX || !span_u64(span_sub(text, 0, slash), &number)) return false;
  if (number < 1 || number > GCRA_LIMIT_MAX || text.ptr[0] == '0') return false;
  for (size_t i = 0; i < array_count(periods); i++) {
    if (!span_eq(span_from(text, slash + 1), periods[i].text)) continue;
    *limit = (uint32_t)number;
    *period_ns = periods[i].seconds * SECOND_NS;
    return true;
  }
  return false;
}

/* ---- keys ---- */

/* ABSENT stands for what a request lacks: no hash of a text is more likely to be it than any. */
#define ABSENT UINT64_C(0x6c61636b73206974)

static uint64_t hash_or_absent(struct span value) {
  return value.len ? hash_keyed(value) : ABSENT;
}

static struct span header_value(const struct http_fields *fields, struct span name) {
  for (uint32_t i = 0; i < fields->count; i++) {
    const struct http_field *row = &fields->rows[i];
    if (http_field_passed_on(row) && span_eq_nocase(row->name, name)) return row->value;
  }
  return SPAN_EMPTY;
}

static struct span cookie_value(const struct http_fields *fields, struct span name) {
  struct http_cookies at = {0};
  struct span value;
  return http_cookie_next(&at, fields, name, &value) ? value : SPAN_EMPTY;
}

bool client_key(const struct addr *peer, uint8_t prefix4, uint8_t prefix6, uint64_t *out) {
  struct addr_net net;
  if (!addr_prefix(peer, prefix4, prefix6, &net)) return false;
  *out = hash_keyed(span_of((const char *)&net, sizeof net));
  return true;
}

static uint64_t part_key(const struct policy_rate *rate, const struct rate_part *part,
                         const struct rate_subject *who) {
  const struct http_fields *fields = who->request ? &who->request->fields : NULL;
  uint64_t key = ABSENT;
  check(fields || (part->source != RATE_HEADER && part->source != RATE_COOKIE));
  switch ((enum rate_source)part->source) {
    case RATE_NONE: break;
    case RATE_CLIENT_IP:
      if (!client_key(who->client, rate->prefix4, rate->prefix6, &key)) key = ABSENT;
      break;
    case RATE_ROUTE: /* a listener may have the name of a route */
      key = hash_or_absent(who->route);
      return fields ? key : ~key;
    case RATE_HEADER: return hash_or_absent(header_value(fields, part->name));
    case RATE_COOKIE: return hash_or_absent(cookie_value(fields, part->name));
  }
  return key;
}

uint64_t rate_key(const struct policy_rate *rate, const struct rate_subject *who) {
  uint64_t keys[RATE_PARTS_MAX];
  check(rate->part_count <= RATE_PARTS_MAX);
  for (uint32_t i = 0; i < rate->part_count; i++)
    keys[i] = part_key(rate, &rate->parts[i], who);
  return hash_keyed(span_of((const char *)keys, rate->part_count * sizeof *keys));
}

/* ---- state ---- */

uint64_t rate_identity(const struct policy_rate *rate, uint32_t entries) {
  uint64_t hash = hash_mix(rate->gcra.interval_ns, rate->gcra.burst_ns);
  hash = hash_mix(hash, entries);
  hash = hash_mix(hash, (uint64_t)rate->prefix4 << 8 | rate->prefix6);
  for (uint32_t i = 0; i < rate->part_count; i++) {
    hash = hash_mix(hash, rate->parts[i].source);
    hash = hash_mix(hash, hash_bytes(rate->parts[i].name));
  }
  return hash;
}

struct rate_want {
  uint64_t identity;
  uint32_t entries;
};

static bool rate_same(const struct object *o, const void *key) {
  const struct rate_want *want = key;
  return ((const struct rate_state *)o)->identity == want->identity;
}

static void rate_fini(struct object *o) {
  struct rate_state *state = (struct rate_state *)o;
  tally_fini(&state->tally);
  mem_free(state->rows);
}

static void rate_init(struct object *o, const void *key) {
  const struct rate_want *want = key;
  struct rate_state *state = (struct rate_state *)o;
  state->identity = want->identity;
  state->entries = want->entries;
  state->rows = mem_alloc_aligned(64, (size_t)o->workers * sizeof *state->rows);
  o->fini = rate_fini;
}

struct rate_state *rate_state_get(struct registry *r, struct span name, uint64_t identity,
                                  uint32_t entries) {
  struct rate_want want = {.identity = identity, .entries = entries};
  return (struct rate_state *)object_get(
      r, &(struct object_identity){.kind = OBJECT_RATE_STATE,
                                   .size = sizeof(struct rate_state),
                                   .name = name,
                                   .same = rate_same,
                                   .init = rate_init,
                                   .key = &want});
}

bool rate_state_count(struct rate_state *state) {
  return state->tally.sets || tally_init(&state->tally, state->entries);
}
