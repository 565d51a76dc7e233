/* proxy_client.c: clients: write requests, read responses strictly, and compare each with its
 * plan. What weir may never do to a client is a fault here: bytes that do not parse or that nobody
 * asked for, another one's response, a body that differs, truncation that looks complete. */
#include "proxy_world.h"

#include <stdio.h>

#include "weir/base/mem.h"

enum { CLIENT_HEAD, CLIENT_LENGTH, CLIENT_CHUNKED, CLIENT_CLOSE, CLIENT_TUNNEL };

static struct plan *current(const struct client *c) {
  return c->got < c->sent ? &c->w->plans[c->plans[c->got]] : NULL;
}

static struct span rest(const struct client *c) { return span_from(text_span(&c->in), c->at); }

struct client *client_new(struct world *w, uint32_t worker) {
  struct client *c = mem_alloc(sizeof *c);
  c->w = w;
  c->worker = worker;
  list_push_tail(&w->clients, &c->link);
  return c;
}

void client_add(struct client *c, const struct plan *p) {
  check(c->count < array_count(c->plans));
  c->plans[c->count++] = p->id;
}

void client_free(struct client *c) {
  list_remove(&c->link);
  if (c->peer) sim_peer_free(c->peer);
  text_fini(&c->in);
  mem_free(c);
}

bool client_done(const struct client *c) {
  if (c->state == CLIENT_TUNNEL) return c->closed || (c->keep && c->tunnel_got == c->tunnel_goal);
  return c->closed || (c->got == c->count && c->keep);
}

void client_write(struct client *c, struct span raw) {
  if (c->peer) sim_peer_write(c->peer, raw);
}

/* gone: the connection is over; what was sent and not answered is decided now. */
static void gone(struct client *c, bool reset) {
  c->closed = true;
  c->reset = reset;
  for (; c->got < c->sent; c->got++) {
    struct plan *p = current(c);
    bool inside = c->state != CLIENT_HEAD || rest(c).len || c->interims;
    if (c->state == CLIENT_TUNNEL) c->tunnel_ended = true;
    else p->outcome = inside ? OUT_CUT : OUT_LOST;
    if (c->state != CLIENT_TUNNEL) c->state = CLIENT_HEAD;
    c->interims = 0;
    c->at = c->in.len;
  }
}

void client_end(struct client *c, bool reset) {
  if (!c->peer) return;
  if (!reset) {
    sim_peer_shutdown(c->peer);
    c->fin = true;
    return;
  }
  sim_peer_reset(c->peer);
  sim_peer_free(c->peer);
  c->peer = NULL;
  gone(c, true);
}

/* ---- requests ---- */

static void write_plan(struct client *c, struct plan *p) {
  struct text out = {0};
  plan_request(c->w, p, &out);
  if (!p->expect) plan_body(c->w, p, true, p->hold_body, &out);
  bool cut = p->cut >= 0 && (size_t)p->cut < out.len;
  client_write(c, span_sub(text_span(&out), 0, cut ? (size_t)p->cut : out.len));
  text_fini(&out);
  c->sent++;
  if (cut && !p->cut_wait) client_end(c, !p->cut_fin);
}

/* may_write: one after another, or all at once but never behind a body that waits for its 100. */
static bool may_write(const struct client *c) {
  if (!c->peer || c->fin || c->sent == c->count) return false;
  if (c->sent == c->got) return true;
  return c->pipeline && !c->w->plans[c->plans[c->sent - 1]].expect;
}

static void pump(struct client *c) {
  while (may_write(c)) write_plan(c, &c->w->plans[c->plans[c->sent]]);
  if (c->half_close && !c->fin && c->sent == c->count) client_end(c, false);
  if (c->peer && !c->fin && c->got == c->count && !c->keep && c->state != CLIENT_TUNNEL)
    client_end(c, false);
}

static void send_body(struct client *c, struct plan *p) {
  struct text out = {0};
  plan_body(c->w, p, true, p->hold_body, &out);
  client_write(c, text_span(&out));
  text_fini(&out);
  p->expect = false;
}

/* end_body: a client that keeps its connection sends what it held back (plan_body). */
static void end_body(struct client *c, const struct plan *p) {
  char last = p->len ? plan_byte(p, true, p->len - 1) : 0;
  if (p->frame == FRAME_CHUNKED) client_write(c, SPAN_LIT("0\r\n\r\n"));
  else if (p->len) client_write(c, span_of(&last, 1));
}

