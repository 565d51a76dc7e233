/* mirror.c: copies of requests that go to another pool (routes.*.mirror). A copy is taken of what
 * is to go to the real endpoint; it is sent once it is whole, on its own, though the original may
 * still meet a queue or a refusal, and what comes back is counted and dropped. It never
 * waits, is never tried again, and is left away when there is no room for it: MIRRORS_MAX at once
 * per worker, MIRROR_BYTES_MAX in all, bodies up to MIRROR_BODY_MAX; of an answer MIRROR_HEAD_MAX
 * is kept, for the time of its head. Tunnels are not mirrored. The original knows nothing of what
 * happens here. To a pool of HTTP/2 a copy goes as a stream of upmux.c, parsed again from the head
 * that was kept: the original may be gone by then. */
#include <errno.h>

#include "proxy_priv.h"
#include "weir/base/hash.h"
#include "weir/upstream/breaker.h"

#define MIRRORS_MAX 128u
#define MIRROR_BODY_MAX 65536u
#define MIRROR_BODY_FIRST 1024u
#define MIRROR_BYTES_MAX (8u << 20) /* of requests that are copied or on their way, per worker */
#define MIRROR_HEAD_MAX 16384u /* of an answer's head */
#define MIRROR_HEAD_ARENA (4u * MIRROR_HEAD_MAX) /* as it grows, and its rows */
#define MIRROR_ANSWER_MS 60000u /* where the pool has no timeouts.first_byte */

enum mirror_step { MIRROR_COPY, MIRROR_CONNECT, MIRROR_HEAD, MIRROR_BODY };

struct mirror {
  struct slab_head head;
  struct list link; /* worker.mirrors_live */
  struct worker *w;
  struct arena arena;  /* the request */
  struct arena answer; /* the head that is being read; of HTTP/2 the request's fields before */
  struct timer timer;
  struct pool *pool; /* pinned */
  struct endpoint *endpoint; /* pinned; NULL while the request is copied */
  struct upconn *up;
  uint8_t step;    /* enum mirror_step */
  uint8_t permits; /* enum request_permit */
  uint8_t interims;
  uint8_t method;
  bool reused; /* the connection */
  bool secure; /* the original came by TLS */
  uint8_t secret_pseudo; /* as in http_request.secret */
  struct buf header;  /* PROXY; empty: the pool wants none */
  struct buf request; /* the head */
  struct span secret; /* bit per field of it that no hop may index; empty: none */
  struct buf body;
  struct h1_scan scan;
  struct buf head_in;
  struct h2_section section; /* HTTP/2: what came last */
  struct http_response resp;
  struct h1_chunked chunked;
  uint64_t left; /* of a body by length */
  uint64_t deadline_ms; /* of the body */
  uint64_t t_begin, t_first; /* ns of the loop's clock: connecting or sent, the first byte back */
  size_t bytes;  /* of worker.mirror_bytes */
};

/* ---- the end ---- */

static void end(struct mirror *m, bool clean) {
  struct worker *w = m->w;
  uint32_t me = w->config.index;
  timer_stop(&w->loop->wheel, &m->timer);
  list_remove(&m->link);
  if (m->up) {
    endpoint_end(m->endpoint, me);
    if (clean && !queue_lacks(w, m->pool, m->endpoint))
      upconn_release(m->up, &m->pool->connections);
    else upconn_close(m->up, false);
    request_permits_give(&w->upstream, m->pool->state, m->endpoint, m->permits);
    queue_freed(w, m->pool->state);
  }
  if (m->endpoint) object_unpin(&m->endpoint->obj, me);
  object_unpin(&m->pool->obj, me);
  w->mirror_bytes -= m->bytes;
  arena_reset(&m->arena);
  arena_reset(&m->answer);
  slab_free(&w->mirrors, m);
}

/* told tells the endpoint's health and the pool's balancing policy how it went. */
static void told(struct mirror *m, enum end why) {
  struct worker *w = m->w;
  uint16_t status = why == END_OK ? m->resp.status : 0;
  uint64_t to_ns = why == END_OK ? m->t_first : now_ns(w);
  struct pool_sample sample = {.now_ms = now_ms(w),
                               .latency_ns = to_ns - m->t_begin,
                               .failed = why != END_OK || status >= 500};
  pool_observe(&w->upstream, m->pool, m->endpoint, &sample);
  if (endpoint_outcome(&w->upstream, m->pool, m->endpoint, why, status, now_ms(w)))
    attempt_ejected(w, m->pool, m->endpoint, why);
}

