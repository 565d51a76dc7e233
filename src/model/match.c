/* match.c: the conditions of match.h against one request. Reads what the parser understood and
 * copies nothing but a decoded query value for a regex, into the thread's own room. Called by
 * route_table.c and route_linear.c, which do the ordering. RFC 9110 section 5, RFC 6265. */
#include "weir/model/match.h"

#include "weir/http/pairs.h"

/* ---- one value ---- */

static enum match_answer answer(bool yes) { return yes ? MATCH_YES : MATCH_NO; }

static enum match_answer regex_answer(const struct match_value *v, struct span value,
                                      const struct match_input *in) {
  check(v->regex && in->scratch);
  switch (regex_match(v->regex, value, in->scratch)) {
    case REGEX_YES: return MATCH_YES;
    case REGEX_NO: return MATCH_NO;
    case REGEX_LIMIT: break;
  }
  return MATCH_LIMIT;
}

/* value_fits: does one plain value fit? An occurrence is all that present and absent ask for. */
static enum match_answer value_fits(const struct match_value *v, struct span value,
                                    const struct match_input *in) {
  switch ((enum match_kind)v->kind) {
    case MATCH_EXACT: return answer(span_eq(value, v->text));
    case MATCH_PREFIX: return answer(span_starts(value, v->text));
    case MATCH_REGEX: return regex_answer(v, value, in);
    case MATCH_PRESENT:
    case MATCH_ABSENT: break;
  }
  return MATCH_YES;
}

/* ---- header fields ---- */

/* alias: a backend that reads `_` as `-` takes this row for the field of that name. */
static bool alias(struct span name, struct span of) {
  if (name.len != of.len) return false;
  for (size_t i = 0; i < name.len; i++) {
    char c = name.ptr[i] == '_' ? '-' : ascii_lower(name.ptr[i]);
    if (c != (of.ptr[i] == '_' ? '-' : ascii_lower(of.ptr[i]))) return false;
  }
  return true;
}

/* named: what must be absent must not be there under another spelling either. */
static bool named(const struct http_field *row, const struct match_value *v) {
  if (v->kind == MATCH_ABSENT && alias(row->name, v->name)) return true;
  if (v->id != HTTP_NAME_OTHER) return row->id == v->id;
  return row->id == HTTP_NAME_OTHER && span_eq_nocase(row->name, v->name);
}

static enum match_answer header_fits(const struct match_value *v, const struct match_input *in) {
  if (v->id == HTTP_NAME_UPGRADE)
    return in->upgrade.len ? value_fits(v, in->upgrade, in) : MATCH_NO;
  if (!in->fields) return MATCH_NO;
  if (v->id != HTTP_NAME_OTHER && v->kind != MATCH_ABSENT &&
      !http_fields_has(in->fields, (enum http_name)v->id))
    return MATCH_NO;
  for (uint32_t i = 0; i < in->fields->count; i++) {
    const struct http_field *row = &in->fields->rows[i];
    if (!named(row, v) || !http_field_passed_on(row)) continue;
    enum match_answer a = value_fits(v, row->value, in);
    if (a != MATCH_NO) return a;
  }
  return MATCH_NO;
}

/* ---- query parameters ---- */

static enum match_answer decoded_regex(const struct match_value *v, struct span raw,
                                       const struct match_input *in) {
  bool plain = span_find_char(raw, '%', 0) == SIZE_MAX && span_find_char(raw, '+', 0) == SIZE_MAX;
  if (plain) return regex_answer(v, raw, in);
  check(in->scratch);
  char *room = regex_room(in->scratch);
  size_t len = 0;
  while (raw.len && len < REGEX_ROOM) room[len++] = http_form_byte(&raw);
  return raw.len ? MATCH_LIMIT : regex_answer(v, span_of(room, len), in);
}

static enum match_answer parameter_fits(const struct match_value *v, struct span raw,
                                        const struct match_input *in) {
  switch ((enum match_kind)v->kind) {
    case MATCH_EXACT: return answer(http_form_starts(raw, v->text, true));
    case MATCH_PREFIX: return answer(http_form_starts(raw, v->text, false));
    case MATCH_REGEX: return decoded_regex(v, raw, in);
    case MATCH_PRESENT:
    case MATCH_ABSENT: break;
  }
  return MATCH_YES;
}

