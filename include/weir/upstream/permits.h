/* permits.h: what a pool's caps allow, exactly over all workers, and who comes next when they
 * allow no more. A permit is one compare-and-swap; only pools with caps pay for it.
 *
 * Who waits draws a claim: its priority and its turn. Turns go round over the routes of a pool
 * (start-time fair queueing, Goyal, Vin, Cheng 1996, with equal weights): a route's next turn is
 * one after its last, but never before the one that was served last, so that a route that was
 * quiet comes next and one that floods waits behind its own. Within a route claims are in order of
 * age. Each worker publishes the best claim of its streams; the best of all is served first,
 * wherever a permit frees.
 *
 * No wakeup is lost: who waits publishes its claim and then tries once more; who gives a permit
 * back does so and then looks who waits (both sequentially consistent); and who stops being the
 * best for any reason looks who is it now. */
#ifndef WEIR_UPSTREAM_PERMITS_H
#define WEIR_UPSTREAM_PERMITS_H

#include "weir/model/model.h"

struct upstream;

/* Which request permits an attempt holds. */
enum request_permit { PERMIT_POOL = 1, PERMIT_ENDPOINT = 2 };

/* request_permits_take takes those that the pool's caps ask for; *held says which. False: none is
 * free, none was taken. */
MUST_USE bool request_permits_take(struct upstream *u, const struct pool *pool,
                                   struct endpoint *e, uint8_t *held);
void request_permits_give(struct upstream *u, struct pool_state *state, struct endpoint *e,
                          uint8_t held);
/* conn_permits_take takes one for a connection to e: every connection holds one of its endpoint
 * and one of its pool. */
MUST_USE bool conn_permits_take(struct upstream *u, const struct pool *pool, struct endpoint *e);
void conn_permits_give(struct upstream *u, struct endpoint *e);
/* conn_permits_out: no further connection to e is allowed now; request_permits_out: no further
 * request. endpoint_full: by e's own caps a request of this worker would have to wait for it. */
bool conn_permits_out(const struct pool *pool, const struct endpoint *e);
bool request_permits_out(const struct pool *pool, const struct endpoint *e);
bool endpoint_full(const struct pool *pool, const struct endpoint *e, uint32_t worker);

/* A claim: 0 is none. */
typedef uint64_t claim;

/* claim_draw gives a route's next turn at a priority (0 to 7). most bounds how far it may lie
 * behind the turn that was served last: the length of the queue. */
claim claim_draw(struct pool_state *state, uint32_t route_id, uint8_t priority, uint32_t most);
/* claim_peek is what claim_draw would give; nothing is drawn. */
claim claim_peek(const struct pool_state *state, uint32_t route_id, uint8_t priority,
                 uint32_t most);
/* claim_before: a comes before b. */
bool claim_before(claim a, claim b);
/* claim_done: c was served, or its time was over, as was that of all older ones. */
void claim_done(struct pool_state *state, claim c);
/* claim_publish makes c the best of this worker's streams, for all to see. */
void claim_publish(struct pool_state *state, uint32_t worker, claim c);
/* claim_best is the worker whose claim is the best of all; its own index where it is no worse than
 * the others. False: nobody waits. */
bool claim_best(const struct pool_state *state, uint32_t *worker);

/* pool_worth: while the chosen member has no permit left, m may stand for it: the policy does not
 * know that waiting for the chosen would be far quicker. */
bool pool_worth(const struct pool *pool, const struct pool_member *chosen,
                const struct pool_member *m, uint64_t now_ms);

#endif
