/* status.c: the status port: a small strict HTTP/1.1 server (RFC 9112) for GET and HEAD: page,
 * metrics, health. It reads with the proxy's own parser. No write access of any kind here. Does
 * not: serve bodies, TLS, or anything from disk. */
#include <stdio.h>

#include "control/control_priv.h"
#include "control/view_priv.h"
#include "weir/base/arena.h"
#include "weir/http/h1.h"
#include "weir/io/tls.h"

#define CONNS_MAX 32u
#define IDLE_MS 15000u

struct reply {
  unsigned status;
  struct span type;
  struct text body;
  char nonce[33]; /* hex; of the page's style and script */
};

/* ---- what is served ---- */

static void serve_page(struct control *c, struct reply *r) {
  struct control_look look;
  struct view view;
  unsigned char random[16];
  tls_random(random, sizeof random);
  for (size_t i = 0; i < sizeof random; i++) {
    (void)snprintf(r->nonce + 2 * i, 3, "%02x", random[i]);
  }
  control_look(c, &look);
  view_init(&view, &look.in, phase_name(c->phase));
  control_look_done(c, &look);
  view_write_page(&r->body, &view, span_str(r->nonce));
  view_fini(&view);
  r->type = SPAN_LIT("text/html; charset=utf-8");
}

static void serve_status(struct control *c, struct reply *r) {
  struct control_look look;
  struct view view;
  control_look(c, &look);
  view_init(&view, &look.in, phase_name(c->phase));
  control_look_done(c, &look);
  view_write_json(&r->body, &view);
  view_fini(&view);
  r->type = SPAN_LIT("application/json");
}

static void serve_metrics(struct control *c, struct reply *r) {
  struct control_look look;
  control_look(c, &look);
  metrics_write(&r->body, &look.in);
  control_look_done(c, &look);
  r->type = SPAN_LIT("text/plain; version=0.0.4; charset=utf-8");
}

static void serve_live(struct control *c, struct reply *r) {
  (void)c;
  text_lit(&r->body, "live\n");
}

static void serve_ready(struct control *c, struct reply *r) {
  r->status = c->phase == PHASE_RUNNING ? 200 : 503;
  text_printf(&r->body, "%s\n", c->phase == PHASE_RUNNING ? "ready" : phase_name(c->phase));
}

static void serve_started(struct control *c, struct reply *r) {
  r->status = c->phase == PHASE_STARTING ? 503 : 200;
  text_printf(&r->body, "%s\n", c->phase == PHASE_STARTING ? "starting" : "started");
}

static const struct {
  struct span path;
  void (*serve)(struct control *c, struct reply *r);
} pages[] = {
#define PAGE(path, name) {SPAN_LIT(path), serve_##name},
#include "control/status.def"
#undef PAGE
};

/* ---- one request ---- */

static void refuse(struct reply *r, unsigned status, struct span why) {
  r->status = status;
  text_put(&r->body, why);
  text_lit(&r->body, "\n");
}

static void route(struct control *c, const struct http_request *req, struct reply *r) {
  if (req->method != HTTP_METHOD_GET && req->method != HTTP_METHOD_HEAD) {
    refuse(r, 405, SPAN_LIT("only GET and HEAD"));
    return;
  }
  for (size_t i = 0; i < array_count(pages); i++) {
    if (span_eq(pages[i].path, req->path)) {
      pages[i].serve(c, r);
      return;
    }
  }
  refuse(r, 404, SPAN_LIT("/, /metrics, /-/status, /-/live, /-/ready, /-/started"));
}

static void reply_write(struct text *out, const struct reply *r, bool head, bool keepalive) {
  struct span reason = http_status_reason(r->status);
  text_printf(out, "HTTP/1.1 %u " SPAN_FMT "\r\nContent-Type: " SPAN_FMT "\r\n", r->status,
              SPAN_ARG(reason), SPAN_ARG(r->type));
  text_printf(out, "Content-Length: %zu\r\nCache-Control: no-store\r\n", r->body.len);
  text_lit(out, "X-Content-Type-Options: nosniff\r\n");
  if (r->nonce[0]) {
    text_printf(out, "Content-Security-Policy: default-src 'none'; style-src 'nonce-%s'; "
                "script-src 'nonce-%s'; connect-src 'self'; base-uri 'none'; "
                "frame-ancestors 'none'\r\n", r->nonce, r->nonce);
  }
  text_put(out, r->status == 405 ? SPAN_LIT("Allow: GET, HEAD\r\n") : SPAN_EMPTY);
  text_put(out, keepalive ? SPAN_EMPTY : SPAN_LIT("Connection: close\r\n"));
  text_lit(out, "\r\n");
  text_put(out, head ? SPAN_EMPTY : text_span(&r->body));
}

static void on_input(struct server_conn *conn) {
  static const struct h1_limits limits = {
      .header_bytes = SERVER_IN_MAX, .headers = 64, .uri_bytes = 1024};
  struct control *c = (struct control *)conn->server->config.ctx;
  struct h1_scan scan = {0};
  struct http_request request;
  struct arena arena;
  enum end why;
  arena_init(&arena, NULL, 64 << 10);
  enum http_result result = h1_parse_request(&scan, span_of(conn->in, conn->in_len), &limits,
                                             &arena, &request, &why);
  struct reply r = {.status = 200, .type = SPAN_LIT("text/plain; charset=utf-8")};
  bool keepalive = false, head = false;
  if (result == HTTP_BAD) {
    unsigned status = end_get(why)->status;
    refuse(&r, status ? status : 400, end_get(why)->word);
  } else if (result == HTTP_DONE && request.body != HTTP_BODY_NONE &&
             (request.body != HTTP_BODY_LENGTH || request.content_length)) {
    refuse(&r, 413, SPAN_LIT("no body is taken here"));
  } else if (result == HTTP_DONE) {
    route(c, &request, &r);
    keepalive = request.keepalive;
    head = request.method == HTTP_METHOD_HEAD;
  } else if (conn->in_len == SERVER_IN_MAX) {
    refuse(&r, 431, SPAN_LIT("the request head is too large"));
  }
  if (result != HTTP_MORE || conn->in_len == SERVER_IN_MAX) {
    reply_write(&conn->out, &r, head, keepalive);
    server_consume(conn, keepalive ? request.head_len : conn->in_len);
    conn->close_after = !keepalive;
  }
  text_fini(&r.body);
  arena_reset(&arena);
}

void status_start(struct control *c, int fd) {
  const struct server_config config = {.poller = &c->poller,
                                       .fd = fd,
                                       .conns_max = CONNS_MAX,
                                       .idle_ms = IDLE_MS,
                                       .on_input = on_input,
                                       .ctx = c};
  server_start(&c->status, &config);
  c->status_on = true;
}
