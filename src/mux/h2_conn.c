/* h2_conn.c: the life of a connection: begun, drained, ended; what its conn says. */
#include <errno.h>

#include "mux/h2_section_priv.h"
#include "weir/base/mem.h"
#include "weir/io/tls.h"

/* DRAIN_STEP_MS: streams that the peer opened before it read the first GOAWAY are here by then. */
#define DRAIN_STEP_MS 1000u
#define PING_AGAIN SPAN_LIT("stillup?")
/* RETRY_MS: how soon memory may be there that was not; WITHHELD_MS: when the peer waits for it. */
#define RETRY_MS 10u
#define WITHHELD_MS 200u
#define PING_TEXT SPAN_LIT("draining")

#define POOL_CONNS 16u   /* a chunk of the slab */
#define POOL_STREAMS 64u
#define POOL_BLOCK 2048u /* most trailer sections fit one */
#define POOL_BLOCKS_KEEP 64u

/* ---- the pool ---- */

struct h2_pool *h2_pool_new(struct loop *loop, uint32_t conns_max, uint32_t streams_max) {
  struct h2_pool *pool = mem_alloc(sizeof(*pool));
  pool->loop = loop;
  pool->ends = UINT32_MAX;
  slab_init(&pool->conns, sizeof(struct h2), POOL_CONNS, conns_max);
  slab_init(&pool->streams, sizeof(struct h2_stream), POOL_STREAMS, streams_max);
  arena_blocks_init(&pool->blocks, POOL_BLOCK, POOL_BLOCKS_KEEP);
  return pool;
}

void h2_pool_free(struct h2_pool *pool) {
  slab_fini(&pool->conns);
  slab_fini(&pool->streams);
  arena_blocks_fini(&pool->blocks);
  mem_free(pool);
}

void h2_pool_trim(struct h2_pool *pool) {
  slab_trim(&pool->conns);
  slab_trim(&pool->streams);
  arena_blocks_trim(&pool->blocks, 0);
}

void h2_pool_pace(struct h2_pool *pool, uint32_t ends) { pool->ends = ends; }

/* ---- begin ---- */

static void on_due(struct timer *timer, uint64_t now_ms);
static void on_retry(struct timer *timer, uint64_t now_ms);

struct buf *h2_out(struct h2 *h, size_t room) {
  struct buf *out = conn_out(h->conn, room);
  if (out) conn_flush(h->conn);
  return out;
}

void h2_over(struct h2 *h, enum end end) {
  if (h2_any(h, H2_OVER | H2_ENDED)) return;
  h->marks |= H2_OVER;
  h->over = end;
  conn_flush(h->conn);
}

struct buf *h2_out_small(struct h2 *h, size_t room) {
  struct buf *out = h2_out(h, room);
  if (!out) h2_over(h, END_LIMIT_MEMORY);
  return out;
}

static bool write_settings(struct h2 *h) {
  const struct h2_limits *l = &h->limits;
  const struct h2_row server[] = {
      {H2_SETTING_MAX_CONCURRENT_STREAMS, l->streams},
      {H2_SETTING_INITIAL_WINDOW_SIZE, l->stream_window},
      {H2_SETTING_MAX_HEADER_LIST_SIZE, l->header_bytes},
      {H2_SETTING_ENABLE_CONNECT_PROTOCOL, 1},
      {H2_SETTING_NO_RFC7540_PRIORITIES, 1},
  };
  const struct h2_row client[] = {
      {H2_SETTING_ENABLE_PUSH, 0},
      {H2_SETTING_INITIAL_WINDOW_SIZE, l->stream_window},
      {H2_SETTING_MAX_HEADER_LIST_SIZE, l->header_bytes},
  };
  struct buf *out = h2_out(h, 256);
  if (!out) return false;
  if (h->server) {
    h2_write_settings(out, server, array_count(server));
  } else {
    buf_put(out, H2_PREFACE);
    h2_write_settings(out, client, array_count(client));
  }
  uint32_t told = h2_settings_default.initial_window_size, first = l->window;
  if (h->server && first > l->stream_window * H2_WIDE_AT_FIRST)
    first = l->stream_window * H2_WIDE_AT_FIRST;
  h->recv_size = first > told ? first : told;
  if (first > told) h2_write_window_update(out, 0, first - told);
  h->recv_window = (int32_t)h->recv_size;
  return !out->full;
}

