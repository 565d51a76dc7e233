/* proxy_priv.h: what the files of proxy/ share. The objects stand in the headers below; here is
 * what the steps of a stream (steps.def) call of each other. */
#ifndef WEIR_PROXY_PRIV_H
#define WEIR_PROXY_PRIV_H

#include "proxy/down_priv.h"
#include "proxy/front_priv.h"
#include "proxy/pump_priv.h"
#include "proxy/protect_priv.h"
#include "proxy/resilience_priv.h"
#include "proxy/serve_priv.h"
#include "proxy/stream_priv.h"
#include "proxy/worker_priv.h"
#include "weir/filter/filter.h"
#include "weir/http/h1.h"
#include "weir/io/relay.h"
#include "weir/io/tls.h"
#include "weir/proxy/record.h"
#include "weir/proxy/worker.h"
#include "weir/upstream/upstream.h"

/* ---- request.c ---- */
size_t request_data(struct stream *s, struct span bytes);
void request_write_head(struct stream *s, const struct endpoint *e, struct buf *b);
/* request_send_h2 sends the head on st; last: no body follows. False: no room. */
MUST_USE bool request_send_h2(struct stream *s, const struct endpoint *e, struct h2_stream *st,
                              bool last);
/* request_write_copy writes the head for a mirror at e, which gets the body by its length: the
 * line, Host, the fields that request_copies, in their order, and what is of the connection. */
bool request_copies(const struct http_field *row);
void request_write_copy(struct stream *s, const struct endpoint *e, uint64_t body_len,
                        struct buf *b);
/* head_append copies head bytes into the arena, at most limit + 1 in all; bytes taken, 0: no room.
 */
size_t head_append(struct arena *arena, struct buf *in, struct span bytes, uint32_t limit);
/* ---- client_cert.c ---- */
/* client_cert_know tells the exchange's filter_ctx who its client is. */
void client_cert_know(struct stream *s);
/* ---- route.c ---- */
void enter_route(struct stream *s);
/* route_act goes on with a request that has its route. */
void route_act(struct stream *s);
/* ---- early.c ---- */
/* early_begun: the next byte of d came as early data of TLS, or may have. */
bool early_begun(const struct down *d);
/* early_gate says whether a request that has its route may go on, and marks it for the endpoint.
 * early_waits: it has to wait for the end of the handshake. */
MUST_USE enum end early_gate(struct stream *s);
bool early_waits(const struct stream *s);
void enter_early(struct stream *s);
/* early_secure: the handshake of the stream's connection is done. */
void early_secure(struct stream *s);
/* early_count counts what became of a connection's early data (enum tls_early). */
void early_count(struct worker *w, uint8_t result);
/* ---- affinity.c ---- */
/* affinity_pool is the pool of a request: the route's, or a part of its split. */
struct pool *affinity_pool(struct stream *s, const struct route *route);
/* affinity_by_key is the part of a split that the request's key decides for; NULL: it has none. */
struct pool *affinity_by_key(const struct route *route, const struct http_request *request,
                             struct span client);
/* affinity_init reads what the request says about its endpoint of the pool; before filters. */
void affinity_init(struct stream *s, const struct pool *pool);
/* affinity_renew: the stream's pool will be `to`, newer settings of the same one: what it knows of
 * endpoints by their place is told in that one's places. */
void affinity_renew(struct stream *s, const struct pool *to);
/* affinity_pick chooses the endpoint of the next attempt; NULL: none is in service. */
const struct pool_member *affinity_pick(struct stream *s);
/* affinity_response gives the client a cookie when it needs one; before response filters. */
void affinity_response(struct stream *s);
/* ---- held.c ---- */
void enter_buffer(struct stream *s);
/* held_wanted: the route asks for it, and the body may fit. */
bool held_wanted(const struct stream *s);
/* held_patient: of a body that is held: for as long as the client takes, whatever the route's
 * timeout. Else until held.until_ms. */
bool held_patient(const struct stream *s);
/* held_drained: the endpoint's connection took what was queued. */
void held_drained(struct stream *s);
/* held_eof: the client ended a body that came without framing. */
void held_eof(struct stream *s);
/* ---- answer.c ---- */
void answer_end(struct stream *s);  /* the response of END rows */
void answer_route(struct stream *s); /* redirect, respond; ends the stream */
/* answer_page_of is the page that the route's policies have for a status; NULL: none. answer_page
 * gives it in place of the pool's response s->resp; ends the stream. */
const struct error_page *answer_page_of(const struct stream *s, unsigned status, bool upstream);
void answer_page(struct stream *s, const struct error_page *page);
/* answer_status is a response without a body, of a filter; ends the stream. */
void answer_status(struct stream *s, unsigned status);
void answer_https(struct stream *s); /* redirect_https */
/* ---- redirect.c ---- */
/* redirect_location makes the Location of the stream's route; another end than OK: it cannot. */
MUST_USE enum end redirect_location(struct stream *s, struct span *out);
/* ---- response.c ---- */
size_t response_data(struct stream *s, struct span bytes);
void response_eof(struct stream *s, int err);
/* response_read_h2 makes a response of the section that its head came in; false: *why. */
MUST_USE bool response_read_h2(const struct stream *s,
                               struct h2_section *section, struct http_response *out,
                               enum end *why);
/* response_final gives the final head in s->x->resp on, or the route's page in its place; rest
 * came behind it. How much of that was used. response_whole: rest is the response's body to its
 * last byte, and nothing else. */
size_t response_final(struct stream *s, struct span rest);
bool response_whole(const struct stream *s, struct span rest);
extern const struct conn_events up_events;
/* ---- tunnel.c ---- */
void tunnel_ended(struct stream *s, struct pump *p, enum relay_end why, int err);
void tunnel_start(struct stream *s);
/* tunnel_declined: 2xx would tell an HTTP/2 client that its tunnel is open (RFC 9113 8.5). */
bool tunnel_declined(const struct stream *s, unsigned status);
void tunnel_check_routes(struct worker *w);
void tunnel_drain_all(struct worker *w, uint64_t deadline_ms);
/* ---- access.c ---- */
void access_write(struct stream *s);
/* access_keep moves what the log will say out of the messages of s and gives them back. */
void access_keep(struct stream *s);
/* access_connection logs a connection that had no request: a failed handshake, silence. */
void access_connection(struct down *d, enum end end, uint16_t status);
/* access_words are what else is known of one: the name it asked for, and the fault in words. */
struct access_words {
  struct span host, reason;
};
/* access_refused is access_connection with them, for one that never got an answer. */
void access_refused(struct down *d, enum end end, const struct access_words *words);
/* access_resets tells, at the end of a connection at last, how many requests that its client reset
 * were not logged. */
void access_resets(struct down *d);
/* access_from is who sent something, and what a PROXY header says of it: whose it is (NULL: there
 * was none), and an id; rate: the policy whose rate refused it, or would have. */
struct access_from {
  const struct addr *peer, *client;
  struct span id, rate, reason;
};
/* access_peer logs a connection that was refused at accept, or a datagram. */
void access_peer(struct serving *sv, const struct access_from *from, enum end end);

#endif
