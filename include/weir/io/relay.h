/* relay.h: moves body or tunnel bytes from one conn to another until a count or EOF, by splice
 * through pooled pipes where both ends are plain and much is left, else by copy (or encryption)
 * through one borrowed buffer: one send, next receive, which is the backpressure. The simulation
 * does either. Bytes held by src go first. Framing is the caller's. */
#ifndef WEIR_IO_RELAY_H
#define WEIR_IO_RELAY_H

#include "weir/io/conn.h"

enum relay_end {
  RELAY_DONE,      /* `left` reached 0 and dst's kernel took all */
  RELAY_SRC_EOF,   /* src ended; all that came was passed on */
  RELAY_SRC_ERROR, /* err tells */
  RELAY_DST_ERROR,
};

/* RELAY_SPLICE_MIN: bytes left from which splice pays (FLOOR.md). */
#define RELAY_SPLICE_MIN 32768u

/* relay_waits: for whom. */
enum relay_waits { RELAY_WAITS_NOT, RELAY_WAITS_SRC, RELAY_WAITS_DST };

/* relay lives in its owner (a stream) until on_end was called or relay_stop. */
struct relay {
  struct conn *src, *dst;
  uint64_t left;        /* bytes still to move; UINT64_MAX: until EOF */
  uint64_t moved;       /* bytes passed to dst */
  uint64_t progress_ms; /* loop time of the last byte that moved on either side */
  _Atomic uint64_t *count; /* counts bytes as they move; NULL: nothing does */
  void (*on_end)(struct relay *r, enum relay_end why, int err);
  void *owner;
  int pipe_rd, pipe_wr;       /* -1: none */
  uint32_t pipe_cap, in_pipe; /* bytes */
  uint8_t mode : 4;           /* relay.c: how bytes move now; 0: it ended or was stopped */
  uint8_t waits : 4;          /* enum relay_waits */
  uint8_t streak;             /* large (messages) or small (bulk, splice) reads in a row */
  bool eof : 1;               /* src ended */
  bool watch : 1;             /* relay_watch */
  uint8_t still; /* src is broken: looks in a row at which nothing moved, and one; 0: not */
  int16_t last;  /* -errno of src, behind whose bytes it ends; 0: no such thing yet */
  uint16_t patience_s;
};

/* relay_start sets every field but owner; count may be set behind it. It takes over src's
 * reading and dst's writing: until the end the owner's on_data of src and on_drained of dst
 * are not called; on_eof and on_error of src and dst become the relay's end. dst's queued
 * output goes first. on_end comes from a completion, not from inside this call. */
void relay_start(struct relay *r, struct conn *src, struct conn *dst, uint64_t len,
                 void (*on_end)(struct relay *r, enum relay_end why, int err));
/* relay_watch, of one that was just started: that src is broken is to be heard also while it
 * is not read. When dst has taken nothing for patience_ms then (in whole seconds, 18 hours at
 * most), what is left is given up and the relay ends (RELAY_SRC_ERROR). After the end of src
 * (RELAY_SRC_EOF) it is heard as long as another watched relay writes to it (RELAY_DST_ERROR of
 * that one). Timer and mark of src are the relay's. RELAY_SRC_ERROR comes when the peer of dst has
 * all that came before: what its TCP has not acknowledged a reset would take back. When that one
 * breaks too, it is over. Not of a carried src. */
void relay_watch(struct relay *r, uint32_t patience_ms);
/* relay_src_broken, of one that was just started and is watched: src holds bytes, and its owner
 * has heard that it is broken: by on_error (err), or by on_broken. */
void relay_src_broken(struct relay *r, int err);
/* relay_stop ends it without on_end: both conns are the owner's again (or are about to be closed).
 * Bytes in a pipe are lost: close dst after it. */
void relay_stop(struct relay *r);

/* conn_keepalive, of one that a client or an endpoint may leave without a word: its peer's system
 * is asked for a sign of life after a minute of silence. Whoever was accepted has it already. */
void conn_keepalive(struct conn *c);

/* relay_active tells whether it was started and has not ended; a zeroed relay is not active. */
static inline bool relay_active(const struct relay *r) { return r->mode != 0; }
/* relay_lasts: src is broken, and what came before is still on its way to the peer of dst. */
static inline bool relay_lasts(const struct relay *r) { return r->mode != 0 && r->last != 0; }

#endif