/* ---- responses ---- */

static void complete(struct client *c, struct plan *p, enum outcome outcome) {
  if (outcome == OUT_OK && !plan_bodyless(p) && p->got_body != p->up_len)
    world_fault(c->w, "client: plan %u: %llu bytes of body look complete, %u are", p->id,
                (unsigned long long)p->got_body, p->up_len);
  p->outcome = outcome;
  c->got++;
  c->state = CLIENT_HEAD;
  c->interims = 0;
  if (!c->resp.keepalive || (p->expect && outcome != OUT_NONE)) client_end(c, false);
  else if (p->hold_body && outcome == OUT_OK) end_body(c, p);
}

static void body_check(struct client *c, struct plan *p, struct span data) {
  for (size_t i = 0; i < data.len && p->outcome == OUT_OK; i++) {
    if (p->got_body + i < p->up_len && data.ptr[i] == plan_byte(p, false, p->got_body + i))
      continue;
    world_fault(c->w, "client: plan %u: byte %llu of the body is not its own", p->id,
                (unsigned long long)(p->got_body + i));
    return;
  }
  p->got_body += data.len;
}

/* who tells whose response it is; p->outcome says so until it is complete. */
static void who(struct client *c, struct plan *p, const struct http_response *r) {
  const struct http_field *nonce = http_fields_find_name(&r->fields, SPAN_LIT("X-Nonce"));
  const struct http_field *status = http_fields_find(&r->fields, HTTP_NAME_PROXY_STATUS);
  uint64_t id = UINT64_MAX;
  p->got_status = r->status;
  p->outcome = nonce ? OUT_OK : OUT_ANSWER;
  if (nonce && (!span_u64(nonce->value, &id) || id != p->id))
    world_fault(c->w, "client: plan %u got the response of %llu", p->id, (unsigned long long)id);
  if (nonce && r->status != p->status) world_fault(c->w, "client: plan %u: status", p->id);
  if (!nonce && status)
    (void)snprintf(p->details, sizeof p->details, SPAN_FMT, SPAN_ARG(status->value));
}

static void begin_body(struct client *c, struct plan *p) {
  c->left = c->resp.content_length;
  switch (c->resp.body) {
    case HTTP_BODY_NONE: complete(c, p, p->outcome); return;
    case HTTP_BODY_LENGTH: c->state = CLIENT_LENGTH; break;
    case HTTP_BODY_CHUNKED: c->state = CLIENT_CHUNKED; break;
    case HTTP_BODY_CLOSE: c->state = CLIENT_CLOSE; break;
    case HTTP_BODY_TUNNEL:
      c->state = CLIENT_TUNNEL;
      p->outcome = OUT_TUNNEL;
      break;
  }
  h1_chunked_init(&c->chunked, H1_RESPONSE);
  if (c->state == CLIENT_LENGTH && c->left == 0) complete(c, p, p->outcome);
}

static void head_done(struct client *c, struct plan *p) {
  c->at += c->resp.head_len;
  if (c->resp.status < 200 && c->resp.status != 101) {
    c->interims++;
    if (p->minor == 0) world_fault(c->w, "client: plan %u: 1xx to HTTP/1.0", p->id);
    if (c->resp.status == 100 && p->expect) send_body(c, p);
    return;
  }
  begin_body(c, p);
}

static bool read_head(struct client *c, struct plan *p) {
  struct h1_limits limits = {1u << 20, 200, 0};
  struct h1_scan scan = {0};
  struct arena arena;
  enum end why = END_OK;
  arena_init(&arena, NULL, 0);
  enum http_method method = http_method_find(span_str(p->method));
  enum http_result r =
      h1_parse_response(&scan, rest(c), &limits, &arena, method, &c->resp, &why);
  if (r == HTTP_BAD)
    world_fault(c->w, "client: plan %u: the response does not parse: %s", p->id,
                end_get(why)->word.ptr);
  if (r == HTTP_DONE && (c->resp.status >= 200 || c->resp.status == 101)) who(c, p, &c->resp);
  arena_reset(&arena);
  if (r == HTTP_DONE) head_done(c, p);
  return r == HTTP_DONE;
}

