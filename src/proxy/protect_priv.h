/* protect_priv.h: who and what is let in: networks, rates and connections of clients, circuit
 * breakers and limits of pools, and what a worker refuses when it has too much to do. */
#ifndef WEIR_PROXY_PROTECT_PRIV_H
#define WEIR_PROXY_PROTECT_PRIV_H

#include "proxy/attempt_priv.h"
#include "proxy/exchange_priv.h"
#include "weir/base/end.h"

struct down;
struct serving;
struct worker;

/* ---- limit.c ---- */
/* limit_request is OK, or why a policy of the route refuses the request. */
MUST_USE enum end limit_request(struct stream *s);
/* limit_connection is OK, or why rates of the listener's policies refuse a new connection of
 * client's (of UDP a session, or a question); *limited (zero before) is the rate that does, or
 * would. */
MUST_USE enum end limit_connection(struct serving *sv, const struct addr *client,
                                   struct limited *limited);
/* limit_retry_after is what a refusal has for Retry-After, in seconds; 0: nothing. */
uint64_t limit_retry_after(const struct stream *s);
/* ---- gate.c ---- */
/* guest is what the gate found of who came in: where it was counted as its client's (NULL: it was
 * not), and the rate that refused it, or would have. */
struct guest {
  _Atomic uint64_t *counted;
  struct limited limited;
};
/* gate is OK, or why a connection may not be, whenever it came; *counted is where it was counted,
 * if it was. gate_enter is the gate for a new one, which rates are asked about too. */
MUST_USE enum end gate(struct serving *sv, const struct addr *peer, _Atomic uint64_t **counted);
MUST_USE enum end gate_enter(struct serving *sv, const struct addr *peer, struct guest *out);
/* gate_accept is gate_enter for who connects: a proxy that may send a PROXY header is let through
 * to it, and then the gate is for whom that names. */
MUST_USE enum end gate_accept(struct serving *sv, const struct addr *peer, struct guest *out);
/* gate_trusts: is peer one of trusted_proxies? */
bool gate_trusts(const struct listener *l, const struct addr *peer);
struct access_from;
/* gate_turn_away counts and logs who may not connect, or what UDP refuses; gate_refuse closes the
 * connection too. */
void gate_turn_away(struct serving *sv, const struct access_from *from, enum end end);
void gate_refuse(struct serving *sv, struct conn *c, const struct access_from *from, enum end end);
/* gate_may_log: not more lines of refused clients than a few in a second. */
bool gate_may_log(struct worker *w);
/* slots_take: may a client's connection with so many streams open have one more? slots_refused
 * counts and tells that one was refused. */
bool slots_take(const struct worker *w, uint32_t beside);
void slots_refused(struct worker *w);
/* ---- begin.c ---- */
struct begin;
void begin_init(struct begin *b);
/* begin_put lets a request whose head is done wait to begin; stream_fail takes it out. begin_alone
 * tells of one that is all its client asks for: it does not wait, nor is it to wait for others. */
void begin_put(struct stream *s);
/* begin_left: s, which may have waited to begin, does so no more. */
void begin_left(struct stream *s);
void begin_alone(struct worker *w);
/* begin_turn is called before each turn of the loop: true: some wait, and it must not. begin_run
 * begins what may begin in this turn. begin_late_ms is how long the next has waited. */
bool begin_turn(struct worker *w);
void begin_run(struct worker *w);
uint64_t begin_late_ms(const struct worker *w);
/* gate_drop is gate_refuse for one that was let in already; reason: in words, or empty. */
void gate_drop(struct down *d, enum end end, struct span reason);
/* ---- admit.c ---- */
/* admit_early refuses what an open breaker would, before anything is done for it; admit when an
 * attempt is about to be made. False: the stream ended. */
MUST_USE bool admit_early(struct stream *s);
MUST_USE bool admit(struct stream *s);
/* admit_still is false when the breaker opened while the stream was in the queue: it needs another
 * pass (of a probe, if half-open by now). admit_again: may a further attempt be made? */
MUST_USE bool admit_still(struct stream *s);
bool admit_again(const struct stream *s);
/* admit_outcome learns from an attempt's end; admit_leave gives back what the stream still has. */
void admit_outcome(struct stream *s, struct attempt *a, enum end end, uint16_t status);
/* admit_hedge gives a second attempt a pass while the breaker is closed; admit_cancelled takes the
 * pass of an attempt back that was given up for another one. */
MUST_USE bool admit_hedge(struct stream *s, struct breaker_pass *pass);
void admit_cancelled(struct stream *s, struct attempt *a);
void admit_leave(struct stream *s);
/* admit_head: the head that is passed on came: the request no longer counts for the limit. */
void admit_head(struct stream *s);
/* admit_turned is upstream's hook: a breaker changed. */
void admit_turned(struct upstream *u, const struct pool *pool, const struct breaker_told *told);
/* ---- overload.c ---- */
/* overload_admit refuses a request of that priority when this worker has too much to do; false:
 * the stream ended. */
MUST_USE bool overload_admit(struct stream *s, uint8_t priority);
/* overload_session is why a new session of UDP is refused, or END_OK. The sessions that there are
 * count for overload.connections too, but towards other sessions alone: anybody can make some. */
enum end overload_session(struct worker *w, uint8_t priority, uint64_t sessions);
/* overload_closes: connections are short: a kept one ends with its response (and is counted); one
 * of HTTP/2 by GOAWAY. */
bool overload_closes(struct stream *s);
/* overload_idle_ms is how long a connection may be idle. */
uint32_t overload_idle_ms(const struct worker *w, uint32_t idle_ms);
/* overload_accepted counts a connection and may pause accepting to the next tick. */
void overload_accepted(struct worker *w);
/* overload_wake starts the tick when there is work. */
void overload_wake(struct worker *w);
void overload_init(struct worker *w);
void overload_install(struct worker *w, const struct overload_settings *settings);
void overload_stop(struct worker *w);

#endif
