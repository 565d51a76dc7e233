/* attempt.c: one try to have a request answered: an endpoint, a connection, the head sent; and
 * what follows when it fails: another try where none could have been acted on twice, else the
 * cause. RFC 9110 section 9.2.2, RFC 9112 section 9.3.1, DESIGN.md promise 5. */
#include <errno.h>

#include "proxy_priv.h"
#include "weir/base/hash.h"

/* Room asked for a request head; the last is the most that an output buffer holds. */
static const size_t head_rooms[] = {2048, 16384, 65536, 262144};

enum end connect_end(int err) {
  switch (-err) {
    case ECONNREFUSED:
    case ENOENT: /* a unix socket that is not there */ return END_CONNECT_REFUSED;
    case ETIMEDOUT: return END_CONNECT_TIMEOUT;
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EACCES:
    case EPERM: return END_CONNECT_UNREACHABLE;
    case EMFILE:
    case ENFILE: return END_LIMIT_DESCRIPTORS;
    case ENOMEM:
    case ENOBUFS: return END_LIMIT_MEMORY;
    default: return END_CONNECT_FAILED;
  }
}

/* ---- the endpoint and its connection ---- */

static void use_endpoint(struct stream *s, struct endpoint *e) {
  if (s->endpoint) object_unpin(&s->endpoint->obj, s->w->config.index);
  s->endpoint = e;
  object_pin(&e->obj, s->w->config.index);
}

static void use_connection(struct stream *s, struct upconn *up, struct endpoint *e, bool reused) {
  use_endpoint(s, e);
  s->up = up;
  s->attempts++;
  s->flags &= ~(uint32_t)(STREAM_REUSED | STREAM_SENT | STREAM_UP_DIRTY);
  if (reused) s->flags |= STREAM_REUSED;
  endpoint_begin(e, s->w->config.index);
  s->flags |= STREAM_COUNTED;
}

/* take gets a connection to e, idle or new. 0, or -errno (-EAGAIN: no permit). */
static int take(struct stream *s, struct endpoint *e) {
  struct upstream *u = &s->w->upstream;
  struct upconn *up = s->flags & STREAM_REFILL ? NULL : upconn_checkout(u, e, s);
  if (up) {
    conn_attach(up->conn, &up_events, up);
    conn_timer(up->conn, WHEEL_NEVER);
    use_connection(s, up, e, true);
    return 0;
  }
  int err = 0;
  up = upconn_connect(u, s->pool, e, &up_events, s, &err);
  if (!up && err == -EAGAIN && (s->flags & STREAM_REFILL)) {
    upstream_close_idle(u, e,
                        e->rows[u->worker].idle_count ? e->rows[u->worker].idle_count - 1 : 0);
    up = upconn_connect(u, s->pool, e, &up_events, s, &err);
  }
  if (up) use_connection(s, up, e, false);
  return up ? 0 : err;
}

/* take_any tries the chosen endpoint, then every other of its tier in service while permits are
 * short. */
static int take_any(struct stream *s, const struct pool_member *chosen) {
  int err = take(s, chosen->endpoint);
  for (uint32_t i = 0; err == -EAGAIN && i < s->pool->member_count; i++) {
    const struct pool_member *m = &s->pool->members[i];
    if (m == chosen || m->backup != chosen->backup || m->priority != chosen->priority) continue;
    if (!m->weight) continue;
    if (endpoint_in_service(m->endpoint, now_ms(s->w))) err = take(s, m->endpoint);
  }
  return err;
}

static void taken(struct stream *s) {
  if (s->flags & STREAM_REUSED) {
    stream_go(s, STEP_SEND);
    return;
  }
  s->t_connect = now_ns(s->w);
  stream_go(s, STEP_CONNECT);
}

/* refused_at_once: a connect that failed before it began. */
static void refused_at_once(struct stream *s, struct endpoint *e, int err) {
  use_endpoint(s, e);
  s->attempts++;
  s->flags &= ~(uint32_t)(STREAM_REUSED | STREAM_SENT);
  attempt_failed(s, connect_end(err));
}

/* ---- the queue ---- */

static void waiting(const struct pool *pool, int by) {
  for (uint32_t i = 0; i < pool->member_count; i++)
    atomic_fetch_add(&pool->members[i].endpoint->waiting, (uint32_t)by);
}

void attempt_queue(struct stream *s) {
  struct pool_row *row = &s->pool->state->rows[s->w->config.index];
  if (row->queued >= s->pool->connections.queue) {
    stream_fail(s, END_QUEUE_FULL);
    return;
  }
  list_push_tail(&s->w->waiting, &s->link);
  row->queued++;
  s->flags |= STREAM_QUEUED;
  s->t_queue = now_ns(s->w);
  stat_add(&s->w->stats.queued, 1);
  waiting(s->pool, 1);
  s->w->wake_pending = true; /* a permit may have been given back before `waiting` was seen */
  group_ask(s->w, s->pool->state->obj.id);
  stream_go(s, STEP_QUEUE);
}

