/* relay.c: moves body or tunnel bytes from one conn to another. Three modes: MESSAGES (provided
 * buffers, copied behind what dst has queued: small bodies, chunks, quiet tunnels), BULK (64 KiB
 * reads that become dst's send as they are, or are encrypted from where they lie; the next read
 * waits until the kernel took all), SPLICE (relay_splice.c). A tunnel moves between them by what
 * it sees. Framing, timeouts and half-close are the caller's.
 *
 * Which events may come in a mode: START: the kick, eof, drained; MESSAGES, BULK and TO_*: data,
 * buffer, eof, drained, in TO_* the kick; SPLICE: the same, polls and the end of the receive;
 * DRAIN: eof, drained. Errors in all. */
#include "weir/io/relay.h"

#include <errno.h>

#include "io/io_priv.h"

enum relay_mode {
  RELAY_NONE,
  RELAY_START, /* the kick is under way */
  RELAY_MESSAGES,
  RELAY_BULK,
  RELAY_SPLICE,
  RELAY_TO_LARGE,    /* at the end of the turn: bulk or splice */
  RELAY_TO_MESSAGES, /* the same, back */
  RELAY_DRAIN,       /* all was passed on; dst's kernel has not taken it yet */
};

/* MESSAGES_AHEAD is how much dst may have queued before src has to wait. */
#define MESSAGES_AHEAD 65536u
/* STREAK reads that fill a provided buffer, or bring less than SMALL, change a tunnel's mode. */
#define STREAK 8u
#define SMALL 8192u
#define PROVIDED_BYTES 4096u
/* BEHIND_END_MS after an end a reset behind it is listened for: most sessions are over by then. */
#define BEHIND_END_MS 500u
/* BROKEN_LOOK_MS apart dst is looked at while a broken src has more for it; LAST_LOOK_MS after all
 * of that was read, and twice as long each time that nothing moved. */
#define BROKEN_LOOK_MS 500u
#define LAST_LOOK_MS 20u

void relay_note_moved(struct relay *r, size_t n) {
  r->moved += n;
  if (r->count) loop_stat_add(r->count, n);
  if (r->left != UINT64_MAX) r->left -= n;
  r->progress_ms = r->src->loop->now_ms;
}

void relay_wait_src(struct relay *r) { r->waits = RELAY_WAITS_SRC; }

bool relay_reads_on(const struct relay *r) {
  return r->mode == RELAY_MESSAGES && r->waits == RELAY_WAITS_SRC && !r->eof;
}

void relay_wait_dst(struct relay *r) {
  r->waits = RELAY_WAITS_DST;
  if (r->watch) rx_hup_arm(r->src);
}

/* detach gives both conns back to their owners. */
static void detach(struct relay *r, bool eof_told) {
  struct conn *src = r->src;
  if (r->mode == RELAY_SPLICE) relay_splice_leave(r);
  r->mode = RELAY_NONE;
  src->relay_in = NULL;
  r->dst->relay_out = NULL;
  if (r->still) timer_stop(&src->loop->wheel, &src->timer);
  src->flags &=
      ~(uint32_t)(CONN_READING | CONN_BULK | CONN_SPLICING | CONN_KICK | CONN_AGAIN | CONN_REREAD);
  if (!conn_any(src, CONN_PEER_DONE) || conn_any(src, CONN_EOF)) return;
  if (eof_told) {
    src->flags |= CONN_EOF;
  } else {
    src->flags |= CONN_REREAD; /* the owner has yet to hear of it */
    conn_mark(src);
  }
}

static void look_at(struct conn *c, uint32_t delay_ms) {
  timer_set(&c->loop->wheel, &c->timer, c->loop->now_ms + delay_ms);
}

void relay_end(struct relay *r, enum relay_end why, int err) {
  detach(r, why == RELAY_SRC_EOF);
  if (why == RELAY_SRC_EOF && r->watch && r->src->relay_out) {
    r->src->mark = r->still; /* its reset was told before its end was read */
    look_at(r->src, BEHIND_END_MS);
  }
  r->on_end(r, why, err);
}

void relay_stop(struct relay *r) {
  if (relay_active(r)) detach(r, false);
}

