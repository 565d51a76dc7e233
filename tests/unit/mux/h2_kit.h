/* h2_kit.h: one HTTP/2 connection of weir's in the simulated world without faults, with an owner
 * that records what it hears, before a client made of our own codecs (tests/support/h2_peer.h).
 * Included by each test file of mux/. */
#ifndef WEIR_TEST_H2_KIT_H
#define WEIR_TEST_H2_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef H2_KIT_BARE /* without a test runner */
#define fail_msg(...) (fprintf(stderr, __VA_ARGS__), fputc('\n', stderr), abort())
#define assert_true(cond) check(cond)
#define assert_int_equal(a, b) check((a) == (b))
#define assert_non_null(a) check((a) != NULL)
#else
#include <cmocka.h>
#endif

#include "h2_peer.h"
#include "io/sim_priv.h"
#include "mux/h2_priv.h"
#include "weir/base/mem.h"
#include "weir/io/pressure.h"
#include "weir/io/sim.h"

#define KIT __attribute__((unused)) static
#define GET ":method: GET\n:scheme: http\n:authority: h.test\n:path: /\n"
#define POST ":method: POST\n:scheme: http\n:authority: h.test\n:path: /\n"

enum { KIT_SEEN = 4096 };

/* seen is what an owner of one stream has. */
struct seen {
  struct kit *k;
  uint32_t id;
  struct h2_stream *st; /* NULL: closed */
  struct conn *c;
  struct arena arena;
  struct h2_section section;
  int heads, eofs, errors, err, drained;
  enum end end, word;
  size_t got;
  char last[64]; /* of the last bytes */
  bool sloth;    /* takes nothing */
  size_t takes;  /* but so much */
  bool answered, whole; /* for users: a head was sent; and no more may be written */
};

struct kit {
  struct sim *sim;
  struct loop *loop;
  struct h2_pool *pool;
  struct conn *listener, *c;
  struct h2 *h; /* NULL: it ended */
  struct h2_limits limits;
  struct h2_peer peer;
  struct sim_peer *wire;
  struct iobuf *borrowed; /* kit_press */
  bool closed, reset, refuse, sloth, keep; /* keep: streams stay open after an error */
  bool headless; /* heads are not accepted */
  bool lenient; /* nobody knows what the client said */
  int ends, idles, timers;
  enum end end;
  struct seen *seen[KIT_SEEN];
  uint32_t seen_count, open;
  void (*on_head)(struct seen *s);
  void (*on_error)(struct seen *s);
};

KIT struct seen *kit_seen(struct kit *k, uint32_t id) {
  check(id / 2 < KIT_SEEN && k->seen[id / 2]);
  return k->seen[id / 2];
}

/* ---- the owner of a stream ---- */

KIT void seen_close(struct seen *s) {
  struct conn *c = s->c;
  if (!c) return;
  s->c = NULL;
  s->st = NULL;
  s->k->open--;
  arena_reset(&s->arena); /* as the proxy does: before the conn */
  conn_close(c);
}
KIT void seen_gently(struct seen *s) {
  struct conn *c = s->c;
  s->c = NULL;
  s->st = NULL;
  s->k->open--;
  arena_reset(&s->arena);
  conn_close_gently(c, 1000);
}
KIT void seen_reset(struct seen *s, enum end why) {
  struct conn *c = s->c;
  h2_stream_blame(s->st, why);
  s->c = NULL;
  s->st = NULL;
  s->k->open--;
  arena_reset(&s->arena);
  conn_reset(c);
}

