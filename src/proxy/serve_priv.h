/* serve_priv.h: listening descriptors of a worker, and who is accepted (serve.c). */
#ifndef WEIR_PROXY_SERVE_PRIV_H
#define WEIR_PROXY_SERVE_PRIV_H

#include "weir/io/conn.h"
#include "weir/model/model.h"

struct udp_port;
struct worker;
struct worker_msg;

/* serving is one listening descriptor: its conn, and the listener of the current snapshot. */
struct serving {
  struct list link; /* worker.servings */
  struct worker *w;
  struct conn *conn;
  struct udp_port *udp; /* in place of conn: a port of UDP */
  int fd;
  bool shared; /* others go on with the socket when weir has ended */
  uint32_t defer_s; /* for so long clients that send nothing are not accepted (set_deferred) */
  struct listener_state *state;           /* pinned */
  struct listener_state *heir; /* of UDP: the listener's that has it from the next snapshot on */
  const struct snapshot_listener *current; /* NULL: removed from the configuration */
  uint64_t end_ms; /* while removed: when sessions of TCP end, those that wait as well */
  struct list downs;
  uint32_t down_count;
};

/* OVER_RESERVE: connections beyond the limit that are still accepted, to be told so with a 503. */
#define OVER_RESERVE 16u
/* DRAIN_IDLE_MS: while draining, a connection between requests may still bring one for so long (it
 * is answered with Connection: close): closing at once would meet the request that is on its way.
 */
#define DRAIN_IDLE_MS 500u

/* serve_start begins to accept (or receive) at msg->fd. */
void serve_start(struct worker *w, const struct worker_msg *msg);
/* serve_rename: the socket of UDP is msg->state's with the next snapshot. */
void serve_rename(struct worker *w, const struct worker_msg *msg);
/* serve_stop: the listener of fd is removed: its connections end after their requests. */
void serve_stop(struct worker *w, struct listener_state *state, int fd);
/* serve_install: the snapshot is another one. */
void serve_install(struct worker *w);
/* serving_free_if_done frees it when its socket is closed and no connection is left. */
void serving_free_if_done(struct serving *sv);
/* serve_pause sets or clears a reason (enum pause_cause) to accept nothing; serve_resume clears
 * that of too many connections when they are fewer. */
void serve_pause(struct worker *w, uint8_t why, bool pause);
void serve_resume(struct worker *w);
/* serve_count_refused counts a connection for which there is no room. */
void serve_count_refused(struct serving *sv);
/* serve_hurry_idle looks at up to `most` connections, in turn: those between requests are closed
 * at close_ms, unless one comes. */
void serve_hurry_idle(struct worker *w, uint32_t most, uint64_t close_ms);
/* serve_drain: no new ones, and those between requests end. */
void serve_drain(struct worker *w);

#endif
