/* hedge.c: a second attempt beside one that is slow (pools.*.retry.hedge_after), for requests
 * without a body whose method is idempotent, to another endpoint, from the retry budget. The first
 * final response is taken, unless it is one that would be tried again; the other attempt is
 * cancelled, which says nothing of its endpoint's health. When either fails the other goes on
 * alone. The stream's own attempt stays in stream.try; the second one moves there when it wins
 * (Dean, Barroso 2013, "The Tail at Scale"). */
#include <errno.h>

#include "proxy_priv.h"

static const struct conn_events hedge_events;

static uint64_t after_ms(uint64_t from_ns, uint32_t delay_ms) {
  return delay_ms ? from_ns / 1000000u + delay_ms : WHEEL_NEVER;
}

static bool trying(const struct stream *s) {
  return s->step == STEP_CONNECT || s->step == STEP_SEND;
}

/* ---- the end of the second attempt ---- */

static void drop(struct stream *s) {
  struct hedge *h = s->x->hedge;
  s->x->hedge = NULL;
  admit_cancelled(s, &h->try);
  attempt_end(s, &h->try, false);
  object_unpin(&h->try.endpoint->obj, s->w->config.index);
}

void hedge_cancel(struct stream *s) {
  if (!hedged(s)) return;
  retry_note(s, &s->x->hedge->try, END_OK, 0);
  drop(s);
}

/* failed: the stream's own attempt goes on alone. */
static void failed(struct hedge *h, enum end end) {
  struct stream *s = h->stream;
  bool race = h->try.flags & ATTEMPT_RACES && !(h->try.flags & ATTEMPT_RESPONSE_BYTE);
  bool theirs = !race || end == END_FIRST_BYTE_TIMEOUT || end == END_TRY_TIMEOUT;
  if (theirs && !own_end(end)) attempt_outcome(s, &h->try, end, 0);
  retry_note(s, &h->try, end, 0);
  retry_remember(s, &h->try, end);
  drop(s);
  stream_timer(s);
}

/* ---- the second attempt becomes the stream's own ---- */

void hedge_takes_over(struct stream *s) {
  struct hedge *h = s->x->hedge;
  check(!(s->flags & STREAM_QUEUED));
  admit_cancelled(s, &s->try);
  attempt_drop(s, false);
  object_unpin(&s->try.endpoint->obj, s->w->config.index);
  s->earlier_ns += h->try.t_try - s->try.t_try;
  s->try = h->try;
  s->try.up->owner = s;
  conn_attach(s->try.up->conn, &up_events, s->try.up);
  s->x->scan = h->scan;
  s->x->head_up = h->head_up;
  s->x->resp = h->resp;
  s->x->hedge = NULL;
  s->x->spent_ns = 0;
  s->step = s->try.flags & ATTEMPT_SENT ? STEP_SEND : STEP_CONNECT;
  if (s->try.flags & ATTEMPT_H2) /* its head, or the trailers behind that */
    h2_stream_section(h2_stream_of(s->try.up->conn), &s->x->up_section, &s->arena);
  stream_timer(s);
}

/* won takes the final head of the second attempt; how many bytes were used. */
static size_t won(struct hedge *h, struct span bytes, size_t used) {
  struct stream *s = h->stream;
  uint16_t status = h->resp.status;
  if (status == 101) {
    failed(h, END_BAD_RESPONSE_UPGRADE);
    return bytes.len;
  }
  if (retry_on_status(&s->pool->retry, status)) { /* the other one may bring a better one */
    attempt_outcome(s, &h->try, END_OK, status);
    retry_note(s, &h->try, END_OK, status);
    retry_remember(s, &h->try, END_OK);
    drop(s);
    stream_timer(s);
    return bytes.len;
  }
  stat_add(&s->w->stats.hedges_won, 1);
  attempt_outrun(s, &s->try);
  retry_note(s, &s->try, END_OK, 0);
  hedge_takes_over(s);
  return used + response_final(s, span_from(bytes, used));
}

/* ---- its connection ---- */

static void send_request(struct hedge *h) {
  enum end end = attempt_send(h->stream, &h->try);
  if (end != END_OK) {
    failed(h, end);
    return;
  }
  if (h->try.flags & ATTEMPT_H2)
    h2_stream_section(h2_stream_of(h->try.up->conn), &h->section, &h->stream->arena);
  stream_timer(h->stream);
}

