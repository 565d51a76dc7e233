/* h2_read.c: what a peer sends: frames to streams, by a table of functions. Each gives END_OK, or
 * why the connection ends. Faults of one stream reset that and count (h2_guard.c). RFC 9113
 * sections 5 and 6. */
#include <errno.h>

#include "mux/h2_priv.h"
#include "mux/h2_section_priv.h"
#include "weir/io/pressure.h"

/* ---- faults ---- */

enum fault { PROTOCOL, FLOW, SIZE, COMPRESSION, CLOSED, FLOOD, RESETS, FAULTS };
static const enum end words[][FAULTS] = {
    {END_UPSTREAM_H2_PROTOCOL, END_UPSTREAM_H2_FLOW_CONTROL, END_UPSTREAM_H2_FRAME_SIZE,
     END_UPSTREAM_H2_COMPRESSION, END_UPSTREAM_H2_STREAM_CLOSED, END_UPSTREAM_H2_FLOOD,
     END_UPSTREAM_H2_RESETS},
    {END_CLIENT_H2_PROTOCOL, END_CLIENT_H2_FLOW_CONTROL, END_CLIENT_H2_FRAME_SIZE,
     END_CLIENT_H2_COMPRESSION, END_CLIENT_H2_STREAM_CLOSED, END_CLIENT_H2_FLOOD,
     END_CLIENT_H2_RESETS},
};

/* word is whose fault it was: the peer's. An endpoint that began with one is told by which. */
static enum end word(struct h2 *h, enum fault fault) {
  bool alien = !h->server && !h2_any(h, H2_PREFACED);
  if (alien) h->alien = words[0][fault];
  return alien ? END_UPSTREAM_H2_PREFACE : words[h->server][fault];
}

enum h2_error h2_code_of(const struct h2 *h, enum end end) {
  if (end == END_UPSTREAM_H2_PREFACE) end = h->alien;
  for (unsigned i = 0; i < FAULTS; i++)
    if (words[0][i] == end) end = words[1][i]; /* its own code is what a client is told of it */
  return (enum h2_error)end_get(end)->h2_error;
}

static enum end word_of(struct h2 *h, enum h2_error error) {
  static const uint8_t faults[] = {
      [H2_FLOW_CONTROL_ERROR] = FLOW,       [H2_FRAME_SIZE_ERROR] = SIZE,
      [H2_COMPRESSION_ERROR] = COMPRESSION, [H2_STREAM_CLOSED] = CLOSED,
      [H2_ENHANCE_YOUR_CALM] = FLOOD,
  };
  return word(h, error < array_count(faults) ? (enum fault)faults[error] : PROTOCOL);
}

static enum end glitch(struct h2 *h) { return h2_glitch(h) ? END_OK : word(h, FLOOD); }

/* stream_fault resets a stream, whether it exists any more or not, for the peer's fault. */
static enum end stream_fault(struct h2 *h, uint32_t id, enum h2_error error) {
  struct h2_stream *st = h2_stream_find(h, id);
  if (st) h2_stream_reset(st, error, word_of(h, error));
  else h2_write_reset(h, id, error);
  return h2_count_reset(h) ? END_OK : word(h, RESETS);
}

/* is_idle: nobody has used this number yet. */
static bool is_idle(const struct h2 *h, uint32_t id) {
  return h2_is_theirs(h, id) ? id > h->last : id >= h->next_id;
}

/* ---- DATA ---- */

/* nobodys are bytes for no owner, of no stream or of st. */
static void nobodys(struct h2 *h, struct h2_stream *st, size_t n) {
  h2_window_came(h, n);
  h2_read_back(h, st, n);
}

/* drop_data gives back at once what is nobody's. */
static void drop_data(struct h2 *h, const struct h2_frame *f) {
  h->marks |= H2_DROPPING;
  nobodys(h, NULL, f->length);
}

/* unheaded: a response's body before its head. One that its owner has let go is nobody's. */
static bool unheaded(const struct h2_stream *st) {
  return !st->h2->server && !stream_any(st, H2_HEADED) && !stream_let_go(st);
}

