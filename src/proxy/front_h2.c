/* front_h2.c: clients that speak HTTP/2: a connection (mux/h2.h) whose streams are streams of
 * ours, each with a conn of its own. Frames, windows and floods are mux/'s; what a message may say
 * is http/'s. RFC 9113, RFC 8441, RFC 9218. */
#include "proxy_priv.h"
#include "weir/http/h2_frame.h"

static struct down *down_of(const struct h2 *h) { return h2_owner(h); }
static struct stream *stream_of(const struct conn *c) { return c->owner; }
static struct h2_stream *h2_of(const struct stream *s) { return h2_stream_of(s->conn); }

/* ---- the request ---- */

/* malformed: RFC 9113 section 8.1.1 wants no answer but a reset; what is too large has one. */
static void refuse_head(struct stream *s, enum end why) {
  if (end_get(why)->h2_error == H2_PROTOCOL_ERROR) h2_stream_fail(h2_of(s), why);
  else stream_fail(s, why);
}

static void take_priority(struct stream *s) {
  const struct http_field *row =
      http_fields_find_name(&s->x->req.fields, SPAN_LIT("priority"));
  struct http_priority p = HTTP_PRIORITY_DEFAULT;
  if (row && http_priority_parse(row->value, &p)) h2_stream_priority(h2_of(s), p);
}

static void head_done(struct stream *s) {
  const struct http_request *r = &s->x->req;
  s->flags |= STREAM_PARSED;
  s->t_head = now_ns(s->w);
  body_request_init(s);
  enum http_body body = r->upgrade.len ? HTTP_BODY_TUNNEL : r->body;
  h2_stream_expect(h2_of(s), body, r->content_length);
  if (websocket_is(r->upgrade)) shake_of_h2(s);
  take_priority(s);
  begin_put(s);
  conn_flush(s->down->conn);
}

static void on_turn(struct h2 *h) { begin_run(down_of(h)->serving->w); }

static void trailers_done(struct stream *s, enum end end) {
  struct h2_section *section = &s->x->section;
  if (end != END_OK) stream_fail(s, end);
  else if (!h2_parse_trailers(section, true, &end)) h2_stream_fail(h2_of(s), end);
  else trailers_take(s, &s->up_body, &section->fields);
}

static void stream_on_message(struct conn *c, enum end end) {
  struct stream *s = stream_of(c);
  if (s->step == STEP_TAIL) return;
  if (s->flags & STREAM_PARSED) {
    trailers_done(s, end);
    return;
  }
  const struct h2_rules rules = {s->listener->limits.uri_bytes, true};
  if (end == END_OK && !h2_parse_request(&s->x->section, &rules, &s->arena, &s->x->req, &end)) {
    refuse_head(s, end);
    return;
  }
  if (end == END_OK) head_done(s);
  else stream_fail(s, end);
}

/* on_trailers: a tunnel has none, and no place for them. */
static struct h2_section *on_trailers(struct h2_stream *st, struct arena **arena) {
  struct stream *s = h2_stream_conn(st)->owner;
  if (!s || !s->x || s->x->req.upgrade.len) return NULL;
  *arena = &s->arena;
  return &s->x->section;
}

static const struct conn_events stream_events;

/* busy: the connection is one that has requests. */
static void busy(struct down *d, bool now) {
  struct worker *w = d->serving->w;
  if (now == (bool)(d->flags & DOWN_BUSY)) return;
  d->flags ^= DOWN_BUSY;
  if (now) stat_sub(&w->stats.downstream_idle, 1);
  else stat_add(&w->stats.downstream_idle, 1);
}

static void count_stream(struct stream *s, uint32_t beside) {
  stat_add(&s->w->stats.h2_streams, 1);
  if (!beside) {
    s->down->round = s->w->begin.round; /* what it was when others waited is over */
    return;
  }
  s->flags |= STREAM_FURTHER;
  s->w->streams_further++;
}

/* the_last: no requests follow the one that begins and those that the client sends meanwhile. */
static bool the_last(const struct down *d, const struct snapshot_listener *current) {
  uint32_t most = current->listener->limits.requests;
  return (most && d->requests >= most) || d->flags & DOWN_CLOSE;
}