/* ask_anew: see attempt_ask_anew; without a permit there is no second attempt. */
static void ask_anew(struct hedge *h) {
  struct stream *s = h->stream;
  bool open = false;
  int err = attempt_take_anew(s, &h->try, &(struct attempt_owner){&hedge_events, h}, &open);
  if (err) drop(s);
  if (!err && open) {
    h->try.t_connected = now_ns(s->w);
    send_request(h);
    return;
  }
  stream_timer(s);
}

static void on_open(struct conn *c, int err) {
  struct hedge *h = ((struct upconn *)c->owner)->owner;
  if (h2_asks_anew(err)) {
    ask_anew(h);
    return;
  }
  if (err) {
    failed(h, open_end(h->try.up, err, &h->stream->x->tls_why));
    return;
  }
  h->try.t_connected = now_ns(h->stream->w);
  send_request(h);
}

/* head takes bytes of heads; HTTP_DONE: the final one is there. Interim ones are not passed on. */
static enum http_result head(struct hedge *h, struct span bytes, size_t *used, enum end *why) {
  struct stream *s = h->stream;
  const struct pool_limits *l = &s->pool->limits;
  struct h1_limits limits = {l->header_bytes, l->headers, 0};
  while (*used < bytes.len) {
    size_t before = h->head_up.len;
    size_t took = head_append(&s->arena, &h->head_up, span_from(bytes, *used), l->header_bytes);
    *why = END_LIMIT_MEMORY;
    if (!took) return HTTP_BAD;
    enum http_result r = h1_parse_response(&h->scan, buf_span(&h->head_up), &limits, &s->arena,
                                           s->x->req.method, &h->resp, why);
    *used += r == HTTP_DONE ? h->resp.head_len - before : took;
    if (r != HTTP_DONE || h->resp.status >= 200 || h->resp.status == 101) return r;
    *why = END_BAD_RESPONSE_INTERIM;
    if (++h->interims > INTERIM_MAX) return HTTP_BAD;
    h->head_up.len = 0;
    h->scan = (struct h1_scan){0};
  }
  return HTTP_MORE;
}

static size_t on_data(struct conn *c, struct span bytes) {
  struct hedge *h = ((struct upconn *)c->owner)->owner;
  size_t used = 0;
  enum end why = END_INTERNAL;
  if (!h->try.t_first) h->try.t_first = now_ns(h->stream->w);
  h->try.flags |= ATTEMPT_RESPONSE_BYTE;
  switch (head(h, bytes, &used, &why)) {
    case HTTP_MORE: break;
    case HTTP_DONE: return won(h, bytes, used);
    case HTTP_BAD: failed(h, why); break;
  }
  return bytes.len;
}

/* on_message: a head came by HTTP/2. */
static void on_message(struct conn *c, enum end end) {
  struct hedge *h = ((struct upconn *)c->owner)->owner;
  struct h2_stream *st = h2_stream_of(c);
  if (!h->try.t_first) h->try.t_first = now_ns(h->stream->w);
  h->try.flags |= ATTEMPT_RESPONSE_BYTE;
  bool good = end == END_OK && response_read_h2(h->stream, &h->section, &h->resp, &end);
  if (good && h->resp.status < 200 && h->resp.status != 101) {
    end = END_BAD_RESPONSE_INTERIM;
    good = ++h->interims <= INTERIM_MAX;
    if (good) h2_stream_section(st, &h->section, &h->stream->arena);
  } else if (good) {
    h2_stream_expect(st, h->resp.body, h->resp.content_length);
    (void)won(h, SPAN_EMPTY, 0);
  }
  if (!good) failed(h, end);
}

static void on_eof(struct conn *c) {
  failed(((struct upconn *)c->owner)->owner, END_UPSTREAM_CLOSED);
}

static void on_error(struct conn *c, int err) {
  struct hedge *h = ((struct upconn *)c->owner)->owner;
  failed(h, attempt_cause(&h->try, err, &h->stream->x->tls_why));
}

static void on_nothing(struct conn *c) { (void)c; }

static const struct conn_events hedge_events = {.on_open = on_open,
                                                .on_data = on_data,
                                                .on_eof = on_eof,
                                                .on_error = on_error,
                                                .on_drained = on_nothing,
                                                .on_timer = on_nothing,
                                                .on_message = on_message};