/* theirs is false for what this process lacks, and for the race between a request and the end of
 * a kept connection. */
static bool theirs(const struct mirror *m, enum end why) {
  if (!m->up || own_end(why)) return false;
  return !m->reused || m->t_first || why == END_FIRST_BYTE_TIMEOUT;
}

static void failed(struct mirror *m, enum end why) {
  stat_add(&m->w->stats.mirror_failed, 1);
  if (theirs(m, why)) told(m, why);
  end(m, false);
}

static void skipped(struct worker *w) { stat_add(&w->stats.mirror_skipped, 1); }

static uint64_t after_ms(const struct mirror *m, uint32_t ms) {
  return now_ms(m->w) + (ms ? ms : MIRROR_ANSWER_MS);
}

static void give_time(struct mirror *m, uint32_t ms) {
  timer_set(&m->w->loop->wheel, &m->timer, after_ms(m, ms));
}

/* ---- the answer ---- */

static void answered(struct mirror *m, bool clean) {
  struct worker *w = m->w;
  _Atomic uint64_t *const rows[] = {&w->stats.mirror_2xx, &w->stats.mirror_3xx,
                                    &w->stats.mirror_4xx, &w->stats.mirror_5xx};
  check(m->resp.status >= 200 && m->resp.status < 600);
  stat_add(rows[m->resp.status / 100 - 2], 1);
  told(m, END_OK);
  end(m, clean && m->resp.keepalive);
}

/* on_timer: of a body that goes on for longer than is given it, enough has been seen. */
static void on_timer(struct timer *timer, uint64_t now) {
  struct mirror *m = container_of(timer, struct mirror, timer);
  switch ((enum mirror_step)m->step) {
    case MIRROR_COPY: break; /* no timer runs */
    case MIRROR_CONNECT: failed(m, open_end(m->up, -ETIMEDOUT, NULL)); break;
    case MIRROR_HEAD: failed(m, END_FIRST_BYTE_TIMEOUT); break;
    case MIRROR_BODY:
      if (now < m->deadline_ms) failed(m, END_UPSTREAM_IDLE_TIMEOUT);
      else answered(m, false);
      break;
  }
}

/* body_time: each byte gives it timeouts.idle again, all of them together the time of a head. */
static void body_time(struct mirror *m) {
  uint64_t idle = after_ms(m, m->pool->timeouts.idle_ms);
  timer_set(&m->w->loop->wheel, &m->timer, idle < m->deadline_ms ? idle : m->deadline_ms);
}

/* head_parse: a head that only weir's bound refuses is not the endpoint's fault. */
static enum http_result head_parse(struct mirror *m, uint32_t most, enum end *why) {
  const struct pool_limits *l = &m->pool->limits;
  struct h1_limits limits = {most, l->headers, 0};
  enum http_result r = h1_parse_response(&m->scan, buf_span(&m->head_in), &limits, &m->answer,
                                         (enum http_method)m->method, &m->resp, why);
  if (r != HTTP_BAD) return r;
  bool ours = *why == END_BAD_RESPONSE_HEADER_BYTES && most < l->header_bytes;
  if (ours || *why == END_LIMIT_STREAM_MEMORY) *why = END_LIMIT_MEMORY;
  return r;
}

static void next_head(struct mirror *m) {
  m->head_in = (struct buf){0};
  m->scan = (struct h1_scan){0};
  arena_reset(&m->answer);
}

/* head takes bytes of heads; HTTP_DONE: the final one is there. */
static enum http_result head(struct mirror *m, struct span bytes, size_t *used, enum end *why) {
  uint32_t most = m->pool->limits.header_bytes;
  if (most > MIRROR_HEAD_MAX) most = MIRROR_HEAD_MAX;
  while (*used < bytes.len) {
    size_t before = m->head_in.len;
    size_t took = head_append(&m->answer, &m->head_in, span_from(bytes, *used), most);
    *why = END_LIMIT_MEMORY;
    if (!took) return HTTP_BAD;
    enum http_result r = head_parse(m, most, why);
    *used += r == HTTP_DONE ? m->resp.head_len - before : took;
    if (r != HTTP_DONE || m->resp.status >= 200) return r;
    *why = END_BAD_RESPONSE_STATUS;
    if (m->resp.status == 101) return HTTP_BAD;
    *why = END_BAD_RESPONSE_INTERIM;
    if (++m->interims > INTERIM_MAX) return HTTP_BAD;
    next_head(m);
  }
  return HTTP_MORE;
}

