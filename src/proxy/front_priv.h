/* front_priv.h: what differs between clients of HTTP/1 and of HTTP/2 (front_h2.c): how connections
 * begin and end, how heads are written. Bodies are written to the stream's conn in both. And
 * clients of TCP (front_tcp.c), which have neither; and ports of UDP (front_udp.c). */
#ifndef WEIR_PROXY_FRONT_PRIV_H
#define WEIR_PROXY_FRONT_PRIV_H

#include "weir/base/end.h"
#include "weir/http/h1.h"
#include "weir/mux/h2.h"

struct down;
struct serving;
struct stream;
struct worker;

/* front_h1_start begins TLS, or reading: whether it is HTTP/2 shows then. False: there is no room,
 * close d. */
MUST_USE bool front_h1_start(struct down *d);
/* front_h1_next gets d ready for the next request, or closes it. */
void front_h1_next(struct down *d);
/* front_h2_start makes d an HTTP/2 connection; false: no memory. */
MUST_USE bool front_h2_start(struct down *d);
/* front_h2_end ends it, with its streams; d is gone. */
void front_h2_end(struct down *d, enum end end);
/* front_h2_done ends a stream of it: abort: the client must see that it is cut, because of end. */
void front_h2_done(struct conn *c, bool abort, enum end end);
/* front_h2_stays: the client's windows hold back what is left of a response that is complete. */
bool front_h2_stays(const struct stream *s);
/* front_h2_word is why a client of HTTP/2 is gone; otherwise: it reset or ended by itself. */
enum end front_h2_word(const struct stream *s, enum end otherwise);
/* front_h2_outcome is how one without a fault ended: OK, or why the client can have no answer,
 * which its conn may still have to hear. */
enum end front_h2_outcome(const struct stream *s);
/* front_h2_head writes a head to an HTTP/2 client; last: no body follows. False: no room. */
MUST_USE bool front_h2_head(struct stream *s, struct http_response *r, bool last);
/* front_take gives the body bytes of a request on; how many were used. The stream may end. */
size_t front_take(struct stream *s, struct span bytes);

/* ---- rest.c ---- */
/* REST_MAX bytes of a request that its response did not wait for are read at most, for LINGER_MS:
 * as much again as a connection that lingers reads (io_priv.h). Both stand in texts of end.def. */
#define REST_MAX (256u * 1024u)
/* rest is what an HTTP/1.1 client still sends of a request that is over. */
struct rest {
  struct slab_head head;
  uint64_t left; /* bytes of the body; chunked: so many are read at most, or there are more */
  bool chunked;
  struct h1_chunked chunks;
};
/* rest_may_follow: an early response may leave the connection of s open, as far as can be told
 * when it begins; rest_may_follow_own is of weir's own answers, for requests for which no endpoint
 * was tried: one that refused to connect has had nothing, but was. rest_begin: it has ended, and
 * the connection stays: with what is left of the request, if anything is. False: it cannot. */
bool rest_may_follow(const struct stream *s);
bool rest_may_follow_own(const struct stream *s);
MUST_USE bool rest_begin(struct stream *s);
/* rest_wait waits for the rest of d; rest_take drops bytes: how many were used. Behind the last
 * one d is ready for the next request. rest_end ends d and says why. In each d may be gone. */
void rest_wait(struct down *d);
size_t rest_take(struct down *d, struct span bytes);
void rest_end(struct down *d, enum end end);
/* rest_lost is why a connection with a rest broke; END_OK: its client left. */
enum end rest_lost(int err);
/* rest_read drops what belongs to r, used bytes; BAD: *why. */
MUST_USE enum http_result rest_read(struct rest *r, struct span bytes, size_t *used,
                                    enum end *why);
void rest_free(struct down *d);

/* TCP_PRIORITY is that of sessions (of UDP, too) where requests have their route's: the same
 * default. */
#define TCP_PRIORITY 3u
/* front_tcp_start begins TLS or the session of d, which may end in it; false: no room, close d. */
MUST_USE bool front_tcp_start(struct down *d);
/* front_tcp_session begins the session of d to pool, whose ClientHello asked for host and offered
 * alpn alone (empty: it did not, or there was none); d may end in it. */
struct pool;
void front_tcp_session(struct down *d, struct pool *pool, struct span host, struct span alpn);
/* front_pass_start waits for the ClientHello of d. */
void front_pass_start(struct down *d);
/* front_tcp_opened: the endpoint's connection is there. */
void front_tcp_opened(struct stream *s);
/* front_tcp_gone ends s, whose client broke by err before there was one. */
void front_tcp_gone(struct stream *s, int err);

/* front_udp_start begins to receive at sv->fd. front_udp_install: the listener of sv is another
 * one, or changed. */
void front_udp_start(struct serving *sv);
void front_udp_install(struct serving *sv);
/* front_udp_renamed: sv and the sessions there were another listener's before. */
void front_udp_renamed(struct serving *sv, struct listener_state *before);
/* front_udp_leave: no new sessions; those that there are end at the latest at deadline_ms. sv may
 * go. front_udp_end ends them now; sv stays. */
void front_udp_leave(struct serving *sv, uint64_t deadline_ms);
void front_udp_end(struct serving *sv);
void front_udp_trim(struct worker *w);
void front_udp_fini(struct worker *w);

#endif
