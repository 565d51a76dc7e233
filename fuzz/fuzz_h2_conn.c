/* fuzz_h2_conn.c: a whole HTTP/2 connection (mux/) in the simulated world. The input is a program:
 * what the client sends, in order or not, what the owners of streams do, how fast the client
 * reads, how time goes by. Checked: what weir sends parses, decodes and keeps to the client's
 * windows and settings (h2_peer.h), no byte of our windows is lost, nothing is left at the end. */
#define H2_KIT_BARE
#include "../tests/unit/mux/h2_kit.h"
#include "program.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { OPS_MAX = 300, IDS = 64 };

static uint32_t number(struct program *p) {
  static const uint32_t numbers[] = {0, 1, 2, 100, 16384, 65535, 65536, 1 << 20, INT32_MAX};
  uint8_t b = byte(p);
  return b < array_count(numbers) ? numbers[b] : (uint32_t)b * 37;
}

static uint32_t id_of(struct program *p) { return (uint32_t)byte(p) % IDS * 2 + 1; }

static char filler[16384];

/* ---- the client ---- */

static void request(struct kit *k, struct program *p) {
  static const char *const heads[] = {GET, POST, GET "x-a: 1\nx-b: 2\n",
                                      POST "content-length: 5\n"};
  if (k->peer.next_id >= IDS * 2) return;
  uint8_t how = byte(p);
  struct h2_peer_stream *st = h2_peer_open(&k->peer);
  struct span block = h2_peer_block(&k->peer, heads[how % array_count(heads)]);
  h2_peer_headers(&k->peer, st->id, block, how & 4, how & 8 ? 5 : 0);
}

static void body(struct kit *k, struct program *p) {
  struct h2_peer_stream *st = h2_peer_find(&k->peer, id_of(p));
  size_t n = number(p), may = st ? h2_peer_may(&k->peer, st) : 0;
  uint8_t how = byte(p);
  if (n > may && !(how & 16)) n = may;
  if (n > sizeof(filler)) n = sizeof(filler);
  if (!st) return;
  if (how & 1 && n > 600) h2_peer_padded(&k->peer, st->id, span_of(filler, n / 2), how, how & 2);
  else h2_peer_data(&k->peer, st->id, span_of(filler, n), how & 2);
}

static void settings(struct kit *k, struct program *p) {
  struct h2_row rows[3];
  uint8_t count = byte(p) % 4;
  for (uint8_t i = 0; i < count; i++) {
    rows[i].id = (enum h2_setting)(byte(p) % 9 + 1);
    rows[i].value = number(p);
    if (rows[i].id == H2_SETTING_MAX_FRAME_SIZE && rows[i].value < H2_FRAME_SIZE_MIN)
      rows[i].value = H2_FRAME_SIZE_MIN;
    if (rows[i].id == H2_SETTING_MAX_FRAME_SIZE && rows[i].value > H2_FRAME_SIZE_MAX)
      rows[i].value = H2_FRAME_SIZE_MAX;
  }
  if (k->peer.change_count < H2_PEER_CHANGES) h2_peer_settings(&k->peer, rows, count);
}

/* frame sends one of any kind, and makes the peer know what it said. */
static void frame(struct kit *k, struct program *p) {
  struct h2_frame f = {.type = byte(p) % 18, .flags = byte(p)};
  f.stream = byte(p) % 3 ? id_of(p) : byte(p) % 4;
  struct span payload = bytes(p, byte(p) % 64);
  if (f.type == H2_SETTINGS && !(f.flags & H2_FLAG_ACK)) return; /* see settings() */
  while (f.type == H2_HEADERS && f.stream % 2 && f.stream >= k->peer.next_id)
    (void)h2_peer_open(&k->peer);
  if (f.type == H2_WINDOW_UPDATE) {
    struct h2_peer_stream *st = h2_peer_find(&k->peer, f.stream);
    if (f.stream == 0) k->peer.recv_window += UINT32_MAX;
    else if (st) st->recv_window += UINT32_MAX;
  }
  k->peer.wild = true;
  h2_peer_raw(&k->peer, &f, payload);
}

static void reset(struct kit *k, struct program *p) {
  uint32_t id = id_of(p);
  if (id < k->peer.next_id) h2_peer_reset(&k->peer, id, (enum h2_error)(byte(p) % 15));
}

static void window(struct kit *k, struct program *p) {
  uint32_t id = byte(p) % 4 ? id_of(p) : 0, n = number(p);
  if (n && id < k->peer.next_id) h2_peer_window(&k->peer, id, n);
}