/* body drops bytes of the body; HTTP_DONE: it is over. */
static enum http_result body(struct mirror *m, struct span bytes, size_t *used, enum end *why) {
  enum http_result r = HTTP_MORE;
  uint64_t more = bytes.len - *used;
  switch (m->resp.body) {
    case HTTP_BODY_NONE: return HTTP_DONE;
    case HTTP_BODY_TUNNEL: *why = END_BAD_RESPONSE_UPGRADE; return HTTP_BAD;
    case HTTP_BODY_CLOSE: *used = bytes.len; return HTTP_MORE;
    case HTTP_BODY_LENGTH:
      *used += (size_t)(more < m->left ? more : m->left);
      m->left -= more < m->left ? more : m->left;
      return m->left ? HTTP_MORE : HTTP_DONE;
    case HTTP_BODY_CHUNKED: break;
  }
  while (r == HTTP_MORE && *used < bytes.len) { /* each turn takes some, or a part of a line */
    size_t took = 0;
    struct span data;
    r = h1_chunked_parse(&m->chunked, span_from(bytes, *used), &took, &data, why);
    *used += took;
    if (!took && r == HTTP_MORE) break;
  }
  return r;
}

/* body_begin: of resp only numbers are read from here on. */
static void body_begin(struct mirror *m) {
  arena_reset(&m->answer);
  m->step = MIRROR_BODY;
  m->deadline_ms = after_ms(m, m->pool->timeouts.first_byte_ms);
}

static enum http_result take(struct mirror *m, struct span bytes, size_t *used, enum end *why) {
  if (m->step == MIRROR_HEAD) {
    enum http_result r = head(m, bytes, used, why);
    if (r != HTTP_DONE) return r;
    body_begin(m);
    m->left = m->resp.content_length;
    h1_chunked_init(&m->chunked, H1_RESPONSE);
  }
  body_time(m);
  return body(m, bytes, used, why);
}

static size_t on_data(struct conn *c, struct span bytes) {
  struct mirror *m = ((struct upconn *)c->owner)->owner;
  size_t used = 0;
  enum end why = END_INTERNAL;
  if (!m->t_first) m->t_first = now_ns(m->w);
  if (m->up->mux) { /* mux/ holds it against what the head says, and tells its end */
    if (m->step == MIRROR_BODY) body_time(m);
    return bytes.len;
  }
  switch (take(m, bytes, &used, &why)) {
    case HTTP_MORE: break;
    case HTTP_DONE: answered(m, used == bytes.len); break;
    case HTTP_BAD: failed(m, why); break;
  }
  return bytes.len;
}

static void on_eof(struct conn *c) {
  struct mirror *m = ((struct upconn *)c->owner)->owner;
  bool whole = m->up->mux || m->resp.body == HTTP_BODY_CLOSE;
  if (m->step == MIRROR_BODY && whole) answered(m, m->up->mux != NULL);
  else failed(m, END_UPSTREAM_CLOSED);
}

/* on_message: a head came by HTTP/2; trailers are read and dropped, nobody gave a place for them.
 * One that only weir's bound refuses is not the endpoint's fault. */
static void on_message(struct conn *c, enum end end) {
  struct mirror *m = ((struct upconn *)c->owner)->owner;
  struct h2_stream *st = h2_stream_of(c);
  const struct h2_asked asked = {.method = (enum http_method)m->method};
  if (!m->t_first) m->t_first = now_ns(m->w);
  bool good = end == END_OK && h2_parse_response(&m->section, &asked, &m->resp, &end);
  if (good && m->resp.status < 200 && ++m->interims <= INTERIM_MAX) {
    arena_reset(&m->answer);
    h2_stream_section(st, &m->section, &m->answer);
  } else if (good && m->resp.status >= 200) {
    h2_stream_expect(st, m->resp.body, m->resp.content_length);
    body_begin(m);
    body_time(m);
  } else {
    if (good) end = END_BAD_RESPONSE_INTERIM;
    failed(m, end == END_LIMIT_STREAM_MEMORY ? END_LIMIT_MEMORY : end);
  }
}

