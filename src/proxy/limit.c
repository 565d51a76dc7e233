/* limit.c: what policies refuse by who asks and how often. Those of a route, before a request
 * costs more than its head: client networks first, then rates. Those of a listener, when gate.c
 * has let a connection or a session of UDP in, or for each question in one: rates. All must be
 * passed; where one refuses, none that enforces its rate counts it. Called by route.c, gate.c and
 * front_udp.c. Keys and tables are model/rate.c and base/gcra.c. */
#include "proxy_priv.h"

#define SECOND_NS UINT64_C(1000000000)

/* ---- rates ---- */

/* asked is one rate that was asked. */
struct asked {
  const struct policy *policy;
  uint64_t key;
  struct gcra_answer answer;
};

/* asking is about one request, connection or session: its rates, and the one that is in the way.
 * check_limits.c refuses more of them. */
struct asking {
  struct worker *w;
  struct limited *noted;
  uint32_t count;
  struct asked rates[RATES_MAX];
};

static struct rate_row *row_of(const struct asking *a, const struct policy_rate *rate) {
  return &rate->state->rows[a->w->config.index];
}

/* note remembers which rate is in the way; of several that for which there is longest to wait, but
 * none that only watches while there is one that refuses. */
static void note(struct asking *a, const struct asked *r) {
  const struct policy_rate *rate = &r->policy->rate;
  bool refuses = !rate->dry_run, refused = a->noted->status != 0;
  bool longer = r->answer.wait_ns > a->noted->wait_ns;
  if (a->noted->rate && (refuses == refused ? !longer : refused)) return;
  *a->noted = (struct limited){.rate = rate->state,
                               .status = refuses ? rate->status : 0,
                               .wait_ns = r->answer.wait_ns};
}

/* count takes from a rate: false: it refuses. */
static bool count(struct asking *a, struct asked *r) {
  const struct policy_rate *rate = &r->policy->rate;
  struct rate_row *row = row_of(a, rate);
  gcra_take(&rate->state->tally, &rate->gcra, r->key, now_ns(a->w), &r->answer);
  if (r->answer.shared) stat_add(&row->shared, 1);
  if (r->answer.granted) {
    stat_add(&row->passed, 1);
    return true;
  }
  stat_add(rate->dry_run ? &row->observed : &row->refused, 1);
  note(a, r);
  return rate->dry_run;
}

/* would tells whether a rate would refuse now; it costs nothing. */
static bool would(struct asking *a, struct asked *r) {
  const struct policy_rate *rate = &r->policy->rate;
  gcra_peek(&rate->state->tally, &rate->gcra, r->key, now_ns(a->w), &r->answer);
  if (r->answer.granted || rate->dry_run) return false;
  stat_add(&row_of(a, rate)->refused, 1);
  note(a, r);
  return true;
}

static void gather(struct asking *a, struct policy *const *policies, uint32_t policy_count,
                   const struct rate_subject *who) {
  a->count = 0;
  for (uint32_t i = 0; i < policy_count; i++) {
    const struct policy *policy = policies[i];
    if (!policy->rate.state) continue;
    check(a->count < RATES_MAX);
    a->rates[a->count++] =
        (struct asked){.policy = policy, .key = rate_key(&policy->rate, who)};
  }
}

/* refused: with several rates all are asked before one counts, so that what one refuses is not
 * taken from another. Between asking and counting another worker may be faster: then it is. */
static bool refused(struct asking *a) {
  bool any = false;
  for (uint32_t i = 0; a->count > 1 && i < a->count; i++) any |= would(a, &a->rates[i]);
  if (any) return true;
  for (uint32_t i = 0; i < a->count; i++)
    if (!count(a, &a->rates[i])) return true;
  return false;
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

/* ---- who asks ---- */

enum end limit_request(struct stream *s) {
  struct asking a;
  const struct route *r = s->route;
  if (!r->limited) return END_OK;
  if (!policies_allow(r->policies, r->policy_count, &s->x->ctx.client_addr))
    return END_DENIED_CLIENT;
  const struct rate_subject who = {.request = &s->x->req,
                                   .client = &s->x->ctx.client_addr,
                                   .route = r->obj.name};
  a.w = s->w;
  a.noted = &s->x->limited;
  gather(&a, r->policies, r->policy_count, &who);
  bool over = refused(&a);
  tell(s, a.rates, a.count);
  return over ? END_LIMIT_RATE : END_OK;
}

enum end limit_connection(struct serving *sv, const struct addr *client,
                          struct limited *limited) {
  struct asking a;
  const struct listener *l = sv->current->listener;
  if (!l->policy_count) return END_OK;
  const struct rate_subject who = {.client = client, .route = l->obj.name};
  a.w = sv->w;
  a.noted = limited;
  gather(&a, l->policies, l->policy_count, &who);
  return refused(&a) ? END_LIMIT_RATE : END_OK;
}

uint64_t limit_retry_after(const struct stream *s) {
  return s->end == END_LIMIT_RATE ? seconds_up(s->x->limited.wait_ns) : 0;
}