/* data_frame looks at the head of a DATA frame. */
static enum end data_frame(struct h2 *h, const struct h2_frame *f) {
  struct h2_stream *st = h2_stream_find(h, f->stream);
  h->marks &= (uint16_t)~H2_DROPPING;
  if (!h2_window_take(&h->recv_window, f->length)) return word(h, FLOW);
  if (!st || stream_any(st, H2_REMOTE_END)) {
    drop_data(h, f);
    if (!st && is_idle(h, f->stream)) return word(h, PROTOCOL);
    if (!st && (h2_is_forgotten(h, f->stream) || h2_is_ignored(h, f->stream))) return glitch(h);
    return stream_fault(h, f->stream, H2_STREAM_CLOSED);
  }
  if (unheaded(st)) {
    drop_data(h, f);
    return stream_fault(h, f->stream, H2_PROTOCOL_ERROR);
  }
  if (!h2_window_take(&st->recv_window, f->length)) {
    drop_data(h, f);
    return stream_fault(h, f->stream, H2_FLOW_CONTROL_ERROR);
  }
  if (f->padding) nobodys(h, st, f->padding);
  if (f->length > f->padding) h2_came(&h->budget, f->length - f->padding);
  else if (!(f->flags & H2_FLAG_END_STREAM)) return glitch(h);
  return END_OK;
}

static enum end on_data(struct h2 *h, const struct h2_item *item) {
  const struct h2_frame *f = &h->scanner.frame;
  struct h2_stream *st = h2_stream_find(h, f->stream);
  if (!st || stream_any(st, H2_REMOTE_END)) { /* maybe it ended inside this frame */
    if (!h2_any(h, H2_DROPPING)) nobodys(h, NULL, item->bytes.len);
    return END_OK;
  }
  enum end why;
  st->received += item->bytes.len;
  h2_window_came(h, item->bytes.len);
  if (!h2_length_take(&st->length, item->bytes.len, &why)) {
    h2_stream_fail(st, why);
    return END_OK;
  }
  bool last = item->end && f->flags & H2_FLAG_END_STREAM;
  if (item->bytes.len) conn_carried_data(st->what.conn, item->bytes);
  st = last ? h2_stream_find(h, f->stream) : NULL;
  if (st) h2_stream_peer_end(st);
  return END_OK;
}

/* ---- field sections ---- */

/* refuse: who has not seen our SETTINGS yet could not know better; nor who meets our own lack. */
static enum end refuse(struct h2 *h, uint32_t id) {
  bool knew = h2_any(h, H2_SETTLED) && h->count >= h->limits.streams;
  h2_write_reset(h, id, H2_REFUSED_STREAM);
  if (!knew) return glitch(h);
  return h2_count_reset(h) ? END_OK : word(h, RESETS);
}

static enum end headers_frame(struct h2 *h, const struct h2_frame *f) {
  enum h2_error error = H2_NO_ERROR;
  enum h2_open open = h2_section_open(h, f, &error);
  if (open == H2_OPEN_BAD) return word_of(h, error);
  if (open == H2_OPEN_RESET && error == H2_REFUSED_STREAM) return refuse(h, f->stream);
  if (open == H2_OPEN_RESET) return stream_fault(h, f->stream, error);
  if (open == H2_OPEN_NEW) h2_began(&h->budget);
  bool idle = h->server && open == H2_OPEN_MORE && !(f->flags & H2_FLAG_END_STREAM);
  return open == H2_OPEN_DROP || idle ? glitch(h) : END_OK;
}

/* BLOCK_FRAMES_FREE frames of one block are what a large head needs. */
#define BLOCK_FRAMES_FREE 4u
#define BLOCK_FRAMES_MAX 64u

static enum end continuation_frame(struct h2 *h, const struct h2_frame *f) {
  (void)f;
  if (++h->block_frames > BLOCK_FRAMES_MAX) return word(h, FLOOD);
  return h->block_frames > BLOCK_FRAMES_FREE ? glitch(h) : END_OK;
}

