/* proxy_origin.c: origins: servers that read requests strictly, check every byte against the plan
 * that the path names, and answer as it says. What weir may never do to a server is a fault here:
 * a request that does not parse, a body of another length, bytes behind a request, an unknown one.
 */
#include "proxy_world.h"
#include "weir/base/mem.h"

enum { ORIGIN_HEAD, ORIGIN_BODY, ORIGIN_STALLED, ORIGIN_TUNNEL, ORIGIN_OVER };

struct served {
  struct list link; /* origin.conns */
  struct origin *o;
  struct sim_peer *peer;
  struct text in;
  size_t at;
  uint8_t state;
  struct plan *plan;
  uint8_t frame; /* of the request as it came */
  uint64_t body_at;
  struct h1_chunked chunked;
  bool answered;
  uint32_t requests; /* completed */
};

static void served_free(struct served *c) {
  list_remove(&c->link);
  c->o->conn_count--;
  sim_peer_free(c->peer);
  text_fini(&c->in);
  mem_free(c);
}

static struct span rest(const struct served *c) { return span_from(text_span(&c->in), c->at); }

/* ---- the response ---- */

static void end_conn(struct served *c, bool fin) {
  c->state = ORIGIN_OVER;
  if (fin) sim_peer_shutdown(c->peer);
  else sim_peer_reset(c->peer);
}

static void interims(const struct plan *p, struct text *out) {
  for (uint32_t i = 0; i < p->interims; i++)
    text_printf(out, "HTTP/1.1 %s\r\nX-Interim: %u\r\n\r\n",
                i % 2 ? "103 Early Hints" : "102 Wait", i);
}

static void answer(struct served *c) {
  struct world *w = c->o->w;
  const struct plan *p = c->plan;
  struct text out = {0};
  c->answered = true;
  interims(p, &out);
  plan_response(w, p, c->o->index, &out);
  if (!plan_bodyless(p)) plan_body(w, p, false, p->stall_body, &out);
  for (uint32_t i = 0; i < p->up_garbage; i++) text_lit(&out, "G");
  bool cut = p->up_cut >= 0 && (size_t)p->up_cut < out.len;
  sim_peer_write(c->peer, span_sub(text_span(&out), 0, cut ? (size_t)p->up_cut : out.len));
  text_fini(&out);
  if (cut) end_conn(c, p->up_cut_fin);
  else if (p->stall_body) c->state = ORIGIN_STALLED;
  else if (p->upgrade && p->status == 101) c->state = ORIGIN_TUNNEL;
  else if (p->up_close || p->up_leave || p->up_frame == FRAME_CLOSE) end_conn(c, true);
}

/* go_wrong does what the plan has in store for the first requests. */
static void go_wrong(struct served *c, enum bad bad) {
  switch (bad) {
    case BAD_NOT: break;
    case BAD_CUT:
      sim_peer_write(c->peer, SPAN_LIT("HTTP/1.1 200 Pl"));
      end_conn(c, true);
      break;
    case BAD_INTERIM:
      sim_peer_write(c->peer, SPAN_LIT("HTTP/1.1 103 Hints\r\n\r\n"));
      end_conn(c, true);
      break;
    case BAD_RESET: end_conn(c, false); break;
    case BAD_FIN: end_conn(c, true); break;
    case BAD_STALL: c->state = ORIGIN_STALLED; break;
    case BAD_503:
      sim_peer_write(c->peer, SPAN_LIT("HTTP/1.1 503 Bad\r\nContent-Length: 4\r\n\r\nbad\n"));
      break;
    case BAD_503_LATER:
      sim_peer_write(c->peer, SPAN_LIT("HTTP/1.1 503 Bad\r\nRetry-After: 120\r\n"
                                       "Content-Length: 4\r\n\r\nbad\n"));
      break;
  }
}

/* ---- the request ---- */

/* no_body: a method whose requests have content says that there is none. RFC 9110 section 8.6. */
static bool no_body(const struct http_request *r) {
  if (!http_method_content(r->method)) return r->body == HTTP_BODY_NONE;
  return r->body == HTTP_BODY_LENGTH && !r->content_length;
}

/* A copy has its body by length, whatever the request had. */
static bool same_copy(const struct plan *p, const struct http_request *r) {
  if (p->frame == FRAME_NONE) return no_body(r);
  return r->body == HTTP_BODY_LENGTH && r->content_length == p->len && !r->expect_continue;
}