/* ---- its begin, and its time ---- */

/* at_home: the request's cookie names the endpoint that has it: nobody else knows the session. */
static bool at_home(const struct stream *s) {
  uint32_t home = s->x->want.sticky;
  return home != PLACE_NONE && s->pool->members[home].endpoint == s->try.endpoint;
}

/* may_begin: the first attempt has brought nothing yet, and the request may reach two endpoints.
 */
static bool may_begin(const struct stream *s) {
  if (s->flags & STREAM_HEDGED || s->try.flags & ATTEMPT_RESPONSE_BYTE) return false;
  if (s->up_body.state != PUMP_NONE || s->x->req.upgrade.len || at_home(s)) return false;
  return http_method_idempotent(s->x->req.method) && retry_left(s);
}

/* AGAIN_PART: while no permit is left, a part of hedge_after passes between looks for one: a
 * second attempt has no place in the queue. */
#define AGAIN_PART 4u

static int take_permits(struct stream *s, struct hedge *h, const struct pool_member *m) {
  if (!retry_budget(s)) return -ENOENT;
  int err = attempt_take_any(s, &h->try, &m, &(struct attempt_owner){&hedge_events, h});
  if (err) retry_unused(s);
  else retry_count(s);
  return err;
}

/* take gets a permit and a connection to another endpoint; 0 or -errno. */
static int take(struct stream *s, struct hedge *h) {
  const struct pool_member *m = affinity_pick(s);
  /* begin() has noted the one that is asked now. */
  if (!m || retry_tried(s, (uint32_t)(m - s->pool->members))) return -ENOENT;
  if (queue_stands(s->pool)) return -EAGAIN;
  if (!admit_hedge(s, &h->try.pass)) return -ENOENT;
  int err = take_permits(s, h, m);
  if (err) admit_cancelled(s, &h->try);
  return err;
}

static void begin(struct stream *s) {
  if (!s->x->hedge_room) s->x->hedge_room = arena_zalloc(&s->arena, sizeof *s->x->hedge_room);
  struct hedge *h = s->x->hedge_room;
  retry_remember(s, &s->try, END_OK);
  int err = h ? take(s, h) : -ENOMEM;
  s->x->hedge_ms = now_ms(s->w) + s->pool->retry.hedge_ms / AGAIN_PART + 1;
  if (err == -EAGAIN) return;
  s->flags |= STREAM_HEDGED;
  if (err) return;
  h->stream = s;
  s->x->hedge = h;
  stat_add(&s->w->stats.hedges, 1);
  if (h->try.flags & ATTEMPT_REUSED) send_request(h);
}

/* overdue_at is when the second attempt has taken too long, and the cause then. */
static uint64_t overdue_at(const struct stream *s, const struct hedge *h, enum end *end) {
  bool sent = h->try.flags & ATTEMPT_SENT;
  *end = sent ? END_FIRST_BYTE_TIMEOUT : END_CONNECT_TIMEOUT;
  uint64_t due = sent ? after_ms(h->try.t_sent, s->pool_timeouts.first_byte_ms)
                      : after_ms(h->try.t_connect, s->pool_timeouts.connect_ms);
  uint64_t try = after_ms(h->try.t_try, s->pool->retry.per_try_ms);
  if (try >= due) return due;
  *end = END_TRY_TIMEOUT;
  return try;
}

uint64_t hedge_due(const struct stream *s) {
  enum end end;
  if (s->x->hedge) return overdue_at(s, s->x->hedge, &end);
  if (!may_begin(s)) return WHEEL_NEVER;
  uint64_t first = after_ms(s->try.t_try, s->pool->retry.hedge_ms);
  return first > s->x->hedge_ms ? first : s->x->hedge_ms;
}

bool hedge_timer(struct stream *s, uint64_t now) {
  enum end end;
  if (!trying(s) || hedge_due(s) > now) return false;
  if (s->x->hedge) {
    (void)overdue_at(s, s->x->hedge, &end);
    if (end == END_CONNECT_TIMEOUT) end = open_end(s->x->hedge->try.up, -ETIMEDOUT, NULL);
    failed(s->x->hedge, end);
    return true;
  }
  begin(s);
  stream_timer(s);
  return true;
}