/* limits_as_now: of a listener that a reload has changed, from this request on. */
static void limits_as_now(struct h2 *h, const struct listener *l) {
  const struct h2_limits limits = {.header_bytes = l->limits.header_bytes,
                                   .headers = l->limits.headers,
                                   .resets = l->h2.resets,
                                   .glitches = l->h2.glitches};
  h2_limit(h, &limits);
}

static bool on_stream(struct h2_stream *st) {
  struct h2 *h = h2_stream_h2(st);
  struct down *d = down_of(h);
  const struct snapshot_listener *current = d->serving->current;
  if (!current) return false;
  uint32_t beside = h2_streams(h) - 1;
  bool may = slots_take(d->serving->w, beside);
  struct stream *s = may ? stream_new(d, h2_stream_conn(st)) : NULL;
  if (!s) {
    slots_refused(d->serving->w);
    return false;
  }
  count_stream(s, beside);
  limits_as_now(h, current->listener);
  conn_attach(s->conn, &stream_events, s);
  h2_stream_section(st, &s->x->section, &s->arena);
  stream_timer(s);
  busy(d, true);
  h2_timer(h, WHEEL_NEVER);
  if (the_last(d, current)) h2_drain(h);
  return true;
}

/* ---- the body ---- */

/* body_over: the client ended the body, whose length nobody knew. */
static void body_over(struct stream *s) {
  if (s->step == STEP_TAIL) return;
  if (s->step == STEP_BUFFER) held_eof(s);
  else request_body_eof(s);
}

static size_t stream_on_data(struct conn *c, struct span bytes) {
  struct stream *s = stream_of(c);
  struct worker *w = s->w;
  uint32_t slot = s->head.slot, generation = s->head.generation;
  size_t used = 0;
  s->flags |= STREAM_IN_DATA;
  while (used < bytes.len) {
    bool holding = s->step == STEP_BUFFER;
    size_t took = front_take(s, span_from(bytes, used));
    used += took;
    if (slab_find(&w->streams, slot, generation) != s) return bytes.len;
    if (!took && !(holding && s->step != STEP_BUFFER)) break;
  }
  s->flags &= ~(uint32_t)STREAM_IN_DATA;
  if (c->flags & CONN_EOF && used == bytes.len && !conn_held(c)) body_over(s);
  return used;
}

static void stream_on_eof(struct conn *c) {
  if (!conn_held(c)) body_over(stream_of(c));
}

enum end front_h2_word(const struct stream *s, enum end otherwise) {
  enum end end = h2_stream_end_word(h2_of(s));
  return end == END_OK ? otherwise : end;
}

enum end front_h2_outcome(const struct stream *s) {
  return h2_stream_lost(h2_of(s)) ? front_h2_word(s, END_CLIENT_RESET) : END_OK;
}

static void stream_on_error(struct conn *c, int err) {
  struct stream *s = stream_of(c);
  if (own_trouble(err)) stream_fail(s, END_LIMIT_MEMORY);
  else stream_client_gone(s, front_h2_word(s, END_CLIENT_RESET));
}

static void stream_on_drained(struct conn *c) {
  struct stream *s = stream_of(c);
  if (s->step == STEP_TAIL) stream_go(s, STEP_FINISH);
  else body_drained(s, &s->down_body);
}

static void stream_on_open(struct conn *c, int err) { (void)c, (void)err; } /* it was open */
static void stream_on_timer(struct conn *c) { (void)c; } /* the stream's timer speaks for it */

static void stream_on_secure(struct conn *c) { early_secure(stream_of(c)); }

static const struct conn_events stream_events = {
    .on_open = stream_on_open,
    .on_data = stream_on_data,
    .on_eof = stream_on_eof,
    .on_error = stream_on_error,
    .on_drained = stream_on_drained,
    .on_timer = stream_on_timer,
    .on_message = stream_on_message,
    .on_secure = stream_on_secure,
};

/* ---- the response ---- */

bool front_h2_head(struct stream *s, struct http_response *r, bool last) {
  bool dated = r->status < 200 || http_fields_has(&r->fields, HTTP_NAME_DATE);
  if (!dated && !http_fields_add(&r->fields, &s->arena, SPAN_LIT("date"), worker_date(s->w)))
    return false;
  return h2_send_response(h2_of(s), r, &s->arena, last);
}

