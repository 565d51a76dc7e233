/* h2_client.c: see h2_client.h. */
#include "h2_client.h"

#include <stdio.h>

#include "weir/base/mem.h"

static struct plan *plan_of(const struct h2_client *c, const struct h2_job *job) {
  return &c->w->plans[job->plan];
}

static struct h2_client *client_of(const struct h2_peer *p) { return p->owner; }

static struct h2_job *job_of(struct h2_client *c, const struct h2_peer_stream *st) {
  for (uint32_t i = 0; i < c->count; i++)
    if (c->jobs[i].stream == st->id) return &c->jobs[i];
  check(false);
  return NULL;
}

static void decided(struct h2_client *c, struct h2_job *job, enum outcome outcome) {
  struct plan *p = plan_of(c, job);
  if (job->over) return;
  job->over = true;
  if (outcome == OUT_OK && !plan_bodyless(p) && p->got_body != p->up_len)
    world_fault(c->w, "h2: plan %u: %llu bytes of body look complete, %u are", p->id,
                (unsigned long long)p->got_body, p->up_len);
  p->outcome = outcome;
}

/* ---- what comes ---- */

static void who(struct h2_client *c, struct plan *p) {
  const struct http_fields *f = &c->peer.block.fields;
  const struct http_field *nonce = http_fields_find_name(f, SPAN_LIT("x-nonce"));
  uint64_t id = UINT64_MAX;
  p->outcome = nonce ? OUT_OK : OUT_ANSWER;
  if (nonce && (!span_u64(nonce->value, &id) || id != p->id))
    world_fault(c->w, "h2: plan %u got the response of %llu", p->id, (unsigned long long)id);
  if (nonce && p->got_status != p->status) world_fault(c->w, "h2: plan %u: status", p->id);
  if (http_fields_find_name(f, SPAN_LIT("connection")))
    world_fault(c->w, "h2: plan %u: a field that HTTP/2 does not have", p->id);
}

static void on_head(struct h2_peer *peer, struct h2_peer_stream *st) {
  struct h2_client *c = client_of(peer);
  struct h2_job *job = job_of(c, st);
  struct plan *p = plan_of(c, job);
  if (!st->headed) job->go = true;
  if (!st->headed || st->trailers) return;
  p->got_status = (uint16_t)st->status;
  if (!job->over) who(c, p);
}

static void on_data(struct h2_peer *peer, struct h2_peer_stream *st, struct span bytes) {
  struct h2_client *c = client_of(peer);
  struct h2_job *job = job_of(c, st);
  struct plan *p = plan_of(c, job);
  if (job->over) return;
  for (size_t i = 0; i < bytes.len && p->outcome == OUT_OK; i++) {
    if (p->got_body + i < p->up_len && bytes.ptr[i] == plan_byte(p, false, p->got_body + i))
      continue;
    world_fault(c->w, "h2: plan %u: byte %llu of the body is not its own", p->id,
                (unsigned long long)(p->got_body + i));
    return;
  }
  p->got_body += bytes.len;
}

static void on_end(struct h2_peer *peer, struct h2_peer_stream *st) {
  struct h2_client *c = client_of(peer);
  struct h2_job *job = job_of(c, st);
  struct plan *p = plan_of(c, job);
  bool whole = st->ended && st->headed;
  if (whole) decided(c, job, p->outcome);
  else decided(c, job, st->headed || st->interims ? OUT_CUT : OUT_LOST);
  /* What was answered before all was sent is not sent on. */
  if (st->ended && !st->done && !st->cancelled && !st->reset && world_chance(c->w, 50))
    h2_peer_reset(peer, st->id, H2_NO_ERROR);
}

static void all_gone(struct h2_client *c, bool reset) {
  c->gone = true;
  c->reset = reset;
  for (uint32_t i = 0; i < c->count; i++) {
    struct h2_job *job = &c->jobs[i];
    struct h2_peer_stream *st = job->stream ? h2_peer_find(&c->peer, job->stream) : NULL;
    if (st) decided(c, job, st->headed || st->interims ? OUT_CUT : OUT_LOST);
    job->over = true;
  }
}