void attempt_unqueue(struct stream *s) {
  if (!(s->flags & STREAM_QUEUED)) return;
  struct pool_row *row = &s->pool->state->rows[s->w->config.index];
  list_remove(&s->link);
  row->queued--;
  s->flags &= ~(uint32_t)STREAM_QUEUED;
  s->queue_ns += now_ns(s->w) - s->t_queue;
  stat_sub(&s->w->stats.queued, 1);
  waiting(s->pool, -1);
}

void enter_pick(struct stream *s) {
  if (!admit(s)) return;
  const struct pool_member *m = affinity_pick(s);
  if (!m) {
    stream_fail(s, s->pool->unresolved ? END_RESOLVE_FAILED : END_NONE_HEALTHY);
    return;
  }
  bool others_wait = s->pool->state->rows[s->w->config.index].queued > 0;
  int err = others_wait ? -EAGAIN : take_any(s, m);
  if (!err) {
    taken(s);
  } else if (err == -EAGAIN) {
    attempt_queue(s);
  } else {
    refused_at_once(s, m->endpoint, err);
  }
}

/* queue_serve gives s a connection if there is one: false when its pool has none. */
static bool queue_serve(struct stream *s) {
  if (!admit_still(s)) {
    attempt_unqueue(s);
    stream_go(s, STEP_PICK); /* says why */
    return true;
  }
  const struct pool_member *m = affinity_pick(s);
  int err = m ? take_any(s, m) : -ENOENT;
  if (err == -EAGAIN) return false;
  attempt_unqueue(s);
  if (!err) taken(s);
  else if (!m) stream_go(s, STEP_PICK); /* says why */
  else refused_at_once(s, m->endpoint, err);
  return true;
}

void pool_wake_all(struct worker *w) {
  w->wake_pending = false;
  const struct pool_state *empty = NULL; /* the last pool that had nothing to give */
  for (struct list *l = w->waiting.next, *next; l != &w->waiting; l = next) {
    next = l->next;
    struct stream *s = container_of(l, struct stream, link);
    if (s->pool->state == empty) continue;
    if (!queue_serve(s)) empty = s->pool->state;
    else next = w->waiting.next; /* others may have left the queue meanwhile */
  }
}

void pool_yield(struct worker *w, uint32_t pool_state_id) {
  const struct snapshot *snap = w->snapshot;
  for (uint32_t i = 0; snap && i < snap->pool_count; i++) {
    const struct pool *pool = snap->pools[i];
    if (pool->state->obj.id != pool_state_id) continue;
    for (uint32_t m = 0; m < pool->member_count; m++) {
      struct endpoint *e = pool->members[m].endpoint;
      uint32_t idle = e->rows[w->config.index].idle_count;
      if (idle) upstream_close_idle(&w->upstream, e, idle - 1);
    }
  }
}

void permit_freed(struct upstream *u, struct endpoint *e) {
  struct worker *w = container_of(u, struct worker, upstream);
  (void)e;
  w->wake_pending = true;
  group_wake(w);
}

/* ---- sending ---- */

/* send_head serialises into the connection's output; false when no buffer is left. */
static bool send_head(struct stream *s) {
  for (size_t i = 0; i < array_count(head_rooms); i++) {
    struct buf *out = conn_out(s->up->conn, head_rooms[i]);
    if (!out) return false;
    size_t before = out->len;
    request_write_head(s, out);
    if (!out->full) return true;
    out->len = before;
    out->full = false;
  }
  return false;
}

void enter_send(struct stream *s) {
  if (!send_head(s)) {
    stream_fail(s, END_LIMIT_MEMORY);
    return;
  }
  s->flags |= STREAM_SENT;
  s->t_sent = now_ns(s->w);
  held_rewind(s);
  if (!held_send(s)) {
    stream_fail(s, END_LIMIT_MEMORY);
    return;
  }
  conn_flush(s->up->conn);
  conn_read_start(s->up->conn);
  if (s->up_body.state == PUMP_READY && !held_unsent(s) && !(s->down->flags & DOWN_IN_DATA))
    body_start(s, &s->up_body);
}

/* ---- the end of an attempt ---- */

/* observe tells the balancing policy how long the endpoint took. */
static void observe(struct stream *s, enum end end, uint16_t status) {
  uint64_t from = s->flags & STREAM_SENT ? s->t_sent : s->t_connect;
  uint64_t to = end == END_OK ? s->t_first : now_ns(s->w);
  struct pool_sample sample = {.now_ms = now_ms(s->w),
                               .latency_ns = from && to > from ? to - from : 0,
                               .failed = end != END_OK || status >= 500};
  pool_observe(&s->w->upstream, s->pool, s->endpoint, &sample);
}

