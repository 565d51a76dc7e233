/* limit.c: what a route's policies refuse by who asks and how often, before a request costs more
 * than its head: client networks first, then rates. A request must pass all policies of its route;
 * where one refuses, none that enforces its rate counts it. Called by route.c. Keys and tables are
 * model/rate.c and base/gcra.c. */
#include "proxy_priv.h"

#define SECOND_NS UINT64_C(1000000000)

/* ---- rates ---- */

/* asked is one rate that was asked about a request. */
struct asked {
  const struct policy *policy;
  uint64_t key;
  struct gcra_answer answer;
};

static struct rate_row *row_of(const struct stream *s, const struct policy_rate *rate) {
  return &rate->state->rows[s->w->config.index];
}

static uint64_t key_of(const struct stream *s, const struct policy_rate *rate) {
  const struct rate_subject who = {.request = &s->x->req,
                                   .client = &s->x->ctx.client_addr,
                                   .route = s->route->obj.name};
  return rate_key(rate, &who);
}

/* note remembers which rate is in the way; of several that for which there is longest to wait, but
 * none that only watches while there is one that refuses. */
static void note(struct stream *s, const struct asked *a) {
  const struct policy_rate *rate = &a->policy->rate;
  const struct limited *noted = &s->x->limited;
  bool refuses = !rate->dry_run, refused = noted->status != 0;
  bool longer = a->answer.wait_ns > noted->wait_ns;
  if (noted->by.len && (refuses == refused ? !longer : refused)) return;
  s->x->limited = (struct limited){.by = a->policy->obj.name,
                                   .status = refuses ? rate->status : 0,
                                   .wait_ns = a->answer.wait_ns};
}

/* count takes from a rate: false: it refuses. */
static bool count(struct stream *s, struct asked *a) {
  const struct policy_rate *rate = &a->policy->rate;
  struct rate_row *row = row_of(s, rate);
  gcra_take(&rate->state->tally, &rate->gcra, a->key, now_ns(s->w), &a->answer);
  if (a->answer.shared) stat_add(&row->shared, 1);
  if (a->answer.granted) {
    stat_add(&row->passed, 1);
    return true;
  }
  stat_add(rate->dry_run ? &row->observed : &row->refused, 1);
  note(s, a);
  return rate->dry_run;
}

/* would tells whether a rate would refuse now; it costs nothing. */
static bool would(struct stream *s, struct asked *a) {
  const struct policy_rate *rate = &a->policy->rate;
  gcra_peek(&rate->state->tally, &rate->gcra, a->key, now_ns(s->w), &a->answer);
  if (a->answer.granted || rate->dry_run) return false;
  stat_add(&row_of(s, rate)->refused, 1);
  note(s, a);
  return true;
}

/* ---- what the client is told (draft-ietf-httpapi-ratelimit-headers-11) ---- */

/* TOLD_ROOM is an item beside its policy's name: quotes, ";r=", ";t=", numbers, ", ". */
#define TOLD_ROOM 48u

static uint64_t seconds_up(uint64_t ns) {
  uint64_t s = (ns + SECOND_NS - 1) / SECOND_NS;
  return s ? s : 1;
}

/* put_item: r is what is granted now, t the seconds for which that must last at the rate. */
static void put_item(struct buf *b, const struct asked *a) {
  const struct gcra_answer *answer = &a->answer;
  uint64_t lasts = a->policy->rate.gcra.interval_ns * answer->left;
  if (b->len) buf_lit(b, ", ");
  buf_char(b, '"');
  buf_put(b, a->policy->obj.name);
  buf_lit(b, "\";r=");
  buf_u64(b, answer->left);
  buf_lit(b, ";t=");
  buf_u64(b, seconds_up(answer->left ? lasts : answer->wait_ns));
}

static void put_policy(struct buf *b, const struct asked *a) {
  if (b->len) buf_lit(b, ", ");
  buf_put(b, a->policy->rate.told);
}

/* tell makes both fields for the response; without room in the arena there are none. */
static void tell(struct stream *s, const struct asked *asked, uint32_t asked_count) {
  size_t items = 0, policies = 0;
  for (uint32_t i = 0; i < asked_count; i++) {
    if (!asked[i].policy->rate.headers) continue;
    items += asked[i].policy->obj.name.len + TOLD_ROOM;
    policies += asked[i].policy->rate.told.len + 2;
  }
  char *bytes = items ? arena_bytes(&s->arena, items + policies) : NULL;
  if (!bytes) return;
  struct buf now = buf_of(bytes, items), rules = buf_of(bytes + items, policies);
  for (uint32_t i = 0; i < asked_count; i++) {
    if (!asked[i].policy->rate.headers) continue;
    put_item(&now, &asked[i]);
    put_policy(&rules, &asked[i]);
  }
  check(!now.full && !rules.full);
  s->x->ctx.rate = buf_span(&now);
  s->x->ctx.rate_policy = buf_span(&rules);
}

/* ---- all rates of a route ---- */

/* RATES_MAX: check_limits.c refuses routes with more. */
static uint32_t gather(const struct stream *s, struct asked asked[RATES_MAX]) {
  uint32_t found = 0;
  for (uint32_t i = 0; i < s->route->policy_count; i++) {
    const struct policy *policy = s->route->policies[i];
    if (!policy->rate.state) continue;
    check(found < RATES_MAX);
    asked[found++] = (struct asked){.policy = policy, .key = key_of(s, &policy->rate)};
  }
  return found;
}

/* refused: with several rates all are asked before one counts, so that what one refuses is not
 * taken from another. Between asking and counting another worker may be faster: then it is. */
static bool refused(struct stream *s, struct asked *asked, uint32_t asked_count) {
  bool any = false;
  for (uint32_t i = 0; asked_count > 1 && i < asked_count; i++) any |= would(s, &asked[i]);
  if (any) return true;
  for (uint32_t i = 0; i < asked_count; i++)
    if (!count(s, &asked[i])) return true;
  return false;
}

enum end limit_request(struct stream *s) {
  struct asked asked[RATES_MAX];
  const struct route *r = s->route;
  if (!r->limited) return END_OK;
  if (!policies_allow(r->policies, r->policy_count, &s->x->ctx.client_addr))
    return END_DENIED_CLIENT;
  uint32_t asked_count = gather(s, asked);
  bool over = refused(s, asked, asked_count);
  tell(s, asked, asked_count);
  return over ? END_LIMIT_RATE : END_OK;
}

uint64_t limit_retry_after(const struct stream *s) {
  return s->end == END_LIMIT_RATE ? seconds_up(s->x->limited.wait_ns) : 0;
}
