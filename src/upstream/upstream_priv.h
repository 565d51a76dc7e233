/* upstream_priv.h: what the files of upstream/ share: the set that a policy chooses from, and the
 * ways to draw from it. */
#ifndef WEIR_UPSTREAM_PRIV_H
#define WEIR_UPSTREAM_PRIV_H

#include "weir/upstream/upstream.h"

/* uptls.c: TLS under connections. uptls_stack puts it on a new one, if the pool has a policy;
 * false: no memory. uptls_mark: the pool is in the snapshot that is being installed: what was
 * opened under another policy takes no more requests. uptls_drop: the endpoint left. */
MUST_USE bool uptls_stack(struct upstream *u, const struct pool *pool, struct endpoint *e,
                          struct conn *conn, bool h1_only);
/* uptls_first writes what goes before all else on a connection that connects, below TLS too;
 * false: no room. */
MUST_USE bool uptls_first(const struct pool *pool, struct conn *conn, struct span first);
void uptls_mark(struct upstream *u, const struct pool *pool, struct endpoint *e);
void uptls_drop(struct upstream *u, struct endpoint *e);
/* uptls_close closes a connection; an alert still goes out. */
void uptls_close(struct conn *conn);
/* pool.c: upconn_idle_other closes idle connections that are of another policy. upconn_settle
 * makes a connection that is open, counted and pinned one of HTTP/1 that is idle. */
void upconn_idle_other(struct upstream *u, struct endpoint *e, const struct tls_client *policy);
struct upsettle {
  struct conn *conn;
  const struct tls_client *tls;
  uint32_t requests_max, keepalive_ms;
};
MUST_USE bool upconn_settle(struct upstream *u, struct endpoint *e, const struct upsettle *what);
/* upmux.c: streams of HTTP/2 connections. */
void upmux_stream_close(struct upconn *c, bool reset);
/* upmux_retire_all: connections to e take no more streams, and end after those that they have. */
void upmux_retire_all(struct upstream *u, struct endpoint *e);
/* upmux_close_idle closes one that nobody uses; false: there is none. */
bool upmux_close_idle(struct endpoint_row *row);
/* upstream_idle counts connections that nobody uses. capped: the next thing is a look at who
 * waits, who in turn looks for such connections; one of the two has to see the other (permits.c:
 * no wakeup is lost). */
void upstream_idle(struct upstream *u, struct endpoint_row *row, int by, bool capped);
/* upmux_retire_other: those of another policy. */
void upmux_retire_other(struct upstream *u, struct endpoint *e, const struct tls_client *policy);
bool upmux_has_room(const struct endpoint *e, uint32_t worker, const struct tls_client *policy);
/* upmux_conn is the connection itself. */
const struct conn *upmux_conn(const struct upmux *m);

/* upstream_count adds to a counter of this worker; NULL: nobody counts. */
static inline void upstream_count(_Atomic uint64_t *c, int64_t by) {
  if (!c) return;
  uint64_t now = atomic_load_explicit(c, memory_order_relaxed);
  atomic_store_explicit(c, now + (uint64_t)by, memory_order_relaxed);
}

/* pick_need is how fit a member must be. */
enum pick_need {
  PICK_IN_SERVICE,
  PICK_UNKNOWN, /* new: no check has ended yet */
  PICK_EJECTED, /* or ejected; not down */
  PICK_ANY,     /* also down: in a panic */
};

/* pick_from is the set: those members of a tier for which pick_allows holds.
 *
 * With `whole` nothing is looked at but what is drawn: most of a tier is in service, which is how
 * it is almost always, and the choice costs the same for any number of members. Who is drawn and
 * is not allowed, or starts slowly and is not ready for this one, is drawn anew a few times. Then,
 * or where it cannot work so, a policy answers PLACE_NONE and is asked again to look at all.
 *
 * Health, ejections and slow starts are other threads' and may change between any two looks. So
 * nothing that one look over the set found may be relied on by the next: each draw looks once at
 * each member and decides from that; PLACE_NONE when it saw none. */