static void on_error(struct conn *c, int err) {
  failed(((struct upconn *)c->owner)->owner,
         own_trouble(err) ? END_LIMIT_MEMORY : END_UPSTREAM_RESET);
}

static void on_nothing(struct conn *c) { (void)c; }

/* ---- the request ---- */

static bool write_h1(struct mirror *m) {
  struct conn *c = m->up->conn;
  return conn_write(c, buf_span(&m->request)) &&
         (!m->body.len || conn_write(c, buf_span(&m->body)));
}

/* is_secret: of the fields that stand in the head, by number; Host is the first. */
static bool is_secret(const struct mirror *m, uint32_t field) {
  size_t at = field / 8;
  return at < m->secret.len && ((uint8_t)m->secret.ptr[at] >> field % 8 & 1);
}

/* parse reads the head again that request_write_copy wrote: whatever stands in it is to go on, but
 * for what belongs to HTTP/1.1. The text does not say what no hop may index. */
static bool parse(struct mirror *m, struct http_request *out) {
  static const struct h1_limits wide = {1u << 30, UINT32_MAX, UINT32_MAX};
  struct h1_scan scan = {0};
  enum end why;
  enum http_result r =
      h1_parse_request(&scan, buf_span(&m->request), &wide, &m->answer, out, &why);
  if (r != HTTP_DONE) return false;
  for (uint32_t i = 0; i < out->fields.count; i++) {
    struct http_field *row = &out->fields.rows[i];
    row->flags &= HTTP_FIELD_HOP | HTTP_FIELD_OWN;
    row->secret = is_secret(m, i);
  }
  out->secret = m->secret_pseudo;
  return true;
}

/* write_h2: the head may have to wait for room, so what it points to stays. */
static bool write_h2(struct mirror *m) {
  struct conn *c = m->up->conn;
  struct h2_stream *st = h2_stream_of(c);
  struct http_request *req = arena_zalloc(&m->answer, sizeof *req);
  bool secure = m->secure || m->pool->tls;
  const struct h2_request_head head = {
      .request = req, .scheme = secure ? HTTP_SCHEME_HTTPS : HTTP_SCHEME_HTTP};
  bool sent = req && parse(m, req) && h2_send_request(st, &head, &m->answer, !m->body.len);
  if (!sent || (m->body.len && !conn_write(c, buf_span(&m->body)))) return false;
  if (m->body.len) conn_finish(c);
  h2_stream_section(st, &m->section, &m->answer);
  conn_flush(c);
  return true;
}

static void write_request(struct mirror *m) {
  struct conn *c = m->up->conn;
  if (!(m->up->mux ? write_h2(m) : write_h1(m))) {
    failed(m, END_LIMIT_MEMORY);
    return;
  }
  m->step = MIRROR_HEAD;
  m->t_begin = now_ns(m->w);
  give_time(m, m->pool->timeouts.first_byte_ms);
  conn_read_start(c);
}

static const struct conn_events mirror_events;
static struct upconn *connection(struct mirror *m);

/* ask_anew: another connection to the endpoint (h2_asks_anew), unless that one was its own. */
static void ask_anew(struct mirror *m) {
  if (upconn_inherit(m->up, &mirror_events)) {
    write_request(m);
    return;
  }
  upconn_close(m->up, false);
  m->up = connection(m);
  if (!m->up) {
    endpoint_end(m->endpoint, m->w->config.index);
    request_permits_give(&m->w->upstream, m->pool->state, m->endpoint, m->permits);
    queue_freed(m->w, m->pool->state);
    failed(m, END_LIMIT_CONNECTIONS); /* weir's own: no permit */
  } else if (m->reused) {
    m->reused = m->up->requests > 1;
    write_request(m);
  }
}

static void on_open(struct conn *c, int err) {
  struct mirror *m = ((struct upconn *)c->owner)->owner;
  if (h2_asks_anew(err)) {
    ask_anew(m);
    return;
  }
  if (err) failed(m, open_end(m->up, err, NULL));
  else write_request(m);
}

static const struct conn_events mirror_events = {.on_open = on_open,
                                                 .on_data = on_data,
                                                 .on_message = on_message,
                                                 .on_eof = on_eof,
                                                 .on_error = on_error,
                                                 .on_drained = on_nothing,
                                                 .on_timer = on_nothing};