KIT size_t seen_data(struct conn *c, struct span bytes) {
  struct seen *s = c->owner;
  if (s->sloth) bytes = span_sub(bytes, 0, s->takes < bytes.len ? s->takes : bytes.len);
  if (s->sloth) s->takes -= bytes.len;
  s->got += bytes.len;
  size_t n = bytes.len < sizeof(s->last) ? bytes.len : sizeof(s->last);
  if (n) memcpy(s->last, bytes.ptr + (bytes.len - n), n);
  return bytes.len;
}
KIT void seen_eof(struct conn *c) { ((struct seen *)c->owner)->eofs++; }
KIT void seen_error(struct conn *c, int err) {
  struct seen *s = c->owner;
  s->errors++;
  s->err = err;
  s->word = h2_stream_end_word(s->st);
  if (s->k->on_error) s->k->on_error(s);
  if (!s->k->keep || !s->k->h || h2_any(s->k->h, H2_ENDED)) seen_close(s);
}
KIT void seen_drained(struct conn *c) { ((struct seen *)c->owner)->drained++; }
KIT void seen_open(struct conn *c, int err) { (void)c, (void)err; }
KIT void seen_timer(struct conn *c) { (void)c; }

KIT void seen_message(struct conn *c, enum end end) {
  struct seen *s = c->owner;
  s->heads++;
  s->end = end;
  if (!s->k->headless) h2_stream_expect(s->st, HTTP_BODY_CHUNKED, 0);
  if (s->k->on_head) s->k->on_head(s);
}

static const struct conn_events seen_events = {
    .on_open = seen_open,
    .on_data = seen_data,
    .on_eof = seen_eof,
    .on_error = seen_error,
    .on_drained = seen_drained,
    .on_timer = seen_timer,
    .on_message = seen_message,
};

/* ---- the owner of the connection ---- */

KIT bool kit_on_stream(struct h2_stream *st) {
  struct kit *k = h2_owner(h2_stream_h2(st));
  uint32_t id = st->id;
  if (k->refuse || (k->lenient && id / 2 >= KIT_SEEN)) return false;
  check(id / 2 < KIT_SEEN && !k->seen[id / 2]);
  struct seen *s = mem_alloc(sizeof(*s));
  *s = (struct seen){.k = k, .id = id, .st = st, .c = h2_stream_conn(st), .sloth = k->sloth};
  k->seen[id / 2] = s;
  k->seen_count++;
  k->open++;
  arena_init(&s->arena, NULL, 1 << 20);
  conn_attach(s->c, &seen_events, s);
  h2_stream_section(st, &s->section, &s->arena);
  conn_read_start(s->c);
  return true;
}
KIT struct h2_section *kit_on_trailers(struct h2_stream *st, struct arena **arena) {
  struct seen *s = h2_stream_conn(st)->owner;
  check(s->st == st);
  (void)arena;
  return NULL;
}
KIT void kit_on_idle(struct h2 *h) { ((struct kit *)h2_owner(h))->idles++; }
KIT void kit_on_end(struct h2 *h, enum end end) {
  struct kit *k = h2_owner(h);
  k->ends++;
  k->end = end;
  k->h = NULL;
  for (uint32_t i = 0; i < KIT_SEEN; i++) /* who heard of an error before */
    if (k->seen[i] && k->seen[i]->errors) seen_close(k->seen[i]);
  h2_free(h);
  conn_close_gently(k->c, 1000);
  k->c = NULL;
}
KIT void kit_on_timer(struct h2 *h) { ((struct kit *)h2_owner(h))->timers++; }

static const struct h2_events kit_events = {
    .on_stream = kit_on_stream,
    .on_trailers = kit_on_trailers,
    .on_idle = kit_on_idle,
    .on_end = kit_on_end,
    .on_timer = kit_on_timer,
};

/* ---- the world ---- */

static const struct h2_limits kit_limits = {
    .streams = 100,
    .stream_window = 65536,
    .stream_window_most = 1 << 20,
    .windows_grown = 2 << 20,
    .window = 1 << 20,
    .header_bytes = 16384,
    .headers = 100,
    .resets = 100,
    .glitches = 1000,
};

