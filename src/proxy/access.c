/* access.c: what is told of a stream when it ends: the access record for the log thread, the
 * series and counters of the worker. Formats nothing. DESIGN.md section 8. */
#include "proxy_priv.h"
#include "udp_priv.h"
#include "weir/base/hash.h"
#include "weir/http/h2_frame.h"
#include "weir/io/tls_ech.h"

enum { CLIENT_TEXT_MAX = 64, TOLD_TEXT_MAX = 48 };

static uint64_t phase(uint64_t from, uint64_t to) {
  return from && to >= from ? to - from : NEVER_NS;
}

static uint64_t or_zero(uint64_t ns) { return ns == NEVER_NS ? 0 : ns; }

static uint64_t tls_ns(const struct down *d) { return d->tls_us * UINT64_C(1000); }

/* begun: a session of TCP begins with its handshake, a request after it. */
static uint64_t begun(const struct stream *s) {
  uint64_t tls = s->flags & STREAM_TCP ? tls_ns(s->down) : 0;
  return s->t_start > tls ? s->t_start - tls : s->t_start;
}

static void record_times(const struct stream *s, struct record_access *r) {
  r->total_ns = phase(begun(s), now_ns(s->w));
  r->request_ns = phase(s->t_start, s->t_head);
  r->queue_ns = s->flags & STREAM_WAITED ? s->queue_ns : NEVER_NS;
  r->connect_ns = s->connect_ns ? s->connect_ns : NEVER_NS;
  r->first_byte_ns = phase(s->try.t_sent, s->try.t_first);
  r->response_ns = phase(s->try.t_first, now_ns(s->w));
  r->tls_ns = s->down->requests == 1 && s->down->tls_us ? tls_ns(s->down) : NEVER_NS;
}

static struct span field_value(const struct http_fields *fields, enum http_name id) {
  const struct http_field *row = http_fields_find(fields, id);
  return row ? row->value : SPAN_EMPTY;
}

static void texts_tls(const struct down *d, struct record_access *r, struct span *t) {
  if (!(d->flags & DOWN_TLS)) return;
  struct tls_info info;
  conn_tls_info(d->conn, &info);
  r->flags |= RECORD_TLS;
  if (info.resumed) r->flags |= RECORD_TLS_RESUMED;
  if (info.ech == TLS_ECH_ACCEPTED) r->tls |= RECORD_ECH;
  t[TEXT_TLS_VERSION] = info.version;
  t[TEXT_TLS_CIPHER] = info.cipher;
  t[TEXT_TLS_GROUP] = info.group;
  t[TEXT_TLS_SUBJECT] = info.subject;
  t[TEXT_TLS_ISSUER] = info.issuer;
  t[TEXT_TLS_HASH] = info.hash;
}

/* is_connect: it came as an extended CONNECT of HTTP/2 (RFC 8441), whose protocol is upgrade. */
static bool is_connect(const struct http_request *r) { return r->h2 && r->upgrade.len; }

/* texts_tunnel: an extended CONNECT is a GET to all but who reads the log. */
static void texts_tunnel(const struct http_request *q, struct span *t) {
  t[TEXT_METHOD] = http_method_text(HTTP_METHOD_CONNECT);
  t[TEXT_UPGRADE] = websocket_is(q->upgrade) ? SPAN_LIT("websocket") : q->upgrade;
}

static void texts_head(const struct http_request *q, struct span *t) {
  t[TEXT_METHOD] = q->method_text;
  if (is_connect(q)) texts_tunnel(q, t);
  t[TEXT_PATH] = q->path;
  t[TEXT_QUERY] = q->query;
  t[TEXT_HOST] = q->host;
  t[TEXT_USER_AGENT] = field_value(&q->fields, HTTP_NAME_USER_AGENT);
  t[TEXT_TRACE] = field_value(&q->fields, HTTP_NAME_TRACEPARENT);
}

static void texts_request(const struct exchange *x, struct span *t) {
  texts_head(&x->req, t);
  t[TEXT_CLIENT] = x->ctx.client;
  t[TEXT_TRIES] = x->tries;
  t[TEXT_UPSTREAM_TLS] = x->tls_why;
  t[TEXT_RATE] = rate_name(x->limited.rate);
  t[TEXT_UNIQUE_ID] = x->unique_id;
}

/* kept_texts are the texts of a record that come from the request. */
static const uint8_t kept_texts[KEPT_TEXTS] = {
    TEXT_METHOD, TEXT_PATH, TEXT_QUERY, TEXT_HOST, TEXT_CLIENT, TEXT_USER_AGENT, TEXT_TRACE,
    TEXT_TRIES, TEXT_RATE, TEXT_UNIQUE_ID, TEXT_UPGRADE};