/* same_frame: a chunked body that weir held to its end comes with its length. */
static bool same_frame(const struct world *w, const struct plan *p, const struct http_request *r) {
  if (p->frame == FRAME_NONE) return no_body(r);
  bool held = p->frame == FRAME_CHUNKED && w->conf.routes[0].buffer_bytes >= p->len;
  switch (r->body) {
    case HTTP_BODY_LENGTH:
      return (p->frame == FRAME_LENGTH || held) && r->content_length == p->len;
    case HTTP_BODY_CHUNKED: return p->frame == FRAME_CHUNKED;
    case HTTP_BODY_NONE:
    case HTTP_BODY_CLOSE:
    case HTTP_BODY_TUNNEL: break;
  }
  return false;
}

static void head_check(struct served *c, const struct http_request *r) {
  struct world *w = c->o->w;
  struct plan *p = plan_find(w, r->path);
  c->plan = p;
  if (!p) {
    world_fault(w, "origin: unknown request \"" SPAN_FMT "\"", SPAN_ARG(r->path));
    return;
  }
  bool same = c->o->shadow ? same_copy(p, r) : same_frame(w, p, r);
  if (!c->o->shadow) {
    p->up_heads++;
    p->up_origins |= 1u << c->o->index;
    p->up_order = w->up_order++;
  }
  if (!span_eq(r->method_text, span_str(p->method)) || !same)
    world_fault(w, "origin: plan %u came as another request", p->id);
  const struct http_field *xff = http_fields_find(&r->fields, HTTP_NAME_X_FORWARDED_FOR);
  if (!xff || !span_eq(xff->value, span_str(p->forwarded_for ? p->forwarded_for : "192.0.2.1")))
    world_fault(w, "origin: plan %u: X-Forwarded-For is %.*s, not the client", p->id,
                xff ? (int)xff->value.len : 0, xff ? xff->value.ptr : "");
  if (!span_eq(r->host, SPAN_LIT("h.test")) || r->minor != 1)
    world_fault(w, "origin: plan %u: host or version", p->id);
  if (p->upgrade != (r->upgrade.len > 0)) world_fault(w, "origin: plan %u: upgrade", p->id);
}

static bool read_head(struct served *c) {
  struct world *w = c->o->w;
  struct h1_limits limits = {1u << 20, 200, 1u << 16};
  struct h1_scan scan = {0};
  struct http_request r;
  struct arena arena;
  enum end why = END_OK;
  arena_init(&arena, NULL, 0);
  enum http_result result = h1_parse_request(&scan, rest(c), &limits, &arena, &r, &why);
  if (result == HTTP_BAD)
    world_fault(w, "origin: a request does not parse: %s", end_get(why)->word.ptr);
  if (result == HTTP_DONE) {
    head_check(c, &r);
    c->frame = r.body == HTTP_BODY_LENGTH  ? FRAME_LENGTH
               : r.body == HTTP_BODY_NONE ? FRAME_NONE
                                          : FRAME_CHUNKED;
    c->at += r.head_len;
    c->body_at = 0;
    c->answered = false;
    c->state = ORIGIN_BODY;
    h1_chunked_init(&c->chunked, H1_REQUEST);
  }
  arena_reset(&arena);
  return result == HTTP_DONE && c->plan;
}

static void body_check(struct served *c, struct span data) {
  const struct plan *p = c->plan;
  for (size_t i = 0; i < data.len; i++) {
    if (c->body_at + i < p->len && data.ptr[i] == plan_byte(p, true, c->body_at + i)) continue;
    world_fault(c->o->w, "origin: plan %u: byte %llu of the body is not its own", p->id,
                (unsigned long long)(c->body_at + i));
    return;
  }
  c->body_at += data.len;
}

/* read_body: true when the request is complete. */
static bool read_body(struct served *c) {
  const struct plan *p = c->plan;
  if (c->frame == FRAME_NONE) return true;
  if (c->frame == FRAME_LENGTH) {
    struct span take = span_sub(rest(c), 0, p->len - (size_t)c->body_at);
    body_check(c, take);
    c->at += take.len;
    return c->body_at == p->len;
  }
  for (;;) {
    size_t used = 0;
    struct span data = SPAN_EMPTY;
    enum end why = END_OK;
    enum http_result r = h1_chunked_parse(&c->chunked, rest(c), &used, &data, &why);
    if (r == HTTP_BAD) world_fault(c->o->w, "origin: plan %u: chunks do not parse", p->id);
    if (r != HTTP_BAD) body_check(c, data);
    c->at += used;
    if (r == HTTP_DONE && c->body_at != p->len)
      world_fault(c->o->w, "origin: plan %u: the body ended early", p->id);
    if (r != HTTP_MORE || (!used && !data.len)) return r == HTTP_DONE;
  }
}