void h2_limit(struct h2 *h, const struct h2_limits *limits) {
  const struct h2_row row = {H2_SETTING_MAX_HEADER_LIST_SIZE, limits->header_bytes};
  bool told = h->limits.header_bytes == limits->header_bytes;
  h->limits.header_bytes = limits->header_bytes;
  h->limits.headers = limits->headers;
  h->limits.resets = limits->resets;
  h->limits.glitches = limits->glitches;
  struct buf *out = told ? NULL : h2_out_small(h, H2_HEAD_LEN + 6);
  if (!out) return;
  h2_write_settings(out, &row, 1);
  h->budget.acks++;
}

struct h2 *h2_new(const struct h2_config *config) {
  struct h2 *h = slab_new(&config->pool->conns);
  if (!h) return NULL;
  h->pool = config->pool;
  h->conn = config->conn;
  h->events = config->events;
  h->limits = config->limits;
  h2_section_limits(h);
  h->owner = config->owner;
  h->server = config->server;
  h->theirs = h2_settings_default;
  h->send_window = (int32_t)h2_settings_default.initial_window_size;
  h->next_id = h->server ? 2 : 1;
  h->window_in_force = h2_settings_default.initial_window_size;
  list_init(&h->streams);
  list_init(&h->heads);
  list_init(&h->ends);
  for (unsigned u = 0; u < H2_URGENCIES; u++) list_init(&h->ready[u]);
  h2_frame_scan_init(&h->scanner, h->server, H2_FRAME_SIZE_MIN);
  hpack_decoder_init(&h->decoder, HPACK_TABLE_DEFAULT);
  hpack_encoder_init(&h->encoder, HPACK_TABLE_DEFAULT);
  timer_init(&h->timer, on_due);
  timer_init(&h->retry, on_retry);
  if (!write_settings(h)) {
    h2_free(h);
    return NULL;
  }
  conn_attach(h->conn, &h2_conn_events, h);
  conn_carries(h->conn);
  uint32_t first_ms = h->server ? h->limits.age_ms : h->limits.ping_ms;
  if (first_ms) timer_set(&h->pool->loop->wheel, &h->timer, h->pool->loop->now_ms + first_ms);
  conn_read_start(h->conn);
  return h;
}

void h2_free(struct h2 *h) {
  check(h->count == 0);
  timer_stop(&h->pool->loop->wheel, &h->timer);
  timer_stop(&h->pool->loop->wheel, &h->retry);
  hpack_decoder_fini(&h->decoder);
  hpack_encoder_fini(&h->encoder);
  slab_free(&h->pool->conns, h);
}

/* ---- the end ---- */

static void write_goaway(struct h2 *h, uint32_t last, enum end end) {
  struct buf *out = h2_out(h, H2_HEAD_LEN + 8 + 128);
  enum h2_error code = h2_code_of(h, end);
  struct span why = h->reason.len || end == END_OK ? h->reason : end_get(end)->word;
  if (out) h2_write_goaway(out, last, code, span_sub(why, 0, why.len < 128 ? why.len : 128));
}

/* most_at_once: of clients' streams so many hear of the end in a turn: each has something to give
 * up, which others would wait for. */
static uint32_t most_at_once(const struct h2 *h) {
  if (!h->server) return UINT32_MAX;
  return loop_share_over(h->pool->loop) ? 0 : h->pool->ends;
}

static void tell(struct h2 *h, uint32_t most) {
  if (!h2_streams_tell(h, most)) conn_flush_later(h->conn);
}