static void texts_kept(const struct kept *k, struct span *t) {
  const char *at = k->texts;
  for (size_t i = 0; at && i < KEPT_TEXTS; at += k->len[i++])
    t[kept_texts[i]] = span_of(at, k->len[i]);
}

/* version_of is 0 and 1 of HTTP/1, 2 of HTTP/2. */
static uint8_t version_of(const struct http_request *r) { return r->h2 ? 2 : r->minor; }

static uint8_t method_of(const struct stream *s) {
  if (!(s->flags & STREAM_PARSED)) return HTTP_METHOD_OTHER;
  if (s->kept) return s->kept->method;
  if (is_connect(&s->x->req)) return HTTP_METHOD_CONNECT;
  return (uint8_t)s->x->req.method;
}

void access_keep(struct stream *s) {
  struct worker *w = s->w;
  struct span t[TEXT_COUNT] = {0};
  struct kept *k = slab_new(&w->kept); /* there are as many as streams */
  check(k != NULL);
  texts_request(s->x, t);
  struct span upgrade = s->x->req.upgrade;
  t[TEXT_UPGRADE] = websocket_is(upgrade) ? SPAN_LIT("websocket") : upgrade;
  k->method = method_of(s);
  k->minor = version_of(&s->x->req);
  k->has_query = s->x->req.has_query;
  k->tls_why = s->x->tls_why;
  size_t total = 0;
  for (size_t i = 0; i < KEPT_TEXTS; i++) {
    struct span *text = &t[kept_texts[i]];
    *text = span_sub(*text, 0, RECORD_TEXT_MAX);
    total += k->len[i] = (uint16_t)text->len;
  }
  struct arena small;
  arena_init(&small, &w->blocks, 0);
  char *to = total <= KEPT_NEAR ? k->near : arena_bytes(&small, total);
  struct buf b = buf_of(to, total);
  for (size_t i = 0; i < KEPT_TEXTS; i++) buf_put(&b, t[kept_texts[i]]);
  k->texts = to;
  s->kept = k;
  slab_free(&w->exchanges, s->x);
  s->x = NULL;
  arena_reset(&s->arena);
  s->arena = small;
}

/* from_head says what was read of a request that was refused, or did not come whole. */
static void from_head(struct stream *s, struct record_access *r, struct span *t) {
  bool h2 = s->flags & STREAM_H2, version = h2;
  struct http_request seen;
  if (s->flags & STREAM_TCP || !s->x) return;
  if (h2)
    h2_request_seen(&s->x->section, &s->arena, &seen);
  else
    version = h1_request_seen(&s->x->scan, buf_span(&s->x->head_in), &s->arena, &seen);
  if (version) r->minor = version_of(&seen);
  if (seen.has_query) r->flags |= RECORD_HAS_QUERY;
  texts_head(&seen, t);
}

static void from_request(struct stream *s, struct record_access *r, struct span *t) {
  const struct kept *k = s->kept;
  r->minor = RECORD_NO_VERSION;
  if (!(s->flags & STREAM_PARSED)) {
    from_head(s, r, t);
    return;
  }
  r->minor = k ? k->minor : version_of(&s->x->req);
  if (k ? k->has_query : s->x->req.has_query) r->flags |= RECORD_HAS_QUERY;
  if (k) {
    t[TEXT_UPSTREAM_TLS] = k->tls_why;
    texts_kept(k, t);
  } else {
    texts_request(s->x, t);
  }
}

/* scheme_of: TCP has none. */
static struct span scheme_of(const struct down *d, struct record_access *r) {
  if (d->flags & DOWN_TCP) {
    r->flags |= RECORD_TCP;
    return SPAN_EMPTY;
  }
  return d->flags & DOWN_TLS ? SPAN_LIT("https") : SPAN_LIT("http");
}

/* tls_reason is the library's word for what failed; empty: nothing, or no TLS. */
static struct span tls_reason(const struct down *d) {
  struct tls_info info;
  conn_tls_info(d->conn, &info);
  return info.why;
}

/* asked_name is the host that the client of d asked for in its handshake, canonical; of one whose
 * first message was encrypted: there. */
static struct span asked_name(const struct down *d) {
  struct tls_info info;
  conn_tls_info(d->conn, &info);
  return info.sni;
}