/* A tunnel's end has its own time, and a conn that has failed would tell nobody of another end. */
bool front_h2_stays(const struct stream *s) {
  if (!(s->flags & STREAM_H2) || s->flags & (STREAM_ABORT | STREAM_TUNNEL)) return false;
  if (s->conn->flags & CONN_FAILED) return false;
  return !h2_stream_leaves(h2_of(s), conn_pending(s->conn));
}

void front_h2_done(struct conn *c, bool abort, enum end end) {
  if (abort) {
    h2_stream_blame(h2_stream_of(c), end);
    conn_reset(c);
  } else {
    conn_close_gently(c, LINGER_MS);
  }
}

/* ---- the connection ---- */

static void idle(struct down *d) {
  struct worker *w = d->serving->w;
  const struct snapshot_listener *current = d->serving->current;
  uint32_t idle_ms = current ? overload_idle_ms(w, current->listener->timeouts.idle_ms) : 0;
  bool over = h2_draining(d->h2) || !current;
  if (!over) room_idle(d);
  h2_timer(d->h2, over ? now_ms(w) : idle_ms ? now_ms(w) + idle_ms : WHEEL_NEVER);
}

/* on_idle: a client that has said GOAWAY has what it wanted; a request that was on its way behind
 * that is answered still (h2_drain). */
static void on_idle(struct h2 *h) {
  struct down *d = down_of(h);
  busy(d, false);
  if (h2_left(h)) h2_drain(h);
  if (h2_last_call(h) || !h2_draining(h)) idle(d);
}

/* has_line: streams that an end cut have lines of their own; that of TLS may have met none. */
static bool has_line(const struct down *d, enum end end) {
  if (end == END_OK || end == END_DRAIN) return false;
  if (conn_tls_end(d->conn) == end) return !(d->flags & DOWN_BUSY);
  return end_get(end)->h2_error != H2_CANCEL;
}

static void on_end(struct h2 *h, enum end end) {
  struct down *d = down_of(h);
  if (has_line(d, end)) access_connection(d, end, 0);
  busy(d, false);
  access_resets(d);
  d->h2 = NULL;
  stat_sub(&d->serving->w->stats.h2_conns, 1);
  h2_free(h);
  down_close(d, !(d->conn->flags & CONN_FAILED));
}

static void on_timer(struct h2 *h) {
  struct down *d = down_of(h);
  if (h2_streams(h)) return;
  h2_end(h, d->requests || h2_draining(h) ? END_OK : END_CLIENT_TIMEOUT_HEADER);
}

static const struct h2_events events = {
    .on_stream = on_stream,
    .on_trailers = on_trailers,
    .on_idle = on_idle,
    .on_end = on_end,
    .on_timer = on_timer,
    .on_turn = on_turn,
};

/* ends_soon: who began before a drain, or a reload, and speaks only now is told as the others were
 * then. One beyond max_connections has an answer first (the_last). */
static bool ends_soon(const struct down *d) {
  bool closes = d->flags & DOWN_CLOSE && !(d->flags & DOWN_OVER_LIMIT);
  return d->serving->w->draining || d->flags & DOWN_STALE || closes;
}

bool front_h2_start(struct down *d) {
  struct worker *w = d->serving->w;
  const struct listener *l = d->serving->current->listener;
  const struct h2_config config = {
      .pool = w->h2,
      .conn = d->conn,
      .events = &events,
      .limits = {.streams = l->h2.streams,
                 .stream_window = l->h2.stream_window,
                 .stream_window_most = l->h2.window,
                 .windows_grown = 2 * l->h2.window,
                 .window = l->h2.window,
                 .header_bytes = l->limits.header_bytes,
                 .headers = l->limits.headers,
                 .resets = l->h2.resets,
                 .glitches = l->h2.glitches,
                 .age_ms = l->h2.age_ms},
      .owner = d,
      .server = true};
  d->h2 = h2_new(&config);
  if (!d->h2) return false;
  stat_add(&w->stats.h2_conns, 1);
  h2_timer(d->h2, l->timeouts.header_ms ? now_ms(w) + l->timeouts.header_ms : WHEEL_NEVER);
  if (ends_soon(d)) h2_drain(d->h2);
  return true;
}

void front_h2_end(struct down *d, enum end end) { h2_end_now(d->h2, end); }