void relay_start(struct relay *r, struct conn *src, struct conn *dst, uint64_t len,
                 void (*on_end)(struct relay *r, enum relay_end why, int err)) {
  check(src != dst);
  check(src->relay_in == NULL && dst->relay_out == NULL);
  *r = (struct relay){
      .src = src,
      .dst = dst,
      .left = len,
      .progress_ms = src->loop->now_ms,
      .on_end = on_end,
      .owner = r->owner,
      .pipe_rd = -1,
      .pipe_wr = -1,
      .mode = RELAY_START,
      .eof = conn_any(src, CONN_PEER_DONE),
  };
  src->relay_in = r;
  dst->relay_out = r;
  src->flags &= ~(uint32_t)(CONN_READING | CONN_WATCHED | CONN_BULK | CONN_AGAIN);
  if (len >= RELAY_SPLICE_MIN && len != UINT64_MAX) {
    src->flags |= CONN_SINGLE;
    src->size_streak = 0;
  }
  src->flags |= CONN_KICK;
  conn_mark(src);
}

void relay_watch(struct relay *r, uint32_t patience_ms) {
  uint32_t patience_s = (patience_ms + 999) / 1000;
  r->watch = true;
  r->patience_s = patience_s < UINT16_MAX ? (uint16_t)patience_s : UINT16_MAX;
}

static bool dst_dead(const struct relay *r) {
  return conn_any(r->dst, CONN_SENT_DEAD | CONN_FAILED);
}

/* empty: nothing more comes from src, and all that came was passed to dst. One that ended by the
 * rules of its transport left nothing to decode. */
static bool empty(const struct relay *r) {
  if (!r->eof || conn_held(r->src) > 0 || r->in_pipe > 0) return false;
  return !r->last || !rx_coded(r->src);
}

/* over ends a relay that has nothing more to move, or makes it wait for dst. True: do nothing. */
static bool over(struct relay *r) {
  bool done = r->left == 0;
  if (!done && !empty(r)) return false;
  if (dst_dead(r)) return true; /* its error is on the way */
  if (conn_pending(r->dst) > 0 || (r->last && conn_unacked(r->dst) > 0)) {
    if (r->mode == RELAY_SPLICE) relay_splice_leave(r);
    r->mode = RELAY_DRAIN;
    r->src->flags &= ~(uint32_t)(CONN_READING | CONN_SPLICING);
    relay_wait_dst(r);
    return true;
  }
  if (r->last) relay_end(r, RELAY_SRC_ERROR, r->last);
  else relay_end(r, done ? RELAY_DONE : RELAY_SRC_EOF, 0);
  return true;
}

/* ---- a broken src ---- */

static bool watched_past_end(const struct conn *c) {
  return conn_any(c, CONN_WATCHED) && conn_any(c, CONN_WIRE_EOF);
}

static bool is_broken(const struct conn *c) { return c->relay_in && c->relay_in->still; }

/* end_first ends r, whose src broke before its dst did. */
static void end_first(struct relay *r) {
  relay_end(r, RELAY_SRC_ERROR, r->last ? r->last : -ECONNRESET);
}

/* begin_looks: does dst take what a broken src leaves? */
static void begin_looks(struct relay *r, uint32_t delay_ms) {
  struct conn *src = r->src;
  r->still = 1;
  r->progress_ms = src->loop->now_ms;
  src->mark = (uint32_t)conn_taken(r->dst);
  look_at(src, delay_ms);
}

/* relay_on_broken: as long as dst takes what src left, the receive of src will tell, behind its
 * last byte; so does that of one that is watched. What is left for c by one that broke before
 * nobody will take. */
void relay_on_broken(struct conn *c) {
  struct relay *in = c->relay_in, *out = c->relay_out;
  if (out && out->watch && is_broken(out->src)) {
    end_first(out);
  } else if (in && in->watch && !in->still) {
    begin_looks(in, BROKEN_LOOK_MS);
  } else if (!in && (relay_watches(c) || watched_past_end(c))) {
    rx_fail(c, -ECONNRESET); /* its end came before */
  }
}

/* gives_up notes whether dst moves: has it taken nothing for too long? */
static bool gives_up(struct relay *r, bool moves, uint32_t taken) {
  uint64_t now = r->src->loop->now_ms;
  if (moves) r->progress_ms = now;
  r->src->mark = taken;
  return now - r->progress_ms >= r->patience_s * (uint64_t)1000;
}