static enum end on_fragment(struct h2 *h, const struct h2_item *item) {
  bool last = item->end && h->scanner.frame.flags & H2_FLAG_END_HEADERS;
  switch (h2_section_take(h, item->bytes, last)) {
    case H2_SECTION_GOES_ON: return END_OK;
    case H2_SECTION_REFUSED: return h2_count_reset(h) ? END_OK : word(h, RESETS);
    case H2_SECTION_HUGE: return word(h, FLOOD);
    case H2_SECTION_BAD: return word(h, COMPRESSION);
    case H2_SECTION_NO_MEMORY: return END_LIMIT_MEMORY;
  }
  return END_INTERNAL;
}

/* ---- the small frames ---- */

static enum end on_setting(struct h2 *h, const struct h2_item *item) {
  struct h2_refusal why;
  bool was = h->theirs.no_rfc7540_priorities;
  if (!h2_settings_set(&h->theirs, !h->server, item->id, item->value, &why))
    return word_of(h, why.error);
  /* RFC 9218 section 2.1: said in the first frame, or never. */
  if (h2_any(h, H2_PREFACED) && was != (bool)h->theirs.no_rfc7540_priorities)
    return word(h, PROTOCOL);
  if (item->id == H2_SETTING_HEADER_TABLE_SIZE)
    hpack_encoder_set(&h->encoder, h->theirs.header_table_size);
  return END_OK;
}

/* on_ack: further SETTINGS of ours say nothing that would begin with it (h2_limit). */
static enum end on_ack(struct h2 *h) {
  if (h2_any(h, H2_SETTLED)) {
    if (!h->budget.acks) return glitch(h);
    h->budget.acks--;
    return END_OK;
  }
  h2_windows_settle(h);
  return END_OK;
}

/* Rows may say a window thousands of times: the streams follow once. */
static enum end on_settings(struct h2 *h, const struct h2_item *item) {
  (void)item;
  if (h->scanner.frame.flags & H2_FLAG_ACK) return on_ack(h);
  if (!h2_windows_shift(h)) return word(h, FLOW);
  struct buf *out = h2_out_small(h, H2_HEAD_LEN);
  if (out) h2_write_settings_ack(out);
  bool first = !h2_any(h, H2_PREFACED);
  h->marks |= H2_PREFACED;
  if (h->events->on_settings) h->events->on_settings(h);
  /* Nobody needs many, and each may move all windows. */
  if (!first) return h2_glitch_unpaid(h) ? END_OK : word(h, FLOOD);
  if (!h->server) h2_streams_opened(h, 0);
  return END_OK;
}

static enum end on_ping(struct h2 *h, const struct h2_item *item) {
  if (h->scanner.frame.flags & H2_FLAG_ACK) return h2_pong(h) ? END_OK : glitch(h);
  struct buf *out = h2_out_small(h, H2_HEAD_LEN + 8);
  if (out) h2_write_ping(out, true, item->bytes);
  return glitch(h);
}

/* is_pinged: what gRPC's servers say when PINGs come more often than they allow (proposal A8). */
static bool is_pinged(const struct h2_item *item) {
  return item->value == H2_ENHANCE_YOUR_CALM && span_eq(item->bytes, SPAN_LIT("too_many_pings"));
}

static enum end on_goaway(struct h2 *h, const struct h2_item *item) {
  bool first = !h2_any(h, H2_PEER_DONE);
  if (!h->server && h->events->on_pinged && is_pinged(item)) h->events->on_pinged(h);
  h->marks |= (uint16_t)(H2_PEER_DONE | (item->value ? H2_BLAMED : 0u));
  if (item->value) h->their_last = item->id;
  if (item->value) h->their_code = item->value;
  if (!h->server) h2_streams_above(h, item->id);
  if (first && h->count == 0) h->events->on_idle(h);
  return glitch(h);
}