/* tls_came: a client spoke TLS where there is none (RFC 8446 section 5.1: a handshake record). */
static bool tls_came(const struct stream *s) {
  bool line = s->end == END_BAD_REQUEST_LINE && s->x && !(s->down->flags & DOWN_TLS);
  return line && s->x->head_in.len && s->x->head_in.ptr[0] == 0x16;
}

/* text_told names the fault of the client's TLS that ended it, or the error by which the other
 * side ended it by HTTP/2: the endpoint, or the client that left. */
static void text_told(const struct stream *s, char room[TOLD_TEXT_MAX], struct span *t) {
  bool gone = s->end == END_CLIENT_CLOSED || s->end == END_CLIENT_RESET;
  bool left = s->flags & STREAM_H2 && gone;
  struct h2_told told =
      left ? h2_stream_told(h2_stream_of(s->conn)) : attempt_told(&s->try, s->end);
  struct buf b = buf_of(room, TOLD_TEXT_MAX);
  bool tls = s->end != END_OK && conn_tls_end(s->down->conn) == s->end;
  if (tls) t[TEXT_REASON] = tls_reason(s->down);
  if (tls_came(s))
    t[TEXT_REASON] = SPAN_LIT("TLS was sent to a port without TLS (listeners.*.tls)");
  if (!told.frame) return;
  buf_put(&b, h2_type_name(told.frame));
  buf_char(&b, ' ');
  h2_error_write(&b, told.code);
  t[TEXT_REASON] = buf_span(&b);
}

static void texts(struct stream *s, struct record_access *r, struct span *t) {
  texts_tls(s->down, r, t);
  if (s->flags & STREAM_EARLY) r->tls |= RECORD_EARLY;
  from_request(s, r, t);
  t[TEXT_SCHEME] = scheme_of(s->down, r);
  t[TEXT_LISTENER] = s->down->serving->state->obj.name;
  if (s->route_state) t[TEXT_ROUTE] = s->route_state->obj.name;
  if (s->pool_state) t[TEXT_POOL] = s->pool_state->obj.name;
  if (!s->try.endpoint) return;
  t[TEXT_ENDPOINT] = s->try.endpoint->label;
}

static struct span text_ip(const struct addr *a, char room[CLIENT_TEXT_MAX]) {
  struct buf b = buf_of(room, CLIENT_TEXT_MAX);
  addr_write_ip(a, &b);
  return buf_span(&b);
}

/* texts_proxied: where no request says whose it is, a PROXY header may have, and its id. */
static void texts_proxied(const struct down *d, char room[CLIENT_TEXT_MAX], struct span *t) {
  if (!t[TEXT_UNIQUE_ID].len) t[TEXT_UNIQUE_ID] = proxied_id_of(d);
  if (t[TEXT_CLIENT].len || !d->proxied) return;
  struct addr client;
  down_peer(d, &client);
  t[TEXT_CLIENT] = text_ip(&client, room);
}

/* record_put writes the record and its texts; a full ring counts a drop. */
static void record_put(struct worker *w, struct record_access *r, const struct span *t) {
  size_t len = sizeof *r;
  r->done_ns = now_ns(w);
  for (size_t i = 0; i < TEXT_COUNT; i++) {
    r->text_len[i] = (uint16_t)(t[i].len > RECORD_TEXT_MAX ? RECORD_TEXT_MAX : t[i].len);
    len += r->text_len[i];
  }
  char *to = worker_log_room(w, len);
  if (!to) return;
  struct buf b = buf_of(to, len);
  buf_put(&b, span_of((const char *)r, sizeof *r));
  for (size_t i = 0; i < TEXT_COUNT; i++) buf_put(&b, span_sub(t[i], 0, r->text_len[i]));
  check(!b.full);
  worker_log_done(w, len);
}

static bool sampled(struct worker *w, enum end end) {
  if (!w->config.log || !w->access_log) return false;
  if (end != END_OK || w->sample_ppm >= 1000000u) return true;
  return rng_next(&w->rng) % 1000000u < w->sample_ppm;
}

static void record_call(const struct stream *s, struct record_access *r) {
  if (!(s->flags & STREAM_GRPC) || !s->x) return;
  r->flags |= RECORD_GRPC;
  r->grpc_status = (uint8_t)grpc_final(s);
}

