/* h2_config.h: what begins an HTTP/2 connection (h2.h): what its peer may do, what its owner
 * hears. Included by h2.h. */
#ifndef WEIR_MUX_H2_CONFIG_H
#define WEIR_MUX_H2_CONFIG_H

#include "weir/base/arena.h"
#include "weir/base/end.h"
#include "weir/io/conn.h"

struct h2;
struct h2_pool;
struct h2_section;
struct h2_stream;

/* h2_limits are what a peer may do. */
struct h2_limits {
  uint32_t streams;       /* of the peer's that are open at once */
  uint32_t stream_window; /* bytes of a body that may come unread, at first */
  uint32_t stream_window_most; /* the same, of one that is read quickly */
  uint32_t windows_grown; /* what all such windows may have beyond stream_window, together */
  uint32_t window;        /* bytes of all streams on their way; unread, while iobufs are short */
  uint32_t header_bytes;  /* of a field section as its receiver counts them (RFC 9113 6.5.2) */
  uint32_t headers;       /* fields of one */
  uint32_t resets;        /* streams ended early, beyond half of those that were opened; what is
                           * used up comes back, all of it in 10 s */
  uint32_t glitches;      /* frames in 10 s that bring nothing on, beyond what pays for them: a
                           * request, a KiB that comes, DATA that is sent: for two each */
  uint32_t age_ms;        /* h2_drain after so long; 0: never */
  uint32_t ping_ms;       /* a peer that is silent for so long while streams are open is asked */
  uint32_t ping_wait_ms;  /* and may take so long to say anything; both of a client. 0: never */
  uint32_t ask_again_ms;  /* h2_ask asks no sooner behind the PING before */
};

/* h2_anew is why a stream that waits for its connection is not to be one of it: its owner asks
 * anew for another one. on_open of the stream's conn tells it, negative, beyond all errnos. */
enum h2_anew {
  H2_ANEW_PROTOCOL = 4096, /* the connection is there, and speaks another protocol */
  H2_ANEW_FULL,            /* it is there, and the peer takes no more streams on it */
  H2_ANEW_OTHERS,          /* it does not come to be, and others that are there have room */
};
static inline bool h2_asks_anew(int err) { return err <= -(int)H2_ANEW_PROTOCOL; }

/* h2_events is what an owner hears. Each may close streams' conns, and h2_end; only on_end may
 * call h2_free. */
struct h2_events {
  /* on_stream: the peer opened st. The owner attaches h2_conn_of(st), and gives the place for the
   * head (h2_stream_section). False: refused (REFUSED_STREAM); it is gone. NULL: no peer may. */
  bool (*on_stream)(struct h2_stream *st);
  /* A field section that is whole is told by the stream's conn_events.on_message: it stands in
   * the place that was given for it. end != END_OK: it could not be read (too large, no memory);
   * the connection goes on. */
  /* on_trailers: a section after the head, or DATA, begins: its place (NULL: it is read and
   * dropped). NULL: all are. */
  struct h2_section *(*on_trailers)(struct h2_stream *st, struct arena **arena);
  /* on_idle: the last stream is gone, or the last call was given and there is none: the owner may
   * set the timer, no more. */
  void (*on_idle)(struct h2 *h);
  /* on_end: the connection ended and all its streams were told: OK by agreement. GOAWAY is
   * written: close the conn gently and call h2_free. */
  void (*on_end)(struct h2 *h, enum end end);
  /* on_open: a client's conn is open (0), or will not be (-errno). What its streams are told: 0,
   * or -errno or -enum h2_anew, and on_end follows; of one that is open the owner has taken the
   * conn then (h2_leave_conn). NULL: err. */
  int (*on_open)(struct h2 *h, int err);
  /* on_left: it ended, but for streams whose response is whole, or that hear of it later: on_end
   * follows when these are gone. NULL: of no interest. */
  void (*on_left)(struct h2 *h);
  /* on_settings: the peer's SETTINGS came, the first or others. NULL: of no interest. */
  void (*on_settings)(struct h2 *h);
  /* on_pinged: the peer of a client ends the connection as it was asked too often (gRPC's word).
   * NULL: of no interest. */
  void (*on_pinged)(struct h2 *h);
  /* on_timer: the conn's deadline (h2_timer) passed. */
  void (*on_timer)(struct h2 *h);
  /* on_turn: the conn was flushed (conn_flush): all that came in this turn has been read. NULL: of
   * no interest. */
  void (*on_turn)(struct h2 *h);
};

/* h2_config begins a connection. */
struct h2_config {
  struct h2_pool *pool;
  struct conn *conn; /* the h2 attaches itself to it; a client's need not be open yet */
  const struct h2_events *events;
  struct h2_limits limits;
  void *owner;
  bool server; /* the peer is a client */
};

#endif