static enum end on_rst_stream(struct h2 *h, const struct h2_item *item) {
  uint32_t id = h->scanner.frame.stream;
  struct h2_stream *st = h2_stream_find(h, id);
  if (!st && is_idle(h, id)) return word(h, PROTOCOL);
  if (!st) return h2_reset_behind(h) ? END_OK : word(h, FLOOD);
  if (stream_any(st, H2_TOLD_WHY)) return glitch(h);
  bool early = h->server && h2_is_early(st);
  /* A server may reset what it has answered: it does not read the rest of the request. */
  bool whole = !h->server && stream_any(st, H2_REMOTE_END);
  if (!h->server && item->value == H2_REFUSED_STREAM) st->marks |= H2_UNTOUCHED;
  st->marks |= H2_RESET | H2_REMOTE_END | H2_LOCAL_END | H2_TOLD_WHY;
  st->told = item->value;
  if (whole) st->marks |= H2_WHOLE;
  else if (!h->server) st->end = END_UPSTREAM_H2_RST;
  list_remove(&st->ready);
  if (!whole) conn_carried_fail(st->what.conn, -ECONNRESET);
  return !early || h2_count_reset(h) ? END_OK : word(h, RESETS);
}

static enum end opened(struct h2 *h, uint32_t bytes) {
  return h2_opened(h, bytes) ? END_OK : word(h, FLOOD);
}

static enum end on_window_update(struct h2 *h, const struct h2_item *item) {
  uint32_t id = h->scanner.frame.stream;
  if (id == 0) {
    if (!h2_window_add(&h->send_window, item->value)) return word(h, FLOW);
    conn_flush(h->conn);
    return opened(h, item->value);
  }
  struct h2_stream *st = h2_stream_find(h, id);
  if (!st) return is_idle(h, id) ? word(h, PROTOCOL) : opened(h, item->value);
  if (!h2_window_add(&st->send_window, item->value))
    return stream_fault(h, id, H2_FLOW_CONTROL_ERROR);
  h2_ready(st);
  return opened(h, item->value);
}

static enum end on_priority(struct h2 *h, const struct h2_item *item) {
  (void)item; /* the old tree is ignored (RFC 9113 section 5.3.2) */
  return glitch(h);
}

static enum end on_priority_update(struct h2 *h, const struct h2_item *item) {
  struct h2_stream *st = h2_stream_find(h, item->id);
  struct http_priority p = HTTP_PRIORITY_DEFAULT;
  if (!h->server || !h2_is_theirs(h, item->id)) return word(h, PROTOCOL);
  if (st && http_priority_parse(item->bytes, &p)) h2_stream_priority(st, p);
  return glitch(h);
}

/* ---- the loop ---- */

static enum end on_frame(struct h2 *h, const struct h2_item *item) {
  const struct h2_frame *f = &h->scanner.frame;
  (void)item;
  switch (f->type) {
    case H2_DATA: return data_frame(h, f);
    case H2_HEADERS: return headers_frame(h, f);
    case H2_CONTINUATION: return continuation_frame(h, f);
    case H2_PUSH_PROMISE: return word(h, PROTOCOL); /* never allowed to us, nor by us */
    case H2_PRIORITY:
    case H2_RST_STREAM:
    case H2_SETTINGS:
    case H2_PING:
    case H2_GOAWAY:
    case H2_WINDOW_UPDATE:
    case H2_PRIORITY_UPDATE: return END_OK; /* their values follow */
    default: return glitch(h);
  }
}

static enum end on_stream_error(struct h2 *h, const struct h2_item *item) {
  const struct h2_frame *f = &h->scanner.frame;
  if (is_idle(h, f->stream)) return word_of(h, item->error); /* RST_STREAM may not name it */
  return stream_fault(h, f->stream, item->error);
}

static enum end on_connection_error(struct h2 *h, const struct h2_item *item) {
  h->reason = item->reason;
  return word_of(h, item->error);
}