static struct upconn *connection(struct mirror *m) {
  struct upstream *u = &m->w->upstream;
  bool fresh = m->pool->connections.proxied;
  const struct attempt_to to = {.events = &mirror_events,
                                .owner = m,
                                .first = buf_span(&m->header),
                                .alone = fresh,
                                .once = true};
  int err;
  enum upconn_way way = upconn_way(u, m->pool, m->endpoint);
  if (way == UPCONN_STREAM) return upconn_stream(u, m->pool, m->endpoint, &to, &m->reused, &err);
  struct upconn *up = fresh ? NULL : upconn_checkout(u, m->pool, m->endpoint, m);
  m->reused = up != NULL;
  if (!up && way == UPCONN_ASK)
    return upconn_stream(u, m->pool, m->endpoint, &to, &m->reused, &err);
  if (!up) return upconn_connect(u, m->pool, m->endpoint, &to, &err);
  conn_attach(up->conn, &mirror_events, up);
  conn_timer(up->conn, WHEEL_NEVER);
  return up;
}

/* get_connection gets one without waiting for one. */
static bool get_connection(struct mirror *m) {
  struct upstream *u = &m->w->upstream;
  if (!request_permits_take(u, m->pool, m->endpoint, &m->permits)) return false;
  m->up = connection(m);
  if (m->up) return true;
  request_permits_give(u, m->pool->state, m->endpoint, m->permits);
  m->permits = 0;
  return false;
}

static void go(struct mirror *m) {
  struct worker *w = m->w;
  if (queue_stands(m->pool) || !get_connection(m)) {
    skipped(w);
    end(m, false);
    return;
  }
  stat_add(&w->stats.mirrored, 1);
  endpoint_begin(m->endpoint, w->config.index);
  if (!m->reused) {
    m->step = MIRROR_CONNECT;
    m->t_begin = now_ns(w);
    give_time(m, m->pool->timeouts.connect_ms);
    return;
  }
  write_request(m);
}

/* ---- the copy ---- */

static bool wanted(struct stream *s) {
  const struct route_mirror *mirror = &s->route->mirror;
  if (s->x->req.upgrade.len) return false;
  return mirror->ppm >= 1000000u || rng_next(&s->w->rng) % 1000000u < mirror->ppm;
}

void mirror_begin(struct stream *s) {
  struct worker *w = s->w;
  if (!wanted(s)) return;
  if (breaker_refuses(s->route->mirror.pool, now_ms(w))) { /* copies are no probes */
    skipped(w);
    return;
  }
  const struct http_request *r = &s->x->req;
  bool long_body = r->body == HTTP_BODY_LENGTH && r->content_length > MIRROR_BODY_MAX;
  struct mirror *m = long_body ? NULL : slab_new(&w->mirrors);
  if (!m) {
    skipped(w);
    return;
  }
  m->w = w;
  m->pool = s->route->mirror.pool;
  m->method = (uint8_t)s->x->req.method;
  m->secure = s->down->flags & DOWN_TLS;
  object_pin(&m->pool->obj, w->config.index);
  list_push_tail(&w->mirrors_live, &m->link);
  timer_init(&m->timer, on_timer);
  arena_init(&m->arena, &w->blocks,
             3 * MIRROR_BODY_MAX + 4 * (size_t)s->listener->limits.header_bytes);
  arena_init(&m->answer, &w->blocks, MIRROR_HEAD_ARENA);
  s->x->mirror = m;
  if (s->up_body.state == PUMP_NONE) mirror_send(s);
}

void mirror_drop(struct stream *s) {
  if (!s->x || !s->x->mirror) return;
  skipped(s->w);
  end(s->x->mirror, false);
  s->x->mirror = NULL;
}

/* memory is NULL when the worker's copies have as much as they may. */
static char *memory(struct mirror *m, size_t bytes) {
  if (m->w->mirror_bytes + bytes > MIRROR_BYTES_MAX) return NULL;
  char *to = arena_bytes(&m->arena, bytes);
  if (!to) return NULL;
  m->bytes += bytes;
  m->w->mirror_bytes += bytes;
  return to;
}