void attempt_outcome(struct stream *s, enum end end, uint16_t status) {
  if (!s->pool || !s->endpoint) return;
  struct worker *w = s->w;
  if (end != END_OK) stat_add(&s->endpoint->rows[w->config.index].failures, 1);
  observe(s, end, status);
  admit_outcome(s, end, status);
  if (!endpoint_outcome(&w->upstream, s->pool, s->endpoint, end, status, now_ms(w))) return;
  worker_event(w, END_LEVEL_WARN,
               "pool " SPAN_FMT ": endpoint " SPAN_FMT
               ": taken out of service for %u ms or more "
               "after consecutive failures, the last one %.*s (outlier)",
               SPAN_ARG(s->pool->obj.name), SPAN_ARG(s->endpoint->label),
               s->pool->outlier.eject_ms, SPAN_ARG(end_get(end)->word));
}

/* wanted_here: streams of this worker wait for the connection; while those of others do too, every
 * other permit goes to them. */
static bool wanted_here(struct stream *s, const struct endpoint *e) {
  uint32_t mine = s->pool ? s->pool->state->rows[s->w->config.index].queued : 0;
  bool others = atomic_load_explicit(&e->waiting, memory_order_relaxed) > mine;
  return mine && (!others || rng_next(&s->w->rng) & 1);
}

void attempt_drop(struct stream *s, bool clean) {
  struct worker *w = s->w;
  if (s->flags & STREAM_COUNTED) endpoint_end(s->endpoint, w->config.index);
  s->flags &= ~(uint32_t)STREAM_COUNTED;
  struct upconn *up = s->up;
  if (!up) return;
  s->up = NULL;
  bool wanted = wanted_here(s, up->endpoint);
  bool mine = s->pool && s->pool->state->rows[w->config.index].queued > 0;
  if (held_unsent(s)) s->flags |= STREAM_UP_DIRTY;
  if (clean && !(s->flags & STREAM_UP_DIRTY) && s->pool)
    upconn_release(up, &s->pool->connections, wanted);
  else upconn_close(up, false);
  if (mine) w->wake_pending = true;
}

bool attempt_unsent(const struct stream *s) {
  return s->up && s->flags & STREAM_REUSED && conn_unsent(s->up->conn);
}

/* untouched: nothing of the request is lost by trying again. */
static bool untouched(const struct stream *s) {
  if (s->flags & (STREAM_RESPONSE_BYTE | STREAM_BODY_TOUCHED | STREAM_RESPONDED)) return false;
  return s->attempts < STREAM_ATTEMPTS_MAX && s->down;
}

static void remember(struct stream *s) {
  for (uint32_t i = 0; i < s->pool->member_count; i++) {
    if (s->pool->members[i].endpoint != s->endpoint) continue;
    struct pool_tried *t = &s->x->tried;
    if (t->count < array_count(t->place)) t->place[t->count++] = i;
    return;
  }
}

/* may_replay: the request was sent, and sending it again is allowed to be seen twice. */
static bool may_replay(const struct stream *s) {
  bool all = s->up_body.state == PUMP_NONE || s->x->held.whole;
  return http_method_idempotent(s->x->req.method) && all;
}

void attempt_failed(struct stream *s, enum end end) {
  bool sent = s->flags & STREAM_SENT;
  bool race = sent && (s->flags & STREAM_REUSED) && !(s->flags & STREAM_REPLAYED);
  bool own = end == END_LIMIT_MEMORY || end == END_LIMIT_DESCRIPTORS; /* no fault of its */
  if (!race && !own) attempt_outcome(s, end, 0);
  if (!sent) stat_add(&s->w->stats.upstream_connect_failures, 1);
  if (s->t_connect && !s->t_connected) s->connect_ns += now_ns(s->w) - s->t_connect;
  bool replay = !sent || attempt_unsent(s) || may_replay(s);
  bool again = untouched(s) && end_get(end)->retryable && replay && (race || admit_again(s));
  /* An endpoint that did not take a connection will not a moment later: only another one may. */
  if (!sent && s->x->tried.count + 1 >= s->pool->member_count) again = false;
  if (!again) {
    attempt_drop(s, false);
    stream_fail(s, end);
    return;
  }
  body_stop(&s->up_body);
  attempt_drop(s, false);
  s->x->head_up = (struct buf){0};
  s->t_connect = s->t_connected = 0;
  s->x->scan = (struct h1_scan){0};
  if (race) {
    s->flags |= STREAM_REPLAYED | STREAM_REFILL;
    stat_add(&s->w->stats.replays, 1);
  } else {
    remember(s);
    stat_add(&s->w->stats.retries, 1);
  }
  stream_go(s, STEP_PICK);
}