KIT void kit_accept(struct conn *listener, struct conn *c) {
  struct kit *k = listener->owner;
  const struct h2_config config = {.pool = k->pool,
                                   .conn = c,
                                   .events = &kit_events,
                                   .limits = k->limits,
                                   .owner = k,
                                   .server = true};
  k->c = c;
  k->h = h2_new(&config);
  check(k->h != NULL);
}

KIT void kit_wire_data(struct sim_peer *p, struct span bytes, void *ctx) {
  (void)p;
  h2_peer_read(&((struct kit *)ctx)->peer, bytes);
}
KIT void kit_wire_close(struct sim_peer *p, bool reset, void *ctx) {
  struct kit *k = ctx;
  (void)p;
  k->closed = true;
  k->reset = reset;
}

KIT void kit_flush(struct kit *k) {
  if (k->peer.out.len && !k->closed) sim_peer_write(k->wire, text_span(&k->peer.out));
  k->peer.out.len = 0;
}

/* kit_run lets all happen that needs no time; what the client sees must be in order. */
KIT void kit_run(struct kit *k) {
  for (int i = 0; i < 200000; i++) {
    bool moved = k->peer.out.len > 0;
    kit_flush(k);
    moved |= sim_net_step(k->sim);
    if (sim_loop_due((struct sim_loop *)k->loop)) {
      assert_int_equal(loop_run_turn(k->loop, 0), 0);
      moved = true;
    }
    if (k->peer.fault[0] && !k->lenient) fail_msg("%s", k->peer.fault);
    if (!moved) return;
  }
  fail_msg("it never comes to rest");
}
KIT void kit_wait(struct kit *k, uint64_t ms) {
  sim_advance(k->sim, ms);
  kit_run(k);
}

KIT struct kit *kit_new_with(const struct h2_limits *limits, uint32_t streams_max) {
  struct kit *k = mem_alloc(sizeof(*k));
  const struct loop_config config = {.conns_max = 8192, .buffer_bytes = 4096,
                                     .buffers_first = 64, .buffers_max = 64, .seed = 1};
  struct addr at;
  assert_true(addr_parse(SPAN_LIT("127.0.0.1:8000"), &at));
  k->limits = *limits;
  k->sim = sim_new(1, NULL);
  k->loop = sim_loop_new(k->sim, &config);
  k->pool = h2_pool_new(k->loop, 4, streams_max);
  k->listener = conn_listen(k->loop, sim_listen_fd(k->sim, &at), kit_accept, k);
  h2_peer_init(&k->peer);
  k->wire = sim_peer_connect(k->sim, &at);
  sim_peer_on_data(k->wire, kit_wire_data, kit_wire_close, k);
  return k;
}
/* kit_start is a connection on which both have said hello. */
KIT struct kit *kit_start(const struct h2_limits *limits) {
  struct kit *k = kit_new_with(limits, 4096);
  h2_peer_hello(&k->peer, NULL, 0);
  kit_run(k);
  assert_non_null(k->h);
  assert_int_equal(k->peer.settings, 2);
  return k;
}

/* kit_whole checks that of what the peer may send nothing is lost: what it has, what waits to be
 * given back, what is held for owners: of a stream all, of the connection what is withheld. Until
 * it acknowledged our SETTINGS a stream has what RFC 9113 section 6.9.2 gives it at first. */