static void request_done(struct served *c) {
  struct plan *p = c->plan;
  if (c->o->shadow) p->copies++;
  else p->up_bodies++;
  c->requests++;
  if (rest(c).len && !p->upgrade && !c->answered)
    world_fault(c->o->w, "origin: %zu bytes behind plan %u: %.*s", rest(c).len, p->id,
                (int)(rest(c).len < 60 ? rest(c).len : 60), rest(c).ptr);
  c->state = p->stall ? ORIGIN_STALLED : ORIGIN_HEAD;
  bool last = p->up_bodies == p->bad_times + 1u;
  if (p->bad && !c->o->shadow && p->up_bodies <= p->bad_times) go_wrong(c, p->bad);
  else if (p->then && !c->o->shadow && last) go_wrong(c, p->then);
  else if (!p->stall && !c->answered) answer(c);
}

/* serve works through what came; false when it waits for more. */
static bool serve(struct served *c) {
  if (c->state == ORIGIN_HEAD) {
    if (!rest(c).len || !read_head(c)) return false;
    const struct plan *p = c->plan;
    if (p->expect && !p->early) sim_peer_write(c->peer, SPAN_LIT("HTTP/1.1 100 Continue\r\n\r\n"));
    if (p->early) answer(c);
    return true;
  }
  if (c->state == ORIGIN_BODY) {
    if (!read_body(c)) return false;
    request_done(c);
    return true;
  }
  if (c->state == ORIGIN_TUNNEL && rest(c).len) {
    c->o->echoed += (uint32_t)rest(c).len;
    sim_peer_write(c->peer, rest(c));
  }
  c->at = c->in.len;
  return false;
}

static void on_data(struct sim_peer *peer, struct span bytes, void *ctx) {
  struct served *c = ctx;
  (void)peer;
  text_put(&c->in, bytes);
  while (serve(c)) continue;
  if (c->at == c->in.len) c->at = c->in.len = 0;
}

static void on_close(struct sim_peer *peer, bool reset, void *ctx) {
  (void)peer;
  (void)reset;
  served_free(ctx);
}

static void on_accept(struct sim_peer *peer, void *ctx) {
  struct origin *o = ctx;
  struct served *c = mem_alloc(sizeof *c);
  c->o = o;
  c->peer = peer;
  list_push_tail(&o->conns, &c->link);
  o->conn_count++;
  o->accepted++;
  sim_peer_on_data(peer, on_data, on_close, c);
  if (o->window) sim_peer_window(peer, o->window);
}

void origin_up(struct origin *o) {
  if (o->up) return;
  sim_peer_listen(o->w->sim, &o->at, on_accept, o);
  o->up = true;
}

void origin_down(struct origin *o, bool hard) {
  if (o->up) sim_peer_unlisten(o->w->sim, &o->at);
  o->up = false;
  for (struct list *l = o->conns.next, *next; hard && l != &o->conns; l = next) {
    next = l->next;
    struct served *c = container_of(l, struct served, link);
    sim_peer_reset(c->peer);
    served_free(c);
  }
}

uint32_t origin_close_idle(struct origin *o) {
  uint32_t closed = 0;
  for (struct list *l = o->conns.next, *next; l != &o->conns; l = next) {
    next = l->next;
    struct served *c = container_of(l, struct served, link);
    if (c->state != ORIGIN_HEAD || rest(c).len || !c->requests) continue;
    end_conn(c, true); /* no reset: that would overtake a response on its way */
    closed++;
  }
  return closed;
}

void origin_release(struct origin *o) {
  for (struct list *l = o->conns.next, *next; l != &o->conns; l = next) {
    next = l->next;
    struct served *c = container_of(l, struct served, link);
    if (c->state != ORIGIN_STALLED || c->answered) continue;
    c->state = ORIGIN_HEAD;
    answer(c);
  }
}
