/* h2_priv.h: what the files of mux/ share: the connection (h2_conn.c), its input (h2_read.c,
 * h2_window.c), its output (h2_send.c), its streams (h2_stream.c), its budgets (h2_guard.c). */
#ifndef WEIR_MUX_H2_PRIV_H
#define WEIR_MUX_H2_PRIV_H

#include "mux/h2_guard_priv.h"
#include "mux/h2_pool_priv.h"
#include "mux/h2_stream_priv.h"
#include "weir/base/list.h"
#include "weir/base/slab.h"
#include "weir/http/h2_frame.h"
#include "weir/http/h2_settings.h"
#include "weir/http/hpack.h"
#include "weir/io/carried.h"
#include "weir/mux/h2.h"

/* H2_WIDE_AT_FIRST windows of streams are the connection's of a client, until it was read from. */
#define H2_WIDE_AT_FIRST 4u
#define H2_BUCKETS 16u   /* of streams by their number */
#define H2_URGENCIES 8u  /* RFC 9218 section 4.1 */
#define H2_FORGOTTEN 32u /* streams that we reset and whose last frames are still on their way */

/* H2_KEPT_MAX bounds the copies of a trailer section, and of a head that has to wait: rows as
 * they grow, names, values. */
#define H2_KEPT_MAX 131072u

/* H2_OUT_MOST: DATA is added while less waits to be sent; H2_IN_MOST: input is read while less
 * does (answers to what comes pile up behind a peer that does not read). */
#define H2_OUT_MOST 65536u
#define H2_IN_MOST 131072u
/* H2_IN_AGAIN: so much may wait when input is read again: more than DATA alone makes it. */
#define H2_IN_AGAIN 98304u
#define H2_HEADS_MOST 229376u /* heads leave the rest of what may be pending to small frames */

enum h2_mark {
  H2_PREFACED = 1,   /* their first SETTINGS came */
  H2_DRAINING = 2,   /* the first GOAWAY was sent */
  H2_LAST_CALL = 4,  /* the last one */
  H2_ENDED = 8,      /* h2_end was called */
  H2_PEER_DONE = 16, /* FIN or GOAWAY came: no new streams of ours */
  H2_STUFFED = 32,   /* input waits until output has gone */
  H2_BUSY = 64,      /* events are told: an end has to wait */
  H2_OVER = 128,     /* it ends as soon as that is done, by `over` */
  H2_SETTLED = 256,  /* they acknowledged our SETTINGS */
  H2_DROPPING = 512, /* the DATA frame that comes is nobody's, and given back already */
  H2_SUSPECT = 8192, /* h2_ask was called, and not a word has come since */
  H2_LEFT = 4096,    /* ended, but for streams: a response that is whole, or not told yet */
  H2_BLAMED = 2048,  /* GOAWAY of the peer said an error */
  H2_PINGED = 1024,  /* the peer was asked whether it is there, and owes the answer */
  H2_PACED = 16384,  /* input waits for another turn: this one has brought enough */
  H2_RESTED = 32768, /* and stands in line for it (conn_later), or it is that turn */
};