/* room doubles what the body has, so that all of it costs at most twice its size. */
static bool room(struct mirror *m, size_t more) {
  if (m->body.len + more > MIRROR_BODY_MAX) return false;
  if (buf_room(&m->body) >= more) return true;
  size_t want = 2 * m->body.cap > MIRROR_BODY_FIRST ? 2 * m->body.cap : MIRROR_BODY_FIRST;
  if (want < m->body.len + more) want = m->body.len + more;
  char *bytes = memory(m, want);
  if (!bytes) return false;
  struct buf grown = buf_of(bytes, want);
  buf_put(&grown, buf_span(&m->body));
  m->body = grown;
  return true;
}

void mirror_body(struct stream *s, struct span data) {
  if (room(s->x->mirror, data.len)) buf_put(&s->x->mirror->body, data);
  else mirror_drop(s);
}

/* write_head gives false when it did not fit. */
static bool write_head(struct stream *s, struct mirror *m, size_t bytes) {
  char *to = memory(m, bytes);
  if (!to) return false;
  m->request = buf_of(to, bytes);
  request_write_copy(s, m->endpoint, m->body.len, &m->request);
  return !m->request.full;
}

/* keep_secret notes what the head does not say. */
static bool keep_secret(const struct http_request *r, struct mirror *m) {
  const struct http_fields *f = &r->fields;
  size_t bytes = 0;
  uint32_t at = 0; /* Host */
  m->secret_pseudo = r->secret;
  for (uint32_t i = 0; i < f->count && !bytes; i++)
    if (f->rows[i].secret) bytes = f->count / 8 + 1;
  if (!bytes) return true;
  char *bits = memory(m, bytes);
  if (!bits) return false;
  memset(bits, 0, bytes);
  for (uint32_t i = 0; i < f->count; i++) {
    if (!request_copies(&f->rows[i])) continue;
    at++;
    if (f->rows[i].secret) bits[at / 8] = (char)((uint8_t)bits[at / 8] | 1u << at % 8);
  }
  m->secret = span_of(bits, bytes);
  return true;
}

static bool tell_client(struct stream *s, struct mirror *m) {
  if (!m->pool->connections.proxied) return true;
  char *to = memory(m, PROXIED_ROOM);
  if (!to) return false;
  m->header = buf_of(to, PROXIED_ROOM);
  return proxied_write(s, m->pool, &m->header);
}

/* choose goes by what the request says, as the real pool's choice does; cookies are not for it. */
static const struct pool_member *choose(struct stream *s, const struct pool *pool) {
  struct pool_want want = {.now_ms = now_ms(s->w), .sticky = PLACE_NONE};
  if (balance_hashed(pool->balance))
    want.hashed = hash_key_find(&pool->spread.hash, &s->x->req, s->x->ctx.client, &want.hash);
  return pool_pick(&s->w->upstream, pool, &want);
}

/* head_room is what the head takes as HTTP/1.1 has it; the filters have added their fields. */
static size_t head_room(const struct stream *s) {
  const struct http_request *r = &s->x->req;
  size_t room = r->method_text.len + r->path.len + r->query.len + r->host.len + 512;
  for (uint32_t i = 0; i < r->fields.count; i++)
    room += r->fields.rows[i].name.len + r->fields.rows[i].value.len + 4;
  return room + s->x->ctx.forward_path.len;
}

void mirror_send(struct stream *s) {
  struct mirror *m = s->x->mirror;
  struct worker *w = s->w;
  const struct pool_member *member = choose(s, m->pool);
  if (!member) {
    mirror_drop(s);
    return;
  }
  m->endpoint = member->endpoint;
  object_pin(&m->endpoint->obj, w->config.index);
  size_t bytes = head_room(s);
  bool written = write_head(s, m, bytes) || write_head(s, m, 2 * bytes);
  if (!written || !keep_secret(&s->x->req, m) || !tell_client(s, m)) {
    mirror_drop(s);
    return;
  }
  s->x->mirror = NULL;
  go(m);
}

/* ---- the worker's ---- */

void mirror_init(struct worker *w) {
  slab_init(&w->mirrors, sizeof(struct mirror), 16, MIRRORS_MAX);
  list_init(&w->mirrors_live);
}

void mirror_fini(struct worker *w) { slab_fini(&w->mirrors); }

void mirror_end_all(struct worker *w) {
  while (!list_empty(&w->mirrors_live)) { /* each turn ends one */
    struct mirror *m = container_of(w->mirrors_live.next, struct mirror, link);
    skipped(w);
    end(m, false);
  }
}