struct pick_from {
  struct upstream *up;
  const struct pool *pool;
  const struct pool_want *want;
  const struct pool_tier *tier;
  uint32_t first; /* tier that was drawn for the request */
  bool panic;
  bool whole;
  bool untried; /* only those not tried */
  enum pick_need need;
};

static inline bool pick_fit(const struct endpoint *e, enum pick_need need, uint64_t now_ms) {
  if (need == PICK_IN_SERVICE) return endpoint_in_service(e, now_ms);
  uint8_t state = atomic_load_explicit(&e->state, memory_order_relaxed);
  if (need == PICK_UNKNOWN) return state == ENDPOINT_UNKNOWN;
  return need == PICK_ANY || state != ENDPOINT_DOWN;
}

static inline bool pick_allows(const struct pick_from *from, uint32_t place) {
  const struct pool_member *m = &from->pool->members[place];
  const struct pool_tried *tried = from->want->tried;
  if (!m->weight) return false;
  for (uint32_t i = 0; tried && i < tried->count; i++)
    if (tried->place[i] == place && (from->untried || tried->refused >> i & 1)) return false;
  return pick_fit(m->endpoint, from->need, from->want->now_ms);
}
/* pick_weight is what a member weighs, slow start included; in 256ths, so that this has steps. */
#define WEIGHT_BITS 8u
uint64_t pick_weight(const struct pick_from *from, uint32_t place);
/* pick_below draws from [0, n). */
uint64_t pick_below(const struct pick_from *from, uint64_t n);
/* pick_by_weight draws a member by weight, other than `except`; PLACE_NONE: there is none, or of a
 * whole set none was drawn that is allowed. */
uint32_t pick_by_weight(const struct pick_from *from, uint32_t except);
/* pick_two draws two different members by weight (power of two choices, Mitzenmacher 2001); how
 * many there are: 1 when there is no other, 0 when a whole set is none. */
uint32_t pick_two(const struct pick_from *from, uint32_t out[2]);
/* pick_walk goes through a table from slot `at` on, to the first member that may take the request:
 * allowed, within its bound of load, and past its slow start or among the first to come back. */
struct pick_table {
  const void *slots;
  uint32_t count;
  uint32_t (*place)(const void *slots, uint32_t slot); /* within the tier */
};
uint32_t pick_walk(const struct pick_from *from, const struct pick_table *table, uint32_t at);
/* pick_tier draws the tier for a request: sets first and panic. */
void pick_tier(struct pick_from *from);
/* pool_primaries is how many tiers there are before the backups. */
static inline uint32_t pool_primaries(const struct pool *pool) {
  return pool->tier_count - (pool->has_backups ? 1u : 0u);
}

#define BALANCE(id, text, pick, prepare, observe, worth, hashed, doc) \
  uint32_t pick(const struct pick_from *from);
#include "weir/upstream/balance.def"
#undef BALANCE
void peak_ewma_observe(struct upstream *u, struct endpoint *e, const struct pool_sample *sample);
/* pick_gcd is the greatest common divisor; that of 0 and b is b. */
static inline uint64_t pick_gcd(uint64_t a, uint64_t b) {
  while (b) { /* at most 2 log2(b) steps */
    uint64_t rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}
bool peak_ewma_worth(const struct pool *pool, const struct endpoint *chosen,
                     const struct endpoint *e, uint64_t now_ms);
/* pool_load is requests in flight at all endpoints, over all workers (relaxed). */
uint64_t pool_load(const struct pool *pool);
/* Tables: in arena, for members [tier->first, tier->first + tier->count). */
const void *turns_prepare(struct arena *arena, const struct pool_member *members, uint32_t count);
const void *ring_prepare(struct arena *arena, const struct pool_member *members, uint32_t count);
const void *maglev_prepare(struct arena *arena, const struct pool_member *members,
                           uint32_t count);

#endif
