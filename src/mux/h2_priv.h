/* h2_priv.h: what the files of mux/ share: the connection (h2_conn.c), its input (h2_read.c), its
 * output (h2_send.c), its streams (h2_stream.c), its budgets (h2_guard.c). */
#ifndef WEIR_MUX_H2_PRIV_H
#define WEIR_MUX_H2_PRIV_H

#include "weir/base/list.h"
#include "weir/base/slab.h"
#include "weir/http/h2_frame.h"
#include "weir/http/h2_settings.h"
#include "weir/http/hpack.h"
#include "weir/io/carried.h"
#include "weir/mux/h2.h"

struct h2_pool {
  struct loop *loop;
  struct slab conns, streams;
  struct arena_blocks blocks; /* of trailers to be sent */
};

#define H2_BUCKETS 16u   /* of streams by their number */
#define H2_URGENCIES 8u  /* RFC 9218 section 4.1 */
#define H2_FORGOTTEN 32u /* streams that we reset and whose last frames are still on their way */

/* H2_OUT_MOST: DATA is added while less waits to be sent; H2_IN_MOST: input is read while less
 * does (answers to what comes pile up behind a peer that does not read). */
/* H2_TRAILERS_MAX bounds the copy of a trailer section: its rows as they grow, names, values. */
#define H2_TRAILERS_MAX 65536u

#define H2_OUT_MOST 65536u
#define H2_IN_MOST 131072u

enum h2_mark {
  H2_PREFACED = 1,   /* their first SETTINGS came */
  H2_DRAINING = 2,   /* the first GOAWAY was sent */
  H2_LAST_CALL = 4,  /* the last one */
  H2_ENDED = 8,      /* h2_end was called */
  H2_PEER_DONE = 16, /* FIN or GOAWAY came: no new streams of ours */
  H2_STUFFED = 32,   /* input waits until output has gone */
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
  uint32_t recv_credit; /* read and not given back yet */
  struct list ready[H2_URGENCIES]; /* streams with something to send that their window lets out */
  struct list streams;
  struct h2_stream *buckets[H2_BUCKETS];
  uint32_t count, opened, last; /* streams open; opened by the peer; their highest number */
  uint32_t next_id;             /* of ours */
  uint8_t marks;                /* set of enum h2_mark */
  bool server;
  struct span reason; /* for people, of end; static */
  /* the field section that is being read */
  struct h2_stream *section_of; /* NULL: none, or refused */
  struct hpack_block block;
  struct hpack_limits section_limits;
  uint32_t block_frames;
  bool block_end_stream;
  /* budgets (h2_guard.c) */
  uint32_t resets, glitches, credit;
  uint64_t glitch_ms;
  uint32_t forgotten[H2_FORGOTTEN], forgotten_at;
  struct timer timer; /* the second step of a drain */
};

enum h2_stream_mark {
  H2_REMOTE_END = 1, /* END_STREAM or RST_STREAM came */
  H2_LOCAL_END = 2,  /* END_STREAM or RST_STREAM was sent */
  H2_RESET = 4,      /* RST_STREAM was sent, or came */
  H2_HEADED = 8,     /* the peer's head came */
  H2_FINISH = 16,    /* the owner has no more to send */
  H2_BODY = 32,      /* DATA came: the next section is a trailer */
  H2_TRAILERS = 64,  /* it came */
};

struct h2_stream {
  struct slab_head head;
  struct carried what;
  struct h2 *h2;
  void *owner;
  struct h2_stream *next; /* in its bucket */
  struct list link, ready;
  uint32_t id;
  int32_t send_window, recv_window;
  uint32_t recv_credit;    /* read and not given back yet */
  uint32_t recv_size;      /* the window that it is to have */
  uint64_t received, read; /* bytes of DATA that went to the conn; that its owner took */
  uint64_t sent, promise; /* bytes of DATA; how many there will be, UINT64_MAX: nobody knows */
  struct span offered; /* by the conn */
  struct http_fields trailers; /* to be sent at the end, in kept */
  struct arena kept;
  struct h2_section *section;
  struct arena *arena;
  struct h2_length length;
  enum end end;
  uint8_t marks; /* set of enum h2_stream_mark */
  uint8_t urgency;
  bool incremental, offered_fin;
};

static inline bool h2_any(const struct h2 *h, uint32_t marks) { return (h->marks & marks) != 0; }
static inline bool stream_any(const struct h2_stream *st, uint32_t marks) {
  return (st->marks & marks) != 0;
}

/* h2_conn.c */
extern const struct conn_events h2_conn_events;
/* h2_out is room in the connection's output; NULL: too much waits. */
struct buf *h2_out(struct h2 *h, size_t room);
/* h2_pong is the answer to the one PING that we send: of a drain. */
void h2_pong(struct h2 *h);

/* h2_stream.c */
struct h2_stream *h2_stream_find(const struct h2 *h, uint32_t id);
/* h2_stream_open makes one; NULL: no slot is left. */
struct h2_stream *h2_stream_open(struct h2 *h, uint32_t id);
/* h2_stream_reset sends RST_STREAM and fails the conn: st may be gone. */
void h2_stream_reset(struct h2_stream *st, enum h2_error error, enum end end);
/* h2_stream_drop ends one that nobody wants, without a word to the peer. */
void h2_stream_drop(struct h2_stream *st);
/* h2_stream_peer_end is END_STREAM from the peer: st may be gone. */
void h2_stream_peer_end(struct h2_stream *st);
void h2_streams_fail(struct h2 *h, int err, enum end end);
/* h2_write_reset sends RST_STREAM for a number without a stream, too. */
void h2_write_reset(struct h2 *h, uint32_t id, enum h2_error error);
/* h2_is_forgotten: we have reset it not long ago. */
bool h2_is_forgotten(const struct h2 *h, uint32_t id);

/* h2_section_disown: the section that is being read is not stored any more; h2_section_orphan: and
 * belongs to no stream. */
void h2_section_disown(struct h2 *h);
void h2_section_orphan(struct h2 *h);

/* h2_read.c: reads; false: h is gone. *used: how much was taken. */
bool h2_input(struct h2 *h, struct span in, size_t *used);
/* h2_read_back: n bytes more are read: windows are opened when it is worth a frame. */
void h2_read_back(struct h2 *h, struct h2_stream *st, size_t n);

/* h2_send.c */
void h2_flush(struct h2 *h);
/* h2_send_end ends a stream that has sent all, by its trailers if it has some; false: no room. */
MUST_USE bool h2_send_end(struct h2 *h, struct h2_stream *st);
/* h2_ready lists st when it has something to send and may. */
void h2_ready(struct h2_stream *st);
/* h2_windows_shift applies a change of the peer's initial window; false: overflow. */
MUST_USE bool h2_windows_shift(struct h2 *h, uint32_t from, uint32_t to);

/* h2_guard.c: false: the peer has used up its budget; h2_end is the caller's. */
MUST_USE bool h2_glitch(struct h2 *h);
MUST_USE bool h2_count_reset(struct h2 *h);
void h2_progress(struct h2 *h);

#endif