static void junk(struct kit *k, struct program *p) {
  k->lenient = k->peer.wild = true;
  text_put(&k->peer.out, bytes(p, byte(p)));
}

static void ping(struct kit *k, struct program *p) {
  for (uint8_t n = byte(p); n > 0; n--) h2_peer_ping(&k->peer);
}

/* ---- the owners ---- */

static struct seen *owner(struct kit *k, struct program *p) {
  struct seen *s = k->seen[id_of(p) / 2];
  return s && s->c ? s : NULL;
}

static void answer(struct kit *k, struct program *p) {
  struct seen *s = owner(k, p);
  uint8_t how = byte(p);
  uint32_t len = number(p) % 70000;
  if (!s || s->answered) return;
  uint64_t said = how & 1 ? len : UINT64_MAX;
  if (!kit_answer(s, how & 2 ? 200 : 404, said, how & 4)) return;
  s->answered = true;
  s->whole = how & 5;
  if (!(how & 4) && len) kit_write(s, len);
}

static void more(struct kit *k, struct program *p) {
  struct seen *s = owner(k, p);
  size_t len = number(p) % 30000;
  if (!s || !s->answered || s->whole || s->c->flags & CONN_FIN) return;
  if (len && conn_pending(s->c) < 100000) kit_write(s, len);
}

static void let_go(struct kit *k, struct program *p) {
  struct seen *s = owner(k, p);
  uint8_t how = byte(p);
  if (!s) return;
  switch (how % 6) {
    case 0: seen_close(s); break;
    case 1: seen_reset(s, END_UPSTREAM_RESET); break;
    case 2: h2_stream_fail(s->st, END_CLIENT_H2_PROTOCOL); break;
    case 3:
      if (s->answered) seen_gently(s);
      break;
    case 4:
      if (s->answered) conn_finish(s->c);
      break;
    default:
      s->sloth = !s->sloth;
      if (!s->sloth) conn_read_start(s->c);
      break;
  }
}

static void priority(struct kit *k, struct program *p) {
  struct seen *s = owner(k, p);
  uint8_t how = byte(p);
  if (s) h2_stream_priority(s->st, (struct http_priority){how % 8, how & 8});
}

/* ---- the world ---- */

static void reading(struct kit *k, struct program *p) {
  uint32_t n = number(p);
  if (!k->closed) sim_peer_window(k->wire, n > 100000 ? SIZE_MAX : n);
}
static void wait(struct kit *k, struct program *p) { sim_advance(k->sim, (uint64_t)byte(p) * 20); }
static void rest(struct kit *k, struct program *p) { (void)p, kit_run(k); }
static void drain(struct kit *k, struct program *p) {
  if (k->h && byte(p) % 4 == 0) h2_drain(k->h);
}
static void end(struct kit *k, struct program *p) {
  uint8_t how = byte(p);
  if (how % 16 == 0 && k->h) h2_end(k->h, END_DRAIN);
  if (how % 16 == 1 && !k->closed) sim_peer_shutdown(k->wire);
  if (how % 16 == 2) k->refuse = !k->refuse;
  if (how % 16 == 3) k->keep = !k->keep;
  if (how % 16 == 4) k->sloth = !k->sloth;
}

static void (*const ops[])(struct kit *k, struct program *p) = {
    request, request, body,   body,     settings, frame,   frame, reset, window, window, junk,
    ping,    answer,  answer, more,     let_go,   let_go,  priority, reading, wait, rest, rest,
    drain,   end,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  struct program p = {data, len};
  struct h2_limits limits = kit_limits;
  uint8_t how = byte(&p);
  if (how & 1) limits.streams = 3;
  if (how & 2) limits.stream_window = 1000;
  if (how & 4) limits.window = 5000;
  if (how & 8) limits.resets = limits.glitches = 5;
  if (how & 16) limits.header_bytes = 200;
  struct kit *k = kit_new_with(&limits, how & 32 ? 4 : 4096);
  if (how & 128) {
    k->loop->share_ns = 0;
    h2_pool_pace(k->pool, 2);
  }
  h2_peer_hello(&k->peer, NULL, 0);
  if (!(how & 64)) kit_run(k);
  for (int i = 0; i < OPS_MAX && p.left > 0; i++) {
    ops[byte(&p) % array_count(ops)](k, &p);
    if (byte(&p) & 1) {
      kit_run(k);
      if (k->h) kit_whole(k);
    }
  }
  if (!k->closed) sim_peer_window(k->wire, SIZE_MAX);
  kit_run(k);
  if (k->h) kit_whole(k);
  kit_end(k);
  return 0;
}
