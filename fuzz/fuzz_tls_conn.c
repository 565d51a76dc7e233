/* fuzz_tls_conn.c: the edge of TLS records (io/stream_tls.c and what it calls, of either side), in
 * the simulated network. The input is a program: what the TLS library at the other end writes, how
 * its bytes are cut, damaged, held back or cut off on their way, what weir's owner does meanwhile;
 * or, raw, nothing but the bytes of a client that is none. What is checked: tls_world.c. In the
 * fuzz profile BoringSSL is built in its fuzzer mode, so that damage gets beyond the record layer
 * and a handshake's bytes mean the same each time; elsewhere damage must be noticed. */
#include "program.h"
#include "tls_world.h"

#include "weir/base/check.h"
#include "weir/io/conn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { OPS_MAX = 200, LINES_MAX = 4, OUT_MAX = 1 << 20 };

/* ---- the library's end, and what is done to its bytes ---- */

static void say(struct tw_line *l, struct program *p) { tw_say(l, two_bytes(p) % 5000); }

static void say_much(struct tw_line *l, struct program *p) {
  for (int n = byte(p) % 16; n > 0 && l->out.len < OUT_MAX; n--) tw_say(l, 4096);
}

static void new_keys(struct tw_line *l, struct program *p) {
  bool both = byte(p) & 1;
  if (!l->ssl || SSL_in_init(l->ssl) || SSL_version(l->ssl) != TLS1_3_VERSION) return;
  (void)SSL_key_update(l->ssl, both ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED);
  tw_go(l);
}

static void part(struct tw_line *l, struct program *p) { tw_send(l, byte(p)); }
static void most(struct tw_line *l, struct program *p) {
  size_t left = l->out.len - l->sent, but = two_bytes(p);
  tw_send(l, left > but ? left - but : 0);
}

/* bytewise sends each in a packet of its own. */
static void bytewise(struct tw_line *l, struct program *p) {
  for (size_t n = byte(p); n > 0 && l->sent < l->out.len; n--) {
    tw_send(l, 1);
    tw_run(l->w);
  }
}

static void flip(struct tw_line *l, struct program *p) {
  size_t left = l->out.len - l->sent, at = two_bytes(p);
  uint8_t bits = byte(p);
  if (left == 0 || bits == 0) return;
  l->out.ptr[l->sent + at % left] ^= (char)bits;
  l->wild = true;
}

static void put(struct tw_line *l, struct program *p) {
  size_t left = l->out.len - l->sent, at = two_bytes(p) % (left + 1);
  struct span junk = bytes(p, byte(p));
  if (junk.len == 0 || l->out.len > OUT_MAX) return;
  struct text rest = {0};
  text_put(&rest, span_from(text_span(&l->out), l->sent + at));
  l->out.len = l->sent + at;
  text_put(&l->out, junk);
  text_put(&l->out, text_span(&rest));
  text_fini(&rest);
  l->wild = true;
}

static void lose(struct tw_line *l, struct program *p) {
  size_t left = l->out.len - l->sent;
  if (left == 0) return;
  size_t at = l->sent + two_bytes(p) % left, n = two_bytes(p) % (l->out.len - at) + 1;
  memmove(l->out.ptr + at, l->out.ptr + at + n, l->out.len - at - n);
  l->out.len -= n;
  l->wild = true;
}

/* twice sends again what went before: a record that is replayed. */
static void twice(struct tw_line *l, struct program *p) {
  size_t n = two_bytes(p);
  if (n > l->sent) n = l->sent;
  if (n == 0 || l->out.len > OUT_MAX) return;
  struct text again = {0};
  text_put(&again, span_sub(text_span(&l->out), l->sent - n, n));
  text_put(&l->out, text_span(&again));
  text_fini(&again);
  l->wild = true;
}

static void fin(struct tw_line *l, struct program *p) {
  bool politely = byte(p) & 1;
  if (!l->wire) return;
  if (politely) tw_bye(l);
  tw_go(l);
  tw_send(l, byte(p) & 1 ? SIZE_MAX : 0);
  l->cut = true;
  if (l->wire) sim_peer_shutdown(l->wire);
}

static void reset(struct tw_line *l, struct program *p) {
  l->cut = true;
  if (byte(p) % 4 == 0 && l->wire) sim_peer_reset(l->wire);
}