static enum match_answer query_fits(const struct match_value *v, const struct match_input *in) {
  struct span rest = in->query, value;
  while (http_query_next(&rest, v->name, &value)) {
    enum match_answer a = parameter_fits(v, value, in);
    if (a != MATCH_NO) return a;
  }
  return MATCH_NO;
}

/* ---- cookies ---- */

static enum match_answer cookie_fits(const struct match_value *v, const struct match_input *in) {
  struct http_cookies at = {0};
  struct span value;
  while (in->fields && http_cookie_next(&at, in->fields, v->name, &value)) {
    enum match_answer a = value_fits(v, value, in);
    if (a != MATCH_NO) return a;
  }
  return MATCH_NO;
}

/* ---- all ---- */

static enum match_answer value_holds(enum match_part part, const struct match_value *v,
                                     const struct match_input *in) {
  enum match_answer a = part == MATCH_HEADER  ? header_fits(v, in)
                        : part == MATCH_QUERY ? query_fits(v, in)
                                              : cookie_fits(v, in);
  if (v->kind == MATCH_ABSENT) return answer(a == MATCH_NO);
  return a;
}

enum match_answer match_rules_hold(const struct match_rules *rules, const struct match_input *in,
                                   struct match_lost *lost) {
  for (unsigned part = 0; part < MATCH_PART_COUNT; part++)
    for (uint32_t i = 0; i < rules->counts[part]; i++) {
      const struct match_value *v = &rules->values[part][i];
      enum match_answer a = value_holds((enum match_part)part, v, in);
      if (a == MATCH_YES) continue;
      if (lost) *lost = (struct match_lost){(enum match_part)part, v};
      return a;
    }
  return MATCH_YES;
}

/* ---- the client's certificate ---- */

static bool san_fits(struct span want, struct span has) {
  if (span_starts(want, SPAN_LIT("dns:*."))) {
    struct span below = span_from(want, sizeof "dns:*" - 1);
    return span_starts(has, SPAN_LIT("dns:")) && span_ends(has, below) &&
           has.len > below.len + sizeof "dns:" - 1;
  }
  if (want.ptr[want.len - 1] == '*') return span_starts(has, span_sub(want, 0, want.len - 1));
  return span_eq(want, has);
}

static bool sans_hold(const struct match_cert_rule *rule, const struct match_cert *cert) {
  for (uint32_t i = 0; i < rule->san_count; i++)
    for (uint32_t k = 0; k < cert->san_count; k++)
      if (san_fits(rule->sans[i], cert->sans[k])) return true;
  return rule->san_count == 0;
}

static bool digests_hold(const uint8_t (*want)[MATCH_DIGEST_BYTES], uint32_t count,
                         const uint8_t *has) {
  for (uint32_t i = 0; i < count; i++)
    if (memcmp(want[i], has, MATCH_DIGEST_BYTES) == 0) return true;
  return count == 0;
}

bool match_cert_holds(const struct match_cert_rule *rule, const struct match_cert *cert) {
  if (!rule) return true;
  if (rule->absent || !cert) return rule->absent && !cert;
  return sans_hold(rule, cert) &&
         digests_hold(rule->fingerprints, rule->fingerprint_count, cert->fingerprint) &&
         digests_hold(rule->keys, rule->key_count, cert->key);
}

uint32_t match_source_rank(const struct match_rules *rules, const struct addr *client) {
  if (!rules->source_count) return 0;
  uint32_t best = MATCH_SOURCE_NONE;
  for (uint32_t i = 0; client && i < rules->source_count; i++) {
    uint32_t rank = 1 + (uint32_t)rules->sources[i].bits;
    if (best != MATCH_SOURCE_NONE && rank <= best) continue;
    if (addr_net_has(&rules->sources[i], client)) best = rank;
  }
  return best;
}
