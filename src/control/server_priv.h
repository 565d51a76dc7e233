/* server_priv.h: a small bounded server on the control thread's poller: admin socket and status
 * port. Never blocks; a peer that is slow to send or to read is closed at its deadline. It serves
 * one connection at a time when the process has no descriptor left: that is when it is needed. */
#ifndef WEIR_CONTROL_SERVER_PRIV_H
#define WEIR_CONTROL_SERVER_PRIV_H

#include "control/poller_priv.h"
#include "weir/base/buf.h"

#define SERVER_IN_MAX 8192u
/* When no descriptor is left to accept with: after which time it is tried again, and for how long
 * an open connection is left to a silent peer. */
#define SERVER_RETRY_MS 100u
#define SERVER_SILENT_MS 1000u

struct server;

struct server_conn {
  struct poll_watch watch;
  struct poll_timer deadline;
  struct server *server;
  uint32_t slot, generation; /* generation is odd while open */
  char *in;                  /* SERVER_IN_MAX */
  size_t in_len;
  struct text out;
  size_t sent;
  bool close_after; /* once out is sent */
  bool parked;      /* waits for something of ours: no deadline, no input */
};

struct server_config {
  struct poller *poller;
  int fd; /* listening, non-blocking; the server's own */
  uint32_t conns_max;
  uint32_t idle_ms; /* without progress */
  /* on_input: in[0..in_len) is there, maybe not whole: server_consume what was used, append to
   * out, set close_after or parked. Not called while out is being sent. */
  void (*on_input)(struct server_conn *c);
  /* on_accept may refuse a peer; may be NULL. */
  bool (*on_accept)(int fd);
  void *ctx;
};

struct server {
  struct server_config config;
  struct poll_watch listen;
  struct server_conn *conns;
  uint32_t open;
  int spare; /* a descriptor kept for the time when no other is left; -1: in use */
  struct poll_timer retry;
};

void server_start(struct server *s, const struct server_config *config);
/* server_stop closes all; what is not sent yet is lost. */
void server_stop(struct server *s);
/* server_busy tells whether an answer is still being sent. */
bool server_busy(const struct server *s);
void server_consume(struct server_conn *c, size_t len);
/* server_find gives the open connection of a handle, or NULL: it may have gone while it waited. */
struct server_conn *server_find(struct server *s, uint32_t slot, uint32_t generation);
/* server_resume sends what was appended to a parked connection's out. */
void server_resume(struct server_conn *c);

#endif