/* last_look: has dst taken all that src left, or nothing for too long? */
static void last_look(struct relay *r) {
  struct conn *src = r->src;
  uint32_t taken = (uint32_t)conn_taken(r->dst);
  bool moves = src->mark != taken;
  if (gives_up(r, moves, taken)) {
    relay_end(r, RELAY_SRC_ERROR, r->last);
    return;
  }
  uint32_t delay_ms = LAST_LOOK_MS << (r->still - 1);
  r->still = (uint8_t)(moves ? 1 : delay_ms < BROKEN_LOOK_MS ? r->still + 1 : r->still);
  look_at(src, delay_ms < BROKEN_LOOK_MS ? delay_ms : BROKEN_LOOK_MS);
  (void)over(r);
}

/* look: does dst still take what src left? */
static void look(struct relay *r) {
  if (r->last) {
    last_look(r);
    return;
  }
  struct conn *src = r->src;
  uint32_t taken = (uint32_t)conn_taken(r->dst);
  bool moves = r->waits != RELAY_WAITS_DST || src->mark != taken;
  if (gives_up(r, moves, taken)) {
    r->watch = false; /* what is left is given up */
    rx_fail(src, -ECONNRESET);
  } else {
    look_at(src, BROKEN_LOOK_MS);
  }
}

bool relay_watches(const struct conn *c) {
  const struct relay *r = c->relay_in ? c->relay_in : c->relay_out;
  return r && r->watch;
}

void relay_on_timer(struct conn *c) {
  if (c->relay_in && c->relay_in->still) look(c->relay_in);
  else if (!c->relay_in && c->mark) rx_fail(c, -ECONNRESET);
  else if (!c->relay_in) rx_hup_arm(c);
}

/* ahead is how much dst may have queued while src is read; nothing while iobufs are short. */
static size_t ahead(const struct relay *r) {
  bool one = r->mode == RELAY_BULK && r->src->transport == NULL;
  return one || iobufs_half(&r->src->loop->iobufs) ? 1 : MESSAGES_AHEAD;
}

/* read_on reads from src unless dst has enough. */
static void read_on(struct relay *r) {
  struct conn *src = r->src;
  if (dst_dead(r) || conn_pending(r->dst) >= ahead(r)) {
    src->flags &= ~(uint32_t)CONN_READING;
    relay_wait_dst(r);
    return;
  }
  relay_wait_src(r);
  if (r->mode == RELAY_BULK && conn_held(src) == 0 && src->rx == NULL && !rx_coded(src)) {
    src->flags |= CONN_READING;
    rx_bulk_read(src);
  } else {
    conn_read_start(src);
  }
}

void relay_go_copy(struct relay *r, bool bulk) {
  if (r->mode == RELAY_SPLICE) relay_splice_leave(r);
  bulk = bulk && !conn_any(r->src, CONN_CARRIED);
  r->mode = bulk ? RELAY_BULK : RELAY_MESSAGES;
  r->streak = 0;
  r->src->flags &= ~(uint32_t)CONN_SPLICING;
  conn_read_bulk(r->src, bulk);
  read_on(r);
}

/* go_large picks the way for much data. */
static void go_large(struct relay *r) {
  bool plain = r->src->transport == NULL && r->dst->transport == NULL;
  plain = plain && !conn_any(r->src, CONN_CARRIED) && !conn_any(r->dst, CONN_CARRIED);
  r->streak = 0;
  if (plain && r->src->loop->ops->splice && pipe_take(r->src->loop, r)) {
    r->mode = RELAY_SPLICE;
    relay_splice_start(r);
  } else {
    relay_go_copy(r, true);
  }
}

void relay_run(struct relay *r) {
  if (r->mode == RELAY_SPLICE) {
    if (conn_pending(r->dst) == 0 && over(r)) return;
    relay_splice_run(r);
    return;
  }
  if (over(r)) return;
  if (r->mode == RELAY_START && (r->left < RELAY_SPLICE_MIN || r->left == UINT64_MAX))
    r->mode = RELAY_TO_MESSAGES;
  if (r->mode == RELAY_START || r->mode == RELAY_TO_LARGE)
    go_large(r);
  else if (r->mode == RELAY_TO_MESSAGES)
    relay_go_copy(r, false);
}

/* watch_size counts reads that tell a bulk tunnel from a quiet one; true: the mode is to change.
 */