static void write_record(struct stream *s, uint16_t status) {
  struct record_access r = {.kind = RECORD_ACCESS};
  struct span t[TEXT_COUNT] = {0};
  r.attempts = s->attempts;
  r.status = status;
  r.end = (uint16_t)s->end;
  r.worker = (uint16_t)s->w->config.index;
  r.wall_ms = s->w->loop->wall_ms - (now_ns(s->w) - begun(s)) / 1000000u;
  r.request_bytes = body_moved(&s->up_body);
  r.response_bytes = body_moved(&s->down_body);
  if (s->try.flags & ATTEMPT_REUSED) r.flags |= RECORD_REUSED;
  if (s->try.flags & ATTEMPT_SENT) r.upstream = s->try.flags & ATTEMPT_H2 ? 2 : 1;
  char room[CLIENT_TEXT_MAX], told[TOLD_TEXT_MAX];
  down_socket(s->down, &r.peer);
  record_call(s, &r);
  record_times(s, &r);
  texts(s, &r, t);
  text_told(s, told, t);
  texts_proxied(s->down, room, t);
  record_put(s->w, &r, t);
}

static void observe(struct stream *s, uint16_t status) {
  struct worker *w = s->w;
  uint64_t total = or_zero(phase(s->t_start, now_ns(s->w)));
  uint8_t method = method_of(s);
  uint32_t route = s->route_state ? s->route_state->obj.id : 0;
  struct stats_series *server =
      stats_series_get(&w->stats, STATS_SERVER, s->down->serving->state->obj.id, route, method,
                       (uint8_t)(status / 100));
  stats_observe(&server->latency, total);
  if (!s->try.t_sent || !s->try.t_first) return;
  uint64_t wait = or_zero(phase(s->try.t_sent, s->try.t_first));
  struct stats_series *client = stats_series_get(&w->stats, STATS_CLIENT, s->pool_state->obj.id,
                                                 s->try.endpoint->obj.id, 0, 0);
  stats_observe(&client->latency, wait + or_zero(phase(s->try.t_first, now_ns(s->w))));
  uint64_t outside = or_zero(phase(s->t_start, s->t_head)) + s->queue_ns + s->connect_ns + wait +
                     s->earlier_ns +
                     or_zero(phase(s->try.t_first, now_ns(s->w)));
  stats_observe(&w->stats.overhead, total > outside ? total - outside : 0);
}

static void count_call(struct stream *s) {
  if (!(s->flags & STREAM_GRPC) || !s->x) return;
  struct pool_state *pool = s->pool_state;
  _Atomic uint64_t *counts = pool ? pool->rows[s->w->config.index].grpc : s->w->stats.grpc;
  stat_add(&counts[grpc_final(s)], 1);
}

/* RESET_LINES of one connection in a second say that its client reset a request. What goes beyond
 * that is a flood, which must not push all else out of the log: it is counted, and told once. */
#define RESET_LINES 100u /* fits reset_lines */

static bool resets_flood(struct stream *s) {
  struct down *d = s->down;
  if (!(s->flags & STREAM_H2) || s->end != END_CLIENT_RESET) return false;
  uint16_t second = (uint16_t)(now_ms(s->w) / 1000);
  if (d->reset_second != second) d->reset_lines = 0;
  d->reset_second = second;
  if (d->reset_lines < RESET_LINES) {
    d->reset_lines++;
    return false;
  }
  if (d->resets_untold == UINT16_MAX) access_resets(d);
  d->resets_untold++;
  stat_add(&s->w->stats.log_left_out, 1);
  return true;
}

void access_resets(struct down *d) {
  if (!d->resets_untold) return;
  char ip[CLIENT_TEXT_MAX];
  struct buf b = buf_of(ip, sizeof ip);
  struct addr client;
  down_peer(d, &client);
  addr_write_ip(&client, &b);
  worker_event(d->serving->w, END_LEVEL_INFO,
               "client " SPAN_FMT ": %u requests of an HTTP/2 connection that it reset have no "
               "line in the access log (client.reset, more than %u in a second)",
               SPAN_ARG(buf_span(&b)), d->resets_untold, RESET_LINES);
  d->resets_untold = 0;
}

void access_write(struct stream *s) {
  struct worker *w = s->w;
  bool tcp = s->flags & STREAM_TCP;
  uint16_t status = s->status;
  if (!status && !tcp && end_get(s->end)->status == 499) status = 499;
  stat_add(&w->stats.proxied, 1);
  stat_add(&w->stats.ends[s->end], 1);
  if (!(s->flags & (STREAM_TCP | STREAM_TUNNEL))) { /* those were counted as they moved */
    stat_add(&w->stats.bytes_down_in, body_moved(&s->up_body));
    stat_add(&w->stats.bytes_down_out, body_moved(&s->down_body));
  }
  if (!tcp) observe(s, status);
  count_call(s);
  if (sampled(w, s->end) && !resets_flood(s)) write_record(s, status);
}