static enum end (*const handlers[])(struct h2 *h, const struct h2_item *item) = {
    [H2_EVENT_FRAME] = on_frame,
    [H2_EVENT_DATA] = on_data,
    [H2_EVENT_FRAGMENT] = on_fragment,
    [H2_EVENT_SETTING] = on_setting,
    [H2_EVENT_SETTINGS] = on_settings,
    [H2_EVENT_PRIORITY] = on_priority,
    [H2_EVENT_RST_STREAM] = on_rst_stream,
    [H2_EVENT_PING] = on_ping,
    [H2_EVENT_GOAWAY] = on_goaway,
    [H2_EVENT_WINDOW_UPDATE] = on_window_update,
    [H2_EVENT_PRIORITY_UPDATE] = on_priority_update,
    [H2_EVENT_STREAM_ERROR] = on_stream_error,
    [H2_EVENT_CONNECTION_ERROR] = on_connection_error,
};

/* ---- whose turn it is ---- */

/* What a client's connection brings is counted by what it costs about: a head SPEND_HEAD and one
 * more for each SPEND_BYTES of it, DATA, each of which may be a send of its own, SPEND_DATA,
 * SETTINGS for the streams whose windows they may move, any other frame one. SPEND_STEP is free in
 * each turn; after each further one the clock is asked, and what comes after the turn's share
 * waits for the next one (loop_share_over). */
#define SPEND_HEAD 8u
#define SPEND_DATA 4u
#define SPEND_BYTES 128u
#define SPEND_STREAMS 64u
#define SPEND_STEP 16u
/* So much of a block is decoded between two looks at the clock. */
#define FRAGMENT_MOST (SPEND_STEP * SPEND_BYTES)

void h2_spend_anew(struct h2 *h) {
  h->turn_ns = h->pool->loop->now_ns;
  h->spent = 0;
  h->spend_to = SPEND_STEP;
}

static uint32_t cost(const struct h2 *h, enum h2_event event, const struct h2_item *item) {
  const struct h2_frame *f = &h->scanner.frame;
  if (event == H2_EVENT_SETTINGS) return h->count / SPEND_STREAMS;
  if (event == H2_EVENT_FRAGMENT) return (uint32_t)item->bytes.len / SPEND_BYTES;
  if (event != H2_EVENT_FRAME) return 0;
  if (f->type == H2_SETTINGS) return 1 + f->length / SPEND_BYTES;
  return f->type == H2_HEADERS ? SPEND_HEAD : f->type == H2_DATA ? SPEND_DATA : 1;
}

bool h2_spent(struct h2 *h) {
  if (!h->server || h->spent < h->spend_to) return false;
  if (h->turn_ns != h->pool->loop->now_ns) h2_spend_anew(h);
  else if (loop_share_over(h->pool->loop)) return true;
  else h->spend_to = h->spent + SPEND_STEP;
  return false;
}

/* next is what is scanned at once. */
static struct span next(const struct h2 *h, struct span in, size_t used) {
  uint8_t type = h->scanner.frame.type;
  bool block = type == H2_HEADERS || type == H2_CONTINUATION;
  return span_sub(in, used, block && h->server ? FRAGMENT_MOST : in.len);
}

bool h2_input(struct h2 *h, struct span in, size_t *used) {
  h->marks |= H2_BUSY;
  *used = 0;
  if (h->turn_ns != h->pool->loop->now_ns) h2_spend_anew(h);
  while (conn_pending(h->conn) < H2_IN_MOST && !h2_any(h, H2_OVER) && !h2_spent(h)) {
    struct h2_item item = {0};
    size_t took = 0;
    enum h2_event event = h2_frame_scan(&h->scanner, next(h, in, *used), &took, &item);
    *used += took;
    if (event == H2_EVENT_MORE && *used == in.len) break;
    if (event == H2_EVENT_MORE) continue;
    h->spent += cost(h, event, &item);
    enum end end = handlers[event](h, &item);
    if (end != END_OK) h2_end(h, end); /* below */
  }
  return h2_leave(h);
}
