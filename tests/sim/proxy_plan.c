/* proxy_plan.c: plans and their bytes: requests, responses, bodies in every framing. */
#include "proxy_plan.h"

#include "proxy_world.h"

struct plan *plan_new(struct world *w) {
  check(w->plan_count < SIM_PLANS);
  struct plan *p = &w->plans[w->plan_count];
  *p = (struct plan){.id = w->plan_count++,
                     .method = "GET",
                     .prefix = "",
                     .minor = 1,
                     .cut = -1,
                     .up_cut = -1,
                     .status = 200,
                     .up_frame = FRAME_LENGTH,
                     .up_len = 200};
  return p;
}

/* random_len: mostly small, sometimes larger than every buffer. */
static uint32_t random_len(struct world *w) {
  static const uint32_t spans[] = {2, 50, 300, 5000, 20000, 70000, 300000};
  return (uint32_t)world_draw(w, spans[world_draw(w, array_count(spans))]);
}

static void random_request(struct world *w, struct plan *p) {
  static const char *const methods[] = {"GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE",
                                        "BREW"};
  p->method = methods[world_draw(w, array_count(methods))];
  bool body = strcmp(p->method, "POST") == 0 || strcmp(p->method, "PUT") == 0;
  if (body || world_chance(w, 5)) p->frame = world_chance(w, 50) ? FRAME_LENGTH : FRAME_CHUNKED;
  p->len = p->frame ? random_len(w) : 0;
  p->expect = p->frame && p->len && world_chance(w, 20);
  if (world_chance(w, 10) && p->frame != FRAME_CHUNKED) {
    p->minor = 0;
    p->expect = false;
  }
}

struct plan *plan_random(struct world *w) {
  static const uint16_t statuses[] = {200, 200, 200, 200, 204, 304, 404, 500, 206};
  struct plan *p = plan_new(w);
  random_request(w, p);
  p->status = statuses[world_draw(w, array_count(statuses))];
  p->up_frame = (uint8_t)(FRAME_LENGTH + world_draw(w, 3));
  p->up_len = random_len(w);
  if (p->status == 204) p->up_frame = FRAME_NONE;
  if (world_chance(w, 15)) p->interims = 1 + (uint8_t)world_draw(w, 4);
  p->up_close = p->up_frame == FRAME_CLOSE || world_chance(w, 5);
  return p;
}

/* plan_find reads "/r/<id>", whatever stands before it. */
struct plan *plan_find(struct world *w, struct span path) {
  size_t at = 0;
  uint64_t id;
  for (size_t i = 0; i < path.len; i++)
    if (path.ptr[i] == '/') at = i + 1;
  if (!span_u64(span_from(path, at), &id) || id >= w->plan_count) return NULL;
  return &w->plans[id];
}

char plan_byte(const struct plan *p, bool up, uint64_t i) {
  uint64_t x = (p->id + 1) * 2654435761u + i * 31 + (i >> 7) * 17 + (up ? 91 : 0);
  return (char)(x ^ (x >> 11));
}

bool plan_bodyless(const struct plan *p) {
  return strcmp(p->method, "HEAD") == 0 || p->status == 204 || p->status == 304 ||
         (p->upgrade && p->status == 101);
}

static void body_bytes(const struct plan *p, bool up, uint64_t from, size_t len,
                       struct text *out) {
  char block[512];
  for (size_t done = 0; done < len;) {
    size_t n = len - done < sizeof block ? len - done : sizeof block;
    for (size_t i = 0; i < n; i++) block[i] = plan_byte(p, up, from + done + i);
    text_put(out, span_of(block, n));
    done += n;
  }
}

/* chunk_len: from single bytes to one chunk for all. */
static size_t chunk_len(struct world *w, size_t left) {
  uint64_t n = world_chance(w, 20) ? 1 + world_draw(w, 8) : 1 + world_draw(w, left);
  if (n < left / 200) n = left / 200;
  return n < left ? (size_t)n : left;
}

static void chunked(struct world *w, const struct plan *p, bool up, bool cut_end,
                    struct text *out) {
  size_t len = up ? p->len : p->up_len;
  for (size_t done = 0; done < len;) {
    size_t n = chunk_len(w, len - done);
    text_printf(out, world_chance(w, 10) ? "%zX;x=\"y\"\r\n" : "%zx\r\n", n);
    body_bytes(p, up, done, n, out);
    text_lit(out, "\r\n");
    done += n;
  }
  if (cut_end) return;
  text_lit(out, "0\r\n");
  if (world_chance(w, 20)) text_lit(out, "X-Trailer: 1\r\nContent-Length: 7\r\n");
  text_lit(out, "\r\n");
}

void plan_body(struct world *w, const struct plan *p, bool up, bool cut_end, struct text *out) {
  uint8_t frame = up ? p->frame : p->up_frame;
  size_t len = up ? p->len : p->up_len;
  if (frame == FRAME_CHUNKED) chunked(w, p, up, cut_end, out);
  else if (frame != FRAME_NONE) body_bytes(p, up, 0, len - (cut_end && len), out);
}

void plan_request(struct world *w, const struct plan *p, struct text *out) {
  (void)w;
  text_printf(out, "%s %s/r/%u HTTP/1.%u\r\nHost: h.test\r\n", p->method, p->prefix, p->id,
              p->minor);
  if (p->frame == FRAME_LENGTH) text_printf(out, "Content-Length: %u\r\n", p->len);
  if (p->frame == FRAME_CHUNKED) text_lit(out, "Transfer-Encoding: chunked\r\n");
  if (p->expect) text_lit(out, "Expect: 100-continue\r\n");
  if (p->upgrade) text_lit(out, "Connection: upgrade\r\nUpgrade: websocket\r\n");
  if (p->close) text_lit(out, "Connection: close\r\n");
  if (p->priority) text_printf(out, "X-Priority: %s\r\n", p->priority);
  if (p->cookie) text_printf(out, "Cookie: %s\r\n", p->cookie);
  if (p->minor == 0 && !p->close) text_lit(out, "Connection: keep-alive\r\n");
  text_lit(out, "X-Forwarded-For: 6.6.6.6\r\nX-Hop: 1\r\n\r\n");
}

void plan_response(struct world *w, const struct plan *p, uint32_t origin, struct text *out) {
  (void)w;
  text_printf(out, "HTTP/1.1 %u Planned\r\nX-Nonce: %u\r\nX-Origin: %u\r\n", p->status, p->id,
              origin);
  if (p->up_frame == FRAME_LENGTH) text_printf(out, "Content-Length: %u\r\n", p->up_len);
  if (p->up_frame == FRAME_CHUNKED) text_lit(out, "Transfer-Encoding: chunked\r\n");
  if (p->grpc) text_lit(out, "Content-Type: application/grpc\r\n");
  if (p->upgrade && p->status == 101)
    text_lit(out, "Connection: upgrade\r\nUpgrade: websocket\r\n");
  else if (p->up_close) text_lit(out, "Connection: close\r\n");
  text_lit(out, "\r\n");
}