static void wire_data(struct sim_peer *wire, struct span bytes, void *ctx) {
  struct h2_client *c = ctx;
  (void)wire;
  h2_peer_read(&c->peer, bytes);
  if (c->peer.fault[0]) world_fault(c->w, "h2 client: %s", c->peer.fault);
}

static void wire_close(struct sim_peer *wire, bool reset, void *ctx) {
  struct h2_client *c = ctx;
  sim_peer_free(wire);
  c->wire = NULL;
  all_gone(c, reset);
}

/* ---- what goes ---- */

static void open_job(struct h2_client *c, struct h2_job *job) {
  struct plan *p = plan_of(c, job);
  struct text lines = {0};
  text_printf(&lines, ":method: %s\n:scheme: http\n:authority: h.test\n:path: %s/r/%u\n",
              p->method, p->prefix, p->id);
  if (p->frame == FRAME_LENGTH) text_printf(&lines, "content-length: %u\n", p->len);
  if (p->expect) text_lit(&lines, "expect: 100-continue\n");
  if (p->grpc) text_lit(&lines, "content-type: application/grpc\nte: trailers\n");
  text_lit(&lines, "x-forwarded-for: 6.6.6.6\nx-hop: 1\n");
  if (world_chance(c->w, 30))
    text_printf(&lines, "priority: u=%u%s\n", (unsigned)world_draw(c->w, 8),
                world_chance(c->w, 50) ? ", i" : "");
  text_put(&lines, span_of("", 1));
  lines.len--;
  if (lines.ptr[lines.len - 1] == '\n') lines.ptr[lines.len - 1] = 0;
  struct h2_peer_stream *st = h2_peer_open(&c->peer);
  job->stream = st->id;
  bool end = p->frame == FRAME_NONE;
  struct span block = h2_peer_block(&c->peer, lines.ptr);
  size_t piece = world_chance(c->w, 20) ? 1 + (block.len + 3) / 4 : 0;
  h2_peer_headers(&c->peer, st->id, block, end, piece);
  job->go = !p->expect;
  text_fini(&lines);
}

/* send_body sends the next piece; false: nothing can be sent now. */
static bool send_body(struct h2_client *c, struct h2_job *job) {
  struct plan *p = plan_of(c, job);
  struct h2_peer_stream *st = h2_peer_find(&c->peer, job->stream);
  if (!job->go || st->done || st->cancelled || st->reset) return false;
  size_t left = p->len - (size_t)st->sent, may = h2_peer_may(&c->peer, st);
  size_t n = left < may ? left : may;
  if (left && !n) return false;
  if (n > 1 && world_chance(c->w, 50)) n = 1 + (size_t)world_draw(c->w, n);
  char bytes[H2_FRAME_SIZE_MIN];
  for (size_t i = 0; i < n; i++) bytes[i] = plan_byte(p, true, st->sent + i);
  bool end = n == left && !(p->hold_body) && world_chance(c->w, 70);
  bool empty = n == 0 && left == 0;
  if (empty) end = !p->hold_body;
  if (empty && !end) return false;
  if (n && n < 200 && n + 256 < may && world_chance(c->w, 20))
    h2_peer_padded(&c->peer, st->id, span_of(bytes, n), (uint8_t)world_draw(c->w, 255), end);
  else
    h2_peer_data(&c->peer, st->id, span_of(bytes, n), end);
  return true;
}

static uint32_t opened(const struct h2_client *c) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < c->count; i++) n += c->jobs[i].stream && !c->jobs[i].over;
  return n;
}

static void cancel(struct h2_client *c, struct h2_job *job) {
  if (job->cancel < 0 || job->over || job->cancel-- > 0) return;
  struct h2_peer_stream *st = h2_peer_find(&c->peer, job->stream);
  if (st->reset || st->cancelled) return;
  h2_peer_reset(&c->peer, job->stream, H2_CANCEL);
  decided(c, job, st->headed || st->interims ? OUT_CUT : OUT_LOST);
}