static void window(struct tw_line *l, struct program *p) {
  size_t n = two_bytes(p);
  if (l->wire) sim_peer_window(l->wire, n > 50000 ? SIZE_MAX : n);
}

/* ---- weir's owner ---- */

static void tell(struct tw_line *l, struct program *p) { tw_tell(l, two_bytes(p) % 20000); }

static void reading(struct tw_line *l, struct program *p) {
  uint8_t how = byte(p);
  l->take_max = how & 8 ? SIZE_MAX : how & 16 ? two_bytes(p) : l->take_max;
  if (!l->c || !l->opened || l->error) return;
  switch (how % 4) {
    case 0: conn_read_stop(l->c); break;
    case 1: conn_watch(l->c); break;
    case 2: conn_read_bulk(l->c, how & 32); break;
    default: conn_read_start(l->c); break;
  }
}

static void let_go(struct tw_line *l, struct program *p) {
  struct conn *c = l->c;
  uint8_t how = byte(p);
  if (!c) return;
  if (how % 8 == 7 && l->opened && !l->error) { /* half a close: it goes on reading */
    conn_finish(c);
    return;
  }
  bool connected = l->opened || l->w->conf.kind != TW_CLIENT || conn_tls_shaking(c);
  l->closed = true;
  l->c = NULL;
  if (!connected) how = 0;
  if (how % 3 == 0) conn_close(c);
  if (how % 3 == 1) conn_reset(c);
  if (how % 3 == 2) conn_close_gently(c, 1000);
}

/* ---- the world ---- */

static void wait(struct tw_line *l, struct program *p) { sim_advance(l->w->sim, byte(p)); }
static void sign(struct tw_line *l, struct program *p) { (void)l, (void)p, tw_sign(); }
static void spend(struct tw_line *l, struct program *p) { tw_spend(l->w, byte(p)); }
static void rest(struct tw_line *l, struct program *p) { (void)p, tw_rest(l->w); }
static void run(struct tw_line *l, struct program *p) { (void)p, tw_run(l->w); }

static void another(struct tw_line *l, struct program *p) {
  uint8_t how = byte(p);
  struct tls_world *w = l->w;
  if (w->lines > LINES_MAX) return;
  tw_end(w);
  tw_begin(w, how & 1, how & 2);
}

static void (*const ops[])(struct tw_line *l, struct program *p) = {
    say,  say_much, new_keys, part,    most, bytewise, flip,    put,    lose, twice,
    fin,  reset,    window,   tell,    tell, reading,  reading, let_go, wait, sign,
    rest, rest,     run,      another, say,  another,  flip,    spend,
};

static struct sim_faults faults_of(uint8_t how) {
  static const struct sim_faults some = {.short_read = 300,
                                         .short_write = 300,
                                         .delay = 200,
                                         .reorder = 500,
                                         .enobufs = 150,
                                         .cancel_race = 500};
  struct sim_faults faults = {0};
  if (how & 1) faults = some;
  if (how & 2) faults.reset = 8;
  if (how & 4) faults.refuse = 100;
  return faults;
}

/* raw puts the rest of the input on the wire, in pieces. */
static void raw(struct tls_world *w, struct program *p) {
  size_t piece = byte(p);
  for (int i = 0; i < OPS_MAX && p->left > 0; i++) {
    if (w->line.wire) sim_peer_write(w->line.wire, bytes(p, piece ? piece : SIZE_MAX));
    tw_run(w);
    tw_sign();
  }
}

static void program_run(struct tls_world *w, struct program *p) {
  for (int i = 0; i < OPS_MAX && p->left > 0; i++) {
    ops[byte(p) % array_count(ops)](&w->line, p);
    if (byte(p) & 1) tw_rest(w);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  struct program p = {data, len};
  uint8_t how = byte(&p), world = byte(&p);
  struct tw_conf conf = {.kind = (enum tw_kind)(how % TW_COUNT),
                         .old = how / 8 & 1,
                         .shows = how / 16 & 1,
                         .raw = how / 32 & 1,
                         .seed = world,
                         .faults = faults_of(world & 7),
                         .iobufs = world & 8 ? 300000 : 0,
                         .clock = world & 16 ? world & 32 ? 2000000 : 400000 : 0};
  struct tls_world *w = tw_new(&conf);
  tw_begin(w, false, false);
  if (conf.raw)
    raw(w, &p);
  else
    program_run(w, &p);
  tw_end(w);
  tw_free(w);
  return 0;
}