static bool watch_size(struct relay *r, size_t n) {
  if (r->left != UINT64_MAX || (r->mode != RELAY_MESSAGES && r->mode != RELAY_BULK)) return false;
  bool counts = r->mode == RELAY_MESSAGES ? n >= PROVIDED_BYTES : n < SMALL;
  r->streak = counts ? (uint8_t)(r->streak + 1) : 0;
  return r->streak >= STREAK;
}

/* after_data looks at where it stands after n bytes were passed to dst. more: behind them are some
 * that src does not count as held just now. */
static void after_data(struct relay *r, size_t n, bool more) {
  loop_stat_add(&r->src->loop->stats.copied_bytes, n);
  relay_note_moved(r, n);
  if (!(more && r->left) && over(r)) return;
  if (r->mode == RELAY_SPLICE) {
    relay_wait_dst(r); /* before the first splice: what src had sent already goes by copy */
    return;
  }
  if (watch_size(r, n)) {
    r->mode = r->mode == RELAY_MESSAGES ? RELAY_TO_LARGE : RELAY_TO_MESSAGES;
    r->src->flags |= CONN_KICK; /* at the end of the turn: src is being read right now */
    conn_mark(r->src);
  }
  if (conn_pending(r->dst) >= ahead(r)) {
    r->src->flags &= ~(uint32_t)CONN_READING;
    relay_wait_dst(r);
  } else {
    relay_wait_src(r);
  }
}

size_t relay_on_data(struct relay *r, struct span bytes) {
  struct conn *dst = r->dst;
  struct span part = span_sub(bytes, 0, r->left < bytes.len ? (size_t)r->left : bytes.len);
  part = span_sub(part, 0, MESSAGES_AHEAD); /* a carried conn may hold much more */
  if (part.len == 0 || dst_dead(r)) return 0;
  if (!conn_write(dst, part)) {
    relay_wait_dst(r);
    if (conn_pending(dst) == 0 && !rx_park_held(r->src)) conn_fail(dst, -ENOBUFS);
    return 0;
  }
  /* A broken src may have more to decode behind them than it shows now: rx_run asks afterwards. */
  after_data(r, part.len, part.len < bytes.len || (r->last && r->src->transport));
  return part.len;
}

bool relay_on_buffer(struct relay *r, struct iobuf *b) {
  if (r->mode != RELAY_BULK || b->data.len > r->left) return false;
  size_t n = b->data.len;
  if (!tx_take_buffer(r->dst, b)) return false;
  after_data(r, n, false);
  return true;
}

void relay_on_eof(struct relay *r) {
  r->eof = true;
  (void)over(r);
}

/* outlasts: there may be something left of what came before the end of src. */
static bool outlasts(const struct relay *r, int err) {
  if (!r->watch || conn_any(r->src, CONN_CARRIED) || dst_dead(r)) return false;
  return err != -ENOBUFS && err != -ENOMEM;
}

/* last_begin: src is broken: what it left is passed on and waited for. */
static void last_begin(struct relay *r, int err) {
  r->last = (int16_t)err;
  r->eof = true;
  begin_looks(r, LAST_LOOK_MS);
  rx_hup_arm(r->dst); /* nobody may read from it any more */
  if (!over(r) && (r->mode == RELAY_MESSAGES || r->mode == RELAY_BULK)) read_on(r);
}

void relay_src_broken(struct relay *r, int err) {
  check(r->watch && conn_held(r->src) > 0);
  if (conn_any(r->src, CONN_FAILED)) last_begin(r, err);
  else begin_looks(r, BROKEN_LOOK_MS);
}

void relay_on_error(struct relay *r, const struct conn *whose, int err) {
  if (r->last || (whose != r->src && r->still)) end_first(r);
  else if (r->watch && whose == r->src && is_broken(r->dst)) end_first(r->dst->relay_in);
  else if (whose != r->src) relay_end(r, RELAY_DST_ERROR, err);
  else if (outlasts(r, err)) last_begin(r, err);
  else relay_end(r, RELAY_SRC_ERROR, err);
}

void relay_on_drained(struct relay *r) {
  r->progress_ms = r->src->loop->now_ms;
  if (over(r)) return;
  if (r->mode == RELAY_SPLICE)
    relay_splice_run(r);
  else if (r->mode == RELAY_MESSAGES || r->mode == RELAY_BULK)
    read_on(r);
}