static bool read_chunks(struct client *c, struct plan *p) {
  size_t used = 0;
  struct span data = SPAN_EMPTY;
  enum end why = END_OK;
  enum http_result r = h1_chunked_parse(&c->chunked, rest(c), &used, &data, &why);
  if (r == HTTP_BAD) {
    world_fault(c->w, "client: plan %u: the chunks do not parse", p->id);
    return false;
  }
  body_check(c, p, data);
  c->at += used;
  if (r == HTTP_DONE) complete(c, p, p->outcome);
  return r == HTTP_DONE || used || data.len;
}

/* tunnel_more sends a piece whose bytes are those of the request's body. */
static void tunnel_more(struct client *c, struct plan *p) {
  char piece[1024];
  size_t n = 1 + (size_t)world_draw(c->w, sizeof piece);
  if (n > c->tunnel_goal - c->tunnel_sent) n = (size_t)(c->tunnel_goal - c->tunnel_sent);
  for (size_t i = 0; i < n; i++) piece[i] = plan_byte(p, true, c->tunnel_sent + i);
  client_write(c, span_of(piece, n));
  c->tunnel_sent += n;
}

static void read_tunnel(struct client *c, struct plan *p) {
  struct span data = rest(c);
  for (size_t i = 0; i < data.len; i++)
    if (data.ptr[i] != plan_byte(p, true, c->tunnel_got + i))
      world_fault(c->w, "client: plan %u: byte %llu of the tunnel", p->id,
                  (unsigned long long)(c->tunnel_got + i));
  c->tunnel_got += data.len;
  c->at = c->in.len;
  if (c->tunnel_sent < c->tunnel_goal && c->tunnel_got == c->tunnel_sent) tunnel_more(c, p);
  if (c->tunnel_got == c->tunnel_goal && !c->keep && !c->fin) client_end(c, false);
}

void client_tunnel(struct client *c, uint64_t goal) {
  c->tunnel_goal = goal;
  if (c->peer && c->state == CLIENT_TUNNEL) read_tunnel(c, current(c));
}

static bool read_some(struct client *c) {
  struct plan *p = current(c);
  if (!p) {
    if (rest(c).len) world_fault(c->w, "client: bytes that nobody asked for: %.*s",
                                 (int)(rest(c).len < 100 ? rest(c).len : 100), rest(c).ptr);
    return false;
  }
  switch (c->state) {
    case CLIENT_HEAD: return rest(c).len && read_head(c, p);
    case CLIENT_CHUNKED: return read_chunks(c, p);
    case CLIENT_TUNNEL: read_tunnel(c, p); return false;
    default: break;
  }
  struct span take = rest(c);
  if (c->state == CLIENT_LENGTH) take = span_sub(take, 0, (size_t)c->left);
  body_check(c, p, take);
  c->at += take.len;
  c->left -= c->state == CLIENT_LENGTH ? take.len : 0;
  if (c->state != CLIENT_LENGTH || c->left > 0) return false;
  complete(c, p, p->outcome);
  return true;
}

static void on_data(struct sim_peer *peer, struct span bytes, void *ctx) {
  struct client *c = ctx;
  (void)peer;
  text_put(&c->in, bytes);
  while (read_some(c)) continue;
  if (c->at == c->in.len) c->at = c->in.len = 0;
  pump(c);
}

static void on_close(struct sim_peer *peer, bool reset, void *ctx) {
  struct client *c = ctx;
  if (!reset && c->state == CLIENT_CLOSE) complete(c, current(c), current(c)->outcome);
  sim_peer_free(peer);
  c->peer = NULL;
  gone(c, reset);
}

/* At each step: with nothing else to do the clock leaps to the next timeout at once. */
void client_tick(struct client *c) {
  if (c->peer && c->window && !c->stuck) sim_peer_window(c->peer, c->window);
}

void client_start(struct client *c) {
  char text[32];
  (void)snprintf(text, sizeof text, "127.0.0.1:%u", 8000 + c->worker);
  struct addr at = world_addr(text);
  c->closed = c->reset = c->fin = false;
  c->at = c->in.len = 0;
  c->peer = sim_peer_connect(c->w->sim, &at);
  sim_peer_on_data(c->peer, on_data, on_close, c);
  if (c->window) sim_peer_window(c->peer, c->window);
  if (c->header.len) sim_peer_write(c->peer, c->header);
  pump(c);
}