static void tell_more(struct h2 *h, uint32_t most) {
  h->marks |= H2_BUSY;
  tell(h, most);
  (void)h2_leave(h);
}

static void end_by(struct h2 *h, enum end end, uint32_t most) {
  if (h2_any(h, H2_ENDED)) return;
  if (h2_any(h, H2_BUSY)) {
    h2_over(h, end);
    return;
  }
  h->marks |= H2_ENDED;
  h->over = end;
  h2_streams_doom(h, end);
  bool open = h->conn && (h->conn->flags & (CONN_OPEN | CONN_FAILED)) == CONN_OPEN;
  if (open) write_goaway(h, h->served, end);
  timer_stop(&h->pool->loop->wheel, &h->timer);
  tell(h, most);
  if (h->count == 0) {
    h2_finish(h);
    return;
  }
  h->marks |= H2_LEFT;
  if (h->events->on_left) h->events->on_left(h);
}

void h2_end(struct h2 *h, enum end end) { end_by(h, end, most_at_once(h)); }

void h2_end_now(struct h2 *h, enum end end) {
  if (h2_any(h, H2_LEFT)) tell_more(h, UINT32_MAX);
  else end_by(h, end, UINT32_MAX);
}

void h2_finish(struct h2 *h) { h->events->on_end(h, h->over); }

bool h2_leave(struct h2 *h) {
  h->marks &= (uint16_t)~H2_BUSY;
  if (h2_any(h, H2_LEFT)) {
    if (h->count == 0) h2_finish(h);
    return false;
  }
  if (!h2_any(h, H2_OVER)) return true;
  h2_end(h, h->over);
  return false;
}

/* last_call is the second step of a drain: what comes now is refused. */
static void last_call(struct h2 *h) {
  if (h2_any(h, H2_LAST_CALL)) return;
  timer_stop(&h->pool->loop->wheel, &h->timer);
  h->marks |= H2_LAST_CALL;
  write_goaway(h, h->served, END_OK);
  if (h->count == 0) h->events->on_idle(h);
}

static bool ask(struct h2 *h) {
  struct buf *out = h2_out(h, H2_HEAD_LEN + 8);
  if (!out) return false;
  h2_write_ping(out, false, PING_AGAIN);
  h->marks |= H2_PINGED;
  h->asked_ms = h->pool->loop->now_ms;
  return true;
}

/* is_asked: and not a word has come since. An answer that is owed from before it spoke again, or
 * was idle, says nothing against it. */
static bool is_asked(const struct h2 *h) {
  return h2_any(h, H2_PINGED) && h->heard_ms <= h->asked_ms;
}

/* still_there: a peer that is silent though requests wait is asked (RFC 9113 section 6.7), and
 * given up when it goes on so. Whatever it says tells that it is there. */
static void still_there(struct h2 *h, uint64_t now_ms) {
  bool waits = h->count && h->conn && h->conn->flags & CONN_OPEN;
  if (!waits) h->heard_ms = now_ms;
  bool asked = is_asked(h);
  uint64_t due = asked ? h->asked_ms + h->limits.ping_wait_ms : h->heard_ms + h->limits.ping_ms;
  if (due <= now_ms && asked) {
    h2_end(h, END_UPSTREAM_PING);
    return;
  }
  if (due <= now_ms) {
    (void)ask(h); /* without room it is asked next time */
    due = now_ms + h->limits.ping_wait_ms;
  }
  timer_set(&h->pool->loop->wheel, &h->timer, due);
}

void h2_ask(struct h2 *h) {
  if (h2_any(h, H2_SUSPECT | H2_ENDED)) return;
  uint64_t since_ms = h->pool->loop->now_ms - h->asked_ms;
  if (h->asked_ms && !is_asked(h) && since_ms < h->limits.ask_again_ms) return;
  h->marks |= H2_SUSPECT;
  if (is_asked(h) || !ask(h) || !h->limits.ping_ms) return;
  timer_set(&h->pool->loop->wheel, &h->timer, h->asked_ms + h->limits.ping_wait_ms);
}