/* bare_record is one of a connection that had no request. */
static struct record_access bare_record(const struct worker *w, enum end end) {
  struct record_access r = {
      .kind = RECORD_ACCESS, .minor = RECORD_NO_VERSION, .end = (uint16_t)end};
  r.worker = (uint16_t)w->config.index;
  r.wall_ms = w->loop->wall_ms;
  r.total_ns = r.tls_ns = r.request_ns = r.queue_ns = NEVER_NS;
  r.connect_ns = r.first_byte_ns = r.response_ns = NEVER_NS;
  return r;
}

void access_peer(struct serving *sv, const struct access_from *from, enum end end) {
  if (!sampled(sv->w, end)) return;
  struct record_access r = bare_record(sv->w, end);
  struct span t[TEXT_COUNT] = {[TEXT_UNIQUE_ID] = from->id,
                               [TEXT_RATE] = from->rate,
                               [TEXT_REASON] = from->reason};
  char room[CLIENT_TEXT_MAX];
  r.peer = *from->peer;
  if (from->client) t[TEXT_CLIENT] = text_ip(from->client, room);
  const struct listener *l = sv->current ? sv->current->listener : NULL;
  if (!l || l->serves == SERVES_UDP) r.flags |= RECORD_UDP; /* a port that was removed */
  else if (l->serves != SERVES_HTTP) r.flags |= RECORD_TCP;
  else t[TEXT_SCHEME] = l->tls ? SPAN_LIT("https") : SPAN_LIT("http");
  t[TEXT_LISTENER] = sv->state->obj.name;
  record_put(sv->w, &r, t);
}

static void connection(struct down *d, enum end end, uint16_t status,
                       const struct access_words *words) {
  struct worker *w = d->serving->w;
  stat_add(&w->stats.ends[end], 1);
  if (!sampled(w, end)) return;
  struct record_access r = bare_record(w, end);
  struct span t[TEXT_COUNT] = {[TEXT_HOST] = words->host, [TEXT_REASON] = words->reason};
  char room[CLIENT_TEXT_MAX];
  r.status = status;
  if (d->h2) r.minor = 2;
  if (d->h2) t[TEXT_REASON] = h2_reason(d->h2);
  down_socket(d, &r.peer);
  texts_tls(d, &r, t);
  texts_proxied(d, room, t);
  if (!t[TEXT_REASON].len) t[TEXT_REASON] = tls_reason(d);
  if (!t[TEXT_HOST].len) t[TEXT_HOST] = asked_name(d);
  t[TEXT_RATE] = rate_name(down_rate(d));
  t[TEXT_SCHEME] = scheme_of(d, &r);
  t[TEXT_LISTENER] = d->serving->state->obj.name;
  record_put(w, &r, t);
}

void access_connection(struct down *d, enum end end, uint16_t status) {
  connection(d, end, status, &(struct access_words){0});
}

void access_refused(struct down *d, enum end end, const struct access_words *words) {
  connection(d, end, 0, words);
}

/* told: of a flood of sessions that made room for each other only some have lines. */
static bool told(struct worker *w, enum end end) {
  if (end != END_LIMIT_SESSION_EVICTED || gate_may_log(w)) return true;
  stat_add(&w->stats.log_left_out, 1);
  return false;
}

void access_session(const struct udp_session *s, enum end end) {
  struct serving *sv = s->port->serving;
  struct worker *w = sv->w;
  stat_add(&w->stats.ends[end], 1);
  stat_add(&w->stats.proxied, 1);
  if (!sampled(w, end) || !told(w, end)) return;
  struct record_access r = bare_record(w, end);
  struct span t[TEXT_COUNT] = {0};
  r.flags |= RECORD_UDP;
  r.wall_ms -= (now_ns(w) - s->begun_ns) / 1000000u;
  r.total_ns = now_ns(w) - s->begun_ns;
  r.request_bytes = s->bytes_in;
  r.response_bytes = s->bytes_out;
  r.datagrams_in = s->in;
  r.datagrams_out = s->out;
  r.attempts = 1;
  udp_peer(s, &r.peer);
  char room[CLIENT_TEXT_MAX];
  struct addr client;
  udp_client(s, &client);
  t[TEXT_CLIENT] = text_ip(&client, room);
  t[TEXT_UNIQUE_ID] = udp_id(s);
  t[TEXT_RATE] = rate_name(s->watched);
  t[TEXT_LISTENER] = sv->state->obj.name;
  t[TEXT_POOL] = s->endpoint->pool_state->obj.name;
  t[TEXT_ENDPOINT] = s->endpoint->label;
  record_put(w, &r, t);
}