struct h2 {
  struct slab_head head;
  struct h2_pool *pool;
  struct conn *conn;
  const struct h2_events *events;
  struct h2_limits limits;
  void *owner;
  struct h2_scanner scanner;
  struct hpack_decoder decoder;
  struct hpack_encoder encoder;
  struct h2_settings theirs;
  int32_t send_window, recv_window;
  uint32_t leaving; /* bytes of which h2_stream_leaves said so since the last flush */
  uint32_t recv_credit; /* to be given back with more */
  uint32_t withheld;    /* came while buffers were short, and is to be read first */
  uint32_t recv_size;   /* the window that it is to have; limits.window at most */
  uint32_t grown;       /* what windows of streams have beyond limits.stream_window */
  struct list heads; /* streams whose head waits for room: it goes before all else */
  struct list ends; /* streams that have but their end to send, which no window holds */
  struct list ready[H2_URGENCIES]; /* streams with something to send that their window lets out */
  struct list streams;
  struct h2_stream *buckets[H2_BUCKETS];
  uint32_t count, opened, last; /* streams open; opened by the peer; their highest number */
  uint32_t skipped, skipped_to; /* those between which it left out last */
  uint32_t served, next_id;     /* the highest not ignored: what GOAWAY says; the next of ours */
  uint32_t their_last, their_code; /* what their GOAWAY of an error says (H2_BLAMED) */
  uint32_t window_in_force;     /* theirs.initial_window_size that streams go by */
  uint16_t marks;               /* set of enum h2_mark */
  bool server;
  enum end over;
  enum end alien; /* the fault that a peer began with, where that alone is not the word */
  struct span reason; /* for people, of end; static */
  /* the field section that is being read */
  struct h2_stream *section_of; /* NULL: none, or refused */
  struct hpack_block block;
  struct hpack_limits section_limits;
  uint32_t block_frames;
  uint32_t spent, spend_to; /* work of the turn that began, where the clock is asked (h2_read.c) */
  uint64_t turn_ns; /* then */
  bool block_end_stream;
  struct h2_budget budget;
  uint32_t forgotten[H2_FORGOTTEN], forgotten_at;
  uint32_t forgotten_to; /* of those up to this one nobody knows which were ours to reset */
  struct timer timer; /* its age, then the second step of a drain; a client's: pings */
  uint64_t heads_bytes; /* of the peer's streams that are open, as HPACK counts them */
  uint64_t heard_ms, asked_ms; /* of a client: the peer said anything last; was asked by PING */
  struct timer retry; /* memory was short */
};

static inline bool h2_any(const struct h2 *h, uint32_t marks) { return (h->marks & marks) != 0; }
static inline bool h2_is_theirs(const struct h2 *h, uint32_t id) {
  return (id & 1) == (h->server ? 1u : 0u);
}

/* h2_conn.c */
extern const struct conn_events h2_conn_events;
/* h2_out is room in the connection's output; NULL: too much waits. */
struct buf *h2_out(struct h2 *h, size_t room);
/* h2_out_small is the same for a frame that may not be lost: the connection is over without it. */
struct buf *h2_out_small(struct h2 *h, size_t room);
/* h2_finish is the end of an ended connection; h is gone. */
void h2_finish(struct h2 *h);
/* h2_leave ends a time of H2_BUSY; false: h is gone. */
bool h2_leave(struct h2 *h);
/* h2_pong is the answer to a PING of ours. False: there was none. */
bool h2_pong(struct h2 *h);
/* h2_over ends the connection as soon as nobody is being told anything. */
void h2_over(struct h2 *h, enum end end);
/* h2_section_orphan: the section that is being read belongs to nobody any more. */
void h2_section_orphan(struct h2 *h);

/* h2_code_of is what a peer is told that ended the connection by its fault. */
enum h2_error h2_code_of(const struct h2 *h, enum end end);
/* h2_read.c: reads; false: h is gone. *used: how much was taken. */
bool h2_input(struct h2 *h, struct span in, size_t *used);
/* h2_spent: it has brought enough for this turn. h2_spend_anew: it waited for this one. */
bool h2_spent(struct h2 *h);
void h2_spend_anew(struct h2 *h);

/* h2_send.c */
/* h2_flush sends what may be sent; false: memory was short. */
bool h2_flush(struct h2 *h);
/* h2_send_end ends a stream that has sent all, by its trailers if it has some; false: no room. */
MUST_USE bool h2_send_end(struct h2 *h, struct h2_stream *st);
/* h2_send_now sends of bytes what the windows let out, at once, of a stream that is about to be
 * reset; false: not all. */
bool h2_send_now(struct h2_stream *st, struct span bytes);
/* h2_ready lists st when it has something to send and may. */
void h2_ready(struct h2_stream *st);
/* h2_windows_shift applies the peer's initial window as it is now; false: overflow. */
MUST_USE bool h2_windows_shift(struct h2 *h);

#endif
