/* h2_window.c: receive windows: what the peer may send before it is told that it may send more.
 * What is held for owners that do not read is bounded by their streams' windows. The connection's
 * is given back as bytes come, whoever they are for: no stream waits for what others hold. Only
 * while half of the iobufs are borrowed is it given back as bytes are read, and bounds what is
 * held. What the windows are at first is h2_conn.c's and h2_stream.c's; windows that we send by
 * are h2_send.c's. RFC 9113 section 5.2. */
#include "mux/h2_priv.h"
#include "weir/io/pressure.h"

/* WINDOW_PART of the connection's window is given back at once: no more than that is missing. */
#define WINDOW_PART 4u

static bool is_short(const struct h2 *h) { return iobufs_half(&h->pool->loop->iobufs); }

static uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }

static void window_update(struct h2 *h, uint32_t id, uint32_t n) {
  struct buf *out = h2_out_small(h, H2_HEAD_LEN + 4);
  if (out) h2_write_window_update(out, id, n);
}

/* ---- of the connection ---- */

/* widen lets it grow as it is used, while buffers are not short. */
static uint32_t widen(struct h2 *h) {
  uint32_t by = is_short(h) ? 0 : least(h->recv_size, h->limits.window - h->recv_size);
  h->recv_size += by;
  return by;
}

static void give_back(struct h2 *h, uint32_t n) {
  h->recv_credit += n;
  if (h->recv_credit < h->recv_size / WINDOW_PART) return;
  uint32_t more = h->recv_credit + widen(h);
  h->recv_window += (int32_t)more;
  h->recv_credit = 0;
  window_update(h, 0, more);
}

/* release gives back what was withheld, up to `most` of it. */
static void release(struct h2 *h, size_t most) {
  uint32_t n = most < h->withheld ? (uint32_t)most : h->withheld;
  h->withheld -= n;
  if (n) give_back(h, n);
}

void h2_window_came(struct h2 *h, size_t n) {
  if (h2_any(h, H2_ENDED)) return;
  if (!is_short(h)) {
    give_back(h, (uint32_t)n);
    return;
  }
  h->withheld += (uint32_t)n;
  conn_flush(h->conn); /* h2_window_withheld */
}

bool h2_window_withheld(struct h2 *h) {
  if (!is_short(h)) release(h, SIZE_MAX);
  return h->withheld > 0;
}

/* ---- of a stream ---- */

/* grow lets it grow as long as its owner reads all that comes at once; by no more than is left of
 * what all may grow by, so that there is something for the next one. */
static uint32_t grow(const struct h2_stream *st) {
  const struct h2_limits *limits = &st->h2->limits;
  uint32_t most = limits->stream_window_most, size = st->recv_size;
  uint32_t has = size - limits->stream_window, left = limits->windows_grown - st->h2->grown;
  if (st->received != st->read || size >= most || has >= left) return 0;
  return least((left - has) / 2, least(size, most - size));
}

/* shrink: one whose owner is behind leaves what it grew by to others, when most of it is gone. */
static uint32_t shrink(const struct h2_stream *st) {
  const struct h2 *h = st->h2;
  bool behind = st->received - st->read > st->recv_size / 4;
  if (!behind || h->grown <= h->limits.windows_grown / 2) return 0;
  return least(st->recv_credit / 2, st->recv_size - h->limits.stream_window);
}

static void resize(struct h2_stream *st, uint32_t size) {
  st->h2->grown += size - st->recv_size; /* modulo: it may be less */
  st->recv_size = size;
}

static void give_back_of(struct h2_stream *st, size_t n) {
  st->recv_credit += (uint32_t)n;
  if (st->recv_credit < st->recv_size / 2) return;
  uint32_t before = st->recv_size;
  resize(st, before - shrink(st) + grow(st));
  uint32_t more = st->recv_credit + st->recv_size - before;
  st->recv_window += (int32_t)more;
  st->recv_credit = 0;
  window_update(st->h2, st->id, more);
}

void h2_read_back(struct h2 *h, struct h2_stream *st, size_t n) {
  if (h2_any(h, H2_ENDED)) return;
  release(h, is_short(h) ? n : SIZE_MAX);
  if (st && !stream_any(st, H2_REMOTE_END)) give_back_of(st, n);
}