bool h2_suspected(const struct h2 *h) { return h2_any(h, H2_SUSPECT); }

/* on_due: the connection is old, or its drain goes on, or its peer has to be asked. */
static void on_due(struct timer *timer, uint64_t now_ms) {
  struct h2 *h = container_of(timer, struct h2, timer);
  if (!h->server) still_there(h, now_ms);
  else if (h2_any(h, H2_DRAINING)) last_call(h);
  else h2_drain(h);
}

/* heard_again: the next PING is due by ping_ms, which may be long before the timer, that was for
 * the answer to this one. */
static void heard_again(struct h2 *h) {
  h->marks &= (uint16_t)~H2_PINGED;
  uint32_t ping_ms = h->server ? 0 : h->limits.ping_ms;
  if (ping_ms) timer_set(&h->pool->loop->wheel, &h->timer, h->pool->loop->now_ms + ping_ms);
}

bool h2_pong(struct h2 *h) {
  if (h2_any(h, H2_PINGED)) {
    heard_again(h);
    return true;
  }
  if (!h2_any(h, H2_DRAINING) || h2_any(h, H2_LAST_CALL)) return false;
  last_call(h);
  return true;
}

void h2_drain(struct h2 *h) {
  if (h2_any(h, H2_DRAINING | H2_ENDED)) return;
  h->marks |= H2_DRAINING;
  write_goaway(h, H2_STREAM_MAX, END_OK);
  struct buf *out = h2_out(h, H2_HEAD_LEN + 8);
  if (out) h2_write_ping(out, false, PING_TEXT);
  timer_set(&h->pool->loop->wheel, &h->timer, h->pool->loop->now_ms + DRAIN_STEP_MS);
}

/* ---- what the conn says ---- */

/* untouched: the end came before the kernel had anything of what was written since nothing was
 * under way: no request of it was seen (conn_quiet). */
static void untouched(struct h2 *h) {
  if (!h->server && conn_unsent(h->conn)) h2_streams_untouched(h);
}

/* lost is what an end of the socket means to the streams that are open. */
static enum end lost(const struct h2 *h, enum end client, enum end upstream) {
  if (h->count == 0) return END_OK;
  if (h->server) return client;
  return h2_any(h, H2_BLAMED) ? END_UPSTREAM_H2_GOAWAY : upstream;
}

/* on_eof: what waits for the next turn is heard first (on_data). */
static void on_eof(struct conn *c) {
  struct h2 *h = c->owner;
  if (h2_any(h, H2_PACED) && conn_held(c)) return;
  untouched(h);
  h2_end(h, lost(h, END_CLIENT_CLOSED, END_UPSTREAM_CLOSED));
}

static size_t on_data(struct conn *c, struct span bytes) {
  struct h2 *h = c->owner;
  size_t used;
  if (h2_any(h, H2_ENDED)) return bytes.len; /* nothing it says now is heard (H2_LEFT) */
  h->heard_ms = h->pool->loop->now_ms;
  h->marks &= (uint16_t)~H2_SUSPECT;
  if (!h2_input(h, bytes, &used)) return bytes.len;
  if (used == bytes.len) {
    if (c->flags & CONN_EOF && !conn_held(c)) on_eof(c);
    return used;
  }
  bool paced = h2_spent(h);
  h->marks |= paced ? H2_PACED : H2_STUFFED;
  if (paced) {
    conn_flush(c);
  } else if (c->flags & CONN_EOF) { /* put off while it was paced (on_eof) */
    on_eof(c);
    return bytes.len;
  }
  return used;
}

static void on_error(struct conn *c, int err) {
  struct h2 *h = c->owner;
  (void)err;
  untouched(h);
  enum end tls = h->server ? conn_tls_end(c) : END_OK; /* attempts to an endpoint ask themselves */
  h2_end(h, tls != END_OK ? tls : lost(h, END_CLIENT_RESET, END_UPSTREAM_RESET));
}