KIT void kit_whole(struct kit *k) {
  const struct h2_scanner *scan = &k->h->scanner; /* what is still to come of a frame */
  if (h2_any(k->h, H2_OVER | H2_ENDED)) return; /* it may have ended inside a frame */
  bool told = !(scan->frame.flags & H2_FLAG_PADDED) || scan->frame.padding; /* its head is whole */
  bool inside = scan->frame.type == H2_DATA && told && !h2_any(k->h, H2_DROPPING);
  int64_t held = inside ? scan->left : 0;
  int64_t unsettled = (int64_t)h2_window_told(k->h) - k->h->limits.stream_window;
  for (struct list *l = k->h->streams.next; l != &k->h->streams; l = l->next) {
    const struct h2_stream *st = container_of(l, struct h2_stream, link);
    assert_true(st->received >= st->read);
    int64_t mine = st->recv_window + (int64_t)st->recv_credit + (int64_t)(st->received - st->read);
    if (inside && scan->frame.stream == st->id) mine += scan->left;
    if (!stream_any(st, H2_REMOTE_END)) assert_int_equal(mine, st->recv_size + unsettled);
  }
  int64_t sum = k->h->recv_window + (int64_t)k->h->recv_credit + k->h->withheld + held;
  int64_t most = k->h->recv_size;
  if (sum != most) fail_msg("the window is %lld of %lld", (long long)sum, (long long)most);
}

/* kit_press borrows half of the buffers; kit_relax gives them back. */
KIT void kit_press(struct kit *k) {
  struct iobufs *pool = &k->loop->iobufs;
  while (!iobufs_half(pool)) {
    struct iobuf *b = iobuf_take(pool, IOBUF_MAX);
    assert_non_null(b);
    b->next = k->borrowed;
    k->borrowed = b;
  }
}
KIT void kit_relax(struct kit *k) {
  while (k->borrowed) {
    struct iobuf *b = k->borrowed;
    k->borrowed = b->next;
    iobuf_give(&k->loop->iobufs, b);
  }
}

/* kit_end ends all, and nothing may be left. */
KIT void kit_end(struct kit *k) {
  for (uint32_t i = 0; i < KIT_SEEN; i++)
    if (k->seen[i]) seen_close(k->seen[i]);
  kit_relax(k);
  if (k->h) h2_end(k->h, END_OK);
  kit_run(k);
  kit_wait(k, 100000);
  assert_int_equal(k->pool->streams.live, 0);
  assert_int_equal(k->pool->conns.live, 0);
  conn_close(k->listener);
  kit_run(k);
  assert_int_equal(k->loop->conns.live, 0);
  assert_int_equal(k->loop->iobufs.bytes_out, 0);
  h2_pool_free(k->pool);
  loop_free(k->loop);
  sim_free(k->sim);
  h2_peer_fini(&k->peer);
  for (uint32_t i = 0; i < KIT_SEEN; i++) mem_free(k->seen[i]);
  mem_free(k);
}

/* ---- what tests do ---- */

/* kit_answer sends a head; length UINT64_MAX: nobody knows it. */
KIT bool kit_answer(struct seen *s, uint16_t status, uint64_t length, bool end) {
  struct http_response r = {.status = status};
  bool known = length != UINT64_MAX;
  r.body = end ? HTTP_BODY_NONE : known ? HTTP_BODY_LENGTH : HTTP_BODY_CLOSE;
  r.has_length = known;
  r.content_length = known ? length : 0;
  return h2_send_response(s->st, &r, &s->arena, end);
}
KIT void kit_write(struct seen *s, size_t len) {
  static char bytes[200000];
  assert_true(len <= sizeof(bytes));
  for (size_t i = 0; i < len; i++) bytes[i] = (char)('a' + i % 26);
  assert_true(conn_write(s->c, span_of(bytes, len)));
}
/* kit_frame sends a frame by its parts. */
KIT void kit_frame(struct kit *k, enum h2_type type, uint8_t flags, uint32_t id,
                   struct span payload) {
  h2_peer_raw(&k->peer, &(struct h2_frame){.type = (uint8_t)type, .flags = flags, .stream = id},
              payload);
}
/* kit_ended: the connection ended for this cause, and the client was told so. */
KIT void kit_ended(struct kit *k, enum end end) {
  kit_run(k);
  assert_int_equal(k->ends, 1);
  if (k->end != end) fail_msg("it ended by %s", end_get(k->end)->word.ptr);
  assert_true(k->peer.goaways > 0);
  assert_int_equal(k->peer.goaway_code, end_get(end)->h2_error);
}

#endif