/* refused: GOAWAY says that this one was not looked at. */
static bool refused(const struct h2_client *c, const struct h2_job *job) {
  return c->peer.goaways && job->stream > c->peer.goaway_last;
}

static void tick_job(struct h2_client *c, struct h2_job *job) {
  if (!job->stream) {
    bool may = opened(c) < c->most && opened(c) < c->peer.theirs.max_concurrent_streams;
    if (c->peer.goaways) job->over = true; /* never sent */
    else if (may && c->peer.settings && world_chance(c->w, 30)) open_job(c, job);
    return;
  }
  if (refused(c, job)) decided(c, job, OUT_LOST);
  if (!job->over || world_chance(c->w, 50)) (void)send_body(c, job);
  cancel(c, job);
}

/* give_back opens windows in small pieces, as a stingy client does. */
static void give_back(struct h2_client *c) {
  if (!c->stingy) return;
  if (c->peer.recv_window < 65535) h2_peer_window(&c->peer, 0, c->stingy);
  for (uint32_t id = 1; id < c->peer.next_id; id += 2) {
    struct h2_peer_stream *st = h2_peer_find(&c->peer, id);
    bool open = !st->ended && !st->reset && !st->cancelled;
    if (open && st->recv_window < (int64_t)c->stingy) h2_peer_window(&c->peer, id, c->stingy);
  }
}

static void flush(struct h2_client *c) {
  if (c->holds) return;
  if (c->peer.out.len && c->wire) sim_peer_write(c->wire, text_span(&c->peer.out));
  c->peer.out.len = 0;
}

static void say_a_little(struct h2_client *c) {
  struct text *out = &c->peer.out;
  sim_peer_write(c->wire, span_sub(text_span(out), 0, HOLDS_NOT));
  out->len -= HOLDS_NOT;
  memmove(out->ptr, out->ptr + HOLDS_NOT, out->len);
}

void h2_client_tick(struct h2_client *c) {
  if (!c->wire) return;
  if (c->window) sim_peer_window(c->wire, c->window);
  for (uint32_t i = 0; i < c->count; i++) tick_job(c, &c->jobs[i]);
  if (world_chance(c->w, 60)) give_back(c);
  flush(c);
}

bool h2_client_done(const struct h2_client *c) {
  for (uint32_t i = 0; i < c->count; i++)
    if (!c->jobs[i].over) return false;
  return true;
}

struct h2_client *h2_client_new(struct world *w, uint32_t worker) {
  struct h2_client *c = mem_alloc(sizeof *c);
  c->w = w;
  c->worker = worker;
  c->most = H2_JOBS;
  h2_peer_init(&c->peer);
  c->peer.owner = c;
  c->peer.on_head = on_head;
  c->peer.on_data = on_data;
  c->peer.on_end = on_end;
  return c;
}

void h2_client_add(struct h2_client *c, const struct plan *p, int32_t cancel_at) {
  check(c->count < H2_JOBS);
  c->jobs[c->count++] = (struct h2_job){.plan = p->id, .cancel = cancel_at};
}

void h2_client_start(struct h2_client *c, const struct h2_row *rows, size_t count) {
  char text[32];
  (void)snprintf(text, sizeof text, "127.0.0.1:%u", 8000 + c->worker);
  struct addr at = world_addr(text);
  c->wire = sim_peer_connect(c->w->sim, &at);
  sim_peer_on_data(c->wire, wire_data, wire_close, c);
  if (c->window) sim_peer_window(c->wire, c->window);
  c->peer.auto_window = !c->stingy;
  h2_peer_hello(&c->peer, rows, count);
  if (c->holds) say_a_little(c);
  flush(c);
}

void h2_client_end(struct h2_client *c, bool reset) {
  if (!c->wire) return;
  if (!reset) {
    sim_peer_shutdown(c->wire);
    return;
  }
  sim_peer_reset(c->wire);
  sim_peer_free(c->wire);
  c->wire = NULL;
  all_gone(c, true);
}

void h2_client_free(struct h2_client *c) {
  h2_peer_fini(&c->peer);
  mem_free(c);
}