static void on_drained(struct conn *c) { conn_flush(c); }

static void on_timer(struct conn *c) {
  struct h2 *h = c->owner;
  h->events->on_timer(h);
}

static void on_retry(struct timer *timer, uint64_t now_ms) {
  (void)now_ms;
  conn_flush(container_of(timer, struct h2, retry)->conn);
}

/* read_again goes on with input that waits: for its place in a turn (H2_PACED), for output to go.
 */
static void read_again(struct h2 *h) {
  struct conn *c = h->conn;
  if (h2_any(h, H2_PACED) && !h2_any(h, H2_RESTED)) {
    h->marks |= H2_RESTED;
    conn_flush_later(c);
    return;
  }
  if (conn_later(c)) return;
  if (h2_any(h, H2_RESTED)) h2_spend_anew(h);
  else if (!h2_any(h, H2_STUFFED) || conn_pending(c) > H2_IN_AGAIN) return;
  h->marks &= (uint16_t)~(H2_STUFFED | H2_PACED | H2_RESTED);
  conn_read_start(c);
}

static void retry(struct h2 *h, uint32_t delay_ms) {
  timer_set(&h->pool->loop->wheel, &h->retry, h->pool->loop->now_ms + delay_ms);
}

/* on_flush: a peer that reads all the time never lets the output be empty, so it is not waited
 * for. */
static void on_flush(struct conn *c) {
  struct h2 *h = c->owner;
  if (h2_any(h, H2_ENDED)) {
    if (!conn_later(c)) tell_more(h, h->pool->ends);
    return;
  }
  h->marks |= H2_BUSY;
  if (h->events->on_turn) h->events->on_turn(h);
  bool withheld = h2_window_withheld(h), room = h2_flush(h);
  if (!h2_leave(h)) return;
  if (!room && conn_pending(c) == 0) retry(h, RETRY_MS);
  else if (withheld) retry(h, WITHHELD_MS);
  read_again(h);
}

void h2_give_up(struct h2 *h, int err) {
  h->marks |= H2_PEER_DONE; /* who hears of it does not try again here */
  h2_streams_opened(h, err);
  h2_end(h, END_OK);
}

void h2_leave_conn(struct h2 *h) {
  conn_carries_not(h->conn);
  h->conn = NULL;
}

/* on_open: a client's connection came to be, or did not. */
static void on_open(struct conn *c, int err) {
  struct h2 *h = c->owner;
  if (h->events->on_open) err = h->events->on_open(h, err);
  if (err) {
    h2_give_up(h, err);
    return;
  }
  conn_read_start(c);
  h2_streams_opened(h, 0);
}

static void on_secure(struct conn *c) {
  struct h2 *h = c->owner;
  h->marks |= H2_BUSY;
  h2_streams_secure(h);
  (void)h2_leave(h);
}

const struct conn_events h2_conn_events = {
    .on_open = on_open,
    .on_data = on_data,
    .on_eof = on_eof,
    .on_error = on_error,
    .on_drained = on_drained,
    .on_timer = on_timer,
    .on_flush = on_flush,
    .on_secure = on_secure,
};

/* ---- for the owner ---- */

void *h2_owner(const struct h2 *h) { return h->owner; }
struct conn *h2_conn(const struct h2 *h) { return h->conn; }
struct span h2_reason(const struct h2 *h) { return h->reason; }
uint32_t h2_streams(const struct h2 *h) { return h->count; }
void h2_timer(struct h2 *h, uint64_t due_ms) { conn_timer(h->conn, due_ms); }
bool h2_extends(const struct h2 *h) { return h->theirs.enable_connect_protocol; }
bool h2_draining(const struct h2 *h) { return h2_any(h, H2_DRAINING); }
bool h2_left(const struct h2 *h) { return h2_any(h, H2_PEER_DONE); }
bool h2_last_call(const struct h2 *h) { return h2_any(h, H2_LAST_CALL); }
