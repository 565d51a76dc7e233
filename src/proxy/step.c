/* step.c: the driver of steps.def, a stream's timer, its birth and its end. Knows no bytes. Every
 * function that may end the stream is called last: after stream_go outside the driver, s may be
 * gone. */
#include "proxy_priv.h"

static const struct {
  void (*enter)(struct stream *s);
  enum end timer_end;
} rows[STEP_COUNT] = {
#define STEP(id, enter, timer_end, doc) {enter, END_##timer_end},
#include "steps.def"
#undef STEP
};

/* DRIVE_MAX bounds one run of the driver: each attempt passes through a few steps. */
#define DRIVE_MAX (RETRY_ATTEMPTS_MAX * 4u + STEP_COUNT)

static void on_timer(struct timer *timer, uint64_t now);

struct stream *stream_new(struct down *d, struct conn *carried) {
  struct worker *w = d->serving->w;
  struct stream *s = slab_new(&w->streams);
  if (!s) return NULL;
  s->x = slab_new(&w->exchanges); /* there are as many as streams */
  check(s->x != NULL);
  s->w = w;
  s->down = d;
  s->conn = carried ? carried : d->conn;
  if (carried) s->flags = STREAM_H2;
  else d->stream = s;
  if (!carried && !(d->flags & DOWN_TCP)) begin_alone(w);
  room_leave(d);
  d->requests++;
  list_init(&s->link);
  timer_init(&s->timer, on_timer);
  s->listener = d->serving->current->listener;
  object_pin(&s->listener->obj, w->config.index);
  arena_init(&s->arena, &w->blocks,
             STREAM_ARENA_LIMIT + 4 * (size_t)s->listener->limits.header_bytes);
  s->timeouts = s->listener->timeouts;
  if (early_begun(d)) s->flags |= STREAM_EARLY;
  s->deadline_ms = s->x->half_close_ms = s->x->call.deadline_ms = WHEEL_NEVER;
  s->x->call.status = GRPC_STATUS_COUNT;
  s->t_start = now_ns(w);
  s->step = STEP_HEAD;
  conn_timer(s->conn, WHEEL_NEVER);
  if (!timer_armed(&w->trim_timer))
    timer_set(&w->loop->wheel, &w->trim_timer, now_ms(w) + TRIM_MS);
  overload_wake(w);
  stat_add(&w->stats.requests_inflight, 1);
  if (!carried) stat_sub(&w->stats.downstream_idle, 1);
  worker_count(&w->stream_count, 1);
  return s;
}

void stream_go(struct stream *s, enum stream_step step) {
  if (step == STEP_FINISH && front_h2_stays(s)) step = STEP_TAIL;
  s->step = (uint8_t)step;
  s->moved = true;
  if (s->driving) return;
  s->driving = true;
  for (uint32_t i = 0; i < DRIVE_MAX; i++) {
    enum stream_step now = s->step;
    s->moved = false;
    if (!rows[now].enter) break;
    rows[now].enter(s);
    if (now == STEP_FINISH) return;
    if (!s->moved) break;
  }
  s->driving = false;
  stream_timer(s);
}

static uint64_t ns_to_ms(uint64_t ns) { return ns / 1000000u; }

/* after is start + delay, or never for a delay of 0 ("none"). */
static uint64_t after(uint64_t start_ns, uint32_t delay_ms) {
  return delay_ms ? ns_to_ms(start_ns) + delay_ms : WHEEL_NEVER;
}

static uint64_t due_bodies(const struct stream *s, enum end *end) {
  static const enum end up_ends[] = {END_CLIENT_TIMEOUT_BODY, END_UPSTREAM_TIMEOUT_SEND,
                                     END_LIMIT_MEMORY};
  static const enum end down_ends[] = {END_UPSTREAM_IDLE_TIMEOUT, END_CLIENT_TIMEOUT_SEND,
                                       END_LIMIT_MEMORY};
  const struct listener_timeouts *l = &s->timeouts;
  const struct pool_timeouts *p = &s->pool_timeouts;
  uint64_t due = WHEEL_NEVER;
  enum body_blame blame;
  if (s->up_body.state == PUMP_RUN) {
    due = body_due(s, &s->up_body, l->body_ms, p->idle_ms, &blame);
    *end = up_ends[blame];
  }
  if (s->down_body.state != PUMP_RUN) return due;
  uint64_t down = body_due(s, &s->down_body, p->idle_ms, l->send_ms, &blame);
  if (down >= due) return due;
  *end = down_ends[blame];
  return down;
}

/* awaits_continue: the client rightly waits for 100 (Continue), so it is the endpoint that is
 * late. */
static bool awaits_continue(const struct stream *s) {
  bool told = s->flags & STREAM_CONTINUED;
  return s->x->req.expect_continue && !told && body_moved(&s->up_body) == 0;
}

/* due_try is when the attempt is overdue: as long as another one could follow. */
static uint64_t due_try(const struct stream *s) {
  if (!s->pool->retry.per_try_ms || !retry_could_follow(s)) return WHEEL_NEVER;
  return after(s->try.t_try, s->pool->retry.per_try_ms);
}

/* due_queue is when a stream has waited too long, or for any endpoint (END_OK). */
static uint64_t due_queue(const struct stream *s, enum end *end) {
  uint64_t due = s->x->wait.due_ms;
  if (!s->x->any_ms || s->x->any_ms >= due) return due;
  *end = END_OK;
  return s->x->any_ms;
}

/* due_held is when the client is late with a body that is held, or goes on without it (END_OK). */
static uint64_t due_held(const struct stream *s, enum end *end) {
  uint64_t due = s->up_body.progress_ms + s->timeouts.body_ms, until = s->x->held.until_ms;
  if (until >= due) return due;
  *end = END_OK;
  return until;
}

/* due_step is when the present step is overdue, and the cause then. */
static uint64_t due_step(const struct stream *s, enum end *end) {
  *end = rows[s->step].timer_end;
  switch ((enum stream_step)s->step) {
    case STEP_HEAD: return after(s->t_start, s->timeouts.header_ms);
    case STEP_EARLY: return after(s->t_start, s->timeouts.handshake_ms);
    case STEP_BACKOFF: return s->x->again_ms;
    case STEP_BUFFER: return due_held(s, end);
    case STEP_QUEUE: return due_queue(s, end);
    case STEP_CONNECT: return attempt_late_ms(s);
    case STEP_SEND:
      if (held_unsent(s)) {
        *end = END_UPSTREAM_TIMEOUT_SEND;
        return s->x->held.progress_ms + s->pool_timeouts.idle_ms;
      }
      if (s->up_body.state == PUMP_RUN && !awaits_continue(s)) return due_bodies(s, end);
      return after(s->try.t_sent, s->pool_timeouts.first_byte_ms);
    case STEP_RELAY: return due_bodies(s, end);
    case STEP_TUNNEL: {
      uint64_t last = s->up_body.relay.progress_ms;
      if (s->down_body.relay.progress_ms > last) last = s->down_body.relay.progress_ms;
      return s->timeouts.tunnel_ms ? last + s->timeouts.tunnel_ms : WHEEL_NEVER;
    }
    case STEP_TAIL:
      return s->timeouts.send_ms ? s->down_body.progress_ms + s->timeouts.send_ms : WHEEL_NEVER;
    case STEP_ROUTE:
    case STEP_PICK:
    case STEP_FINISH:
    case STEP_COUNT: break;
  }
  return WHEEL_NEVER;
}

/* due_span is when a span over several steps ends: the route's timeout up to the response head, or
 * a caller's deadline over all of its call. */
static uint64_t due_span(const struct stream *s, bool headless, enum end *end) {
  bool call = s->flags & STREAM_DEADLINE, buffering = s->step == STEP_BUFFER;
  bool spared = buffering && held_patient(s);
  bool within = headless || (buffering && !spared) || (call && (spared || s->step == STEP_RELAY));
  *end = s->flags & STREAM_TCP ? END_DRAIN : END_ROUTE_TIMEOUT; /* of TCP: serve.c */
  if (!within) return WHEEL_NEVER;
  uint64_t due = spared ? s->x->call.deadline_ms : s->deadline_ms;
  if (call && (!headless || due == s->x->call.deadline_ms)) *end = END_CLIENT_DEADLINE;
  return due;
}

/* stream_due is the earliest of the step's own due time and the spans over several steps. */
static uint64_t stream_due(const struct stream *s, enum end *end) {
  uint64_t due = due_step(s, end);
  bool trying = s->step == STEP_CONNECT || s->step == STEP_SEND;
  bool headless = trying || s->step == STEP_QUEUE || s->step == STEP_BACKOFF;
  uint64_t try = trying ? due_try(s) : WHEEL_NEVER;
  if (try < due) {
    due = try;
    *end = END_TRY_TIMEOUT;
  }
  uint64_t hedge = trying && s->pool->retry.hedge_ms ? hedge_due(s) : WHEEL_NEVER;
  if (hedge < due) due = hedge; /* hedge_timer comes before all others */
  enum end span_end;
  uint64_t span = due_span(s, headless, &span_end);
  if (span < due) {
    due = span;
    *end = span_end;
  }
  if (headless && s->x->half_close_ms < due) {
    due = s->x->half_close_ms;
    *end = END_CLIENT_CLOSED;
  }
  if (s->step == STEP_TUNNEL && s->deadline_ms < due) {
    due = s->deadline_ms;
    *end = END_DRAIN_TUNNEL;
  }
  return due;
}

static uint32_t least(uint32_t a_ms, uint32_t b_ms) {
  return !a_ms || (b_ms && b_ms < a_ms) ? b_ms : a_ms;
}

/* look_again is when to look at running bodies at the latest: a relay changes from waiting for one
 * side to waiting for the other, whose timeout may be shorter, without a word. */
static uint64_t look_again(const struct stream *s) {
  bool tail = s->step == STEP_TAIL;
  if (s->step != STEP_SEND && s->step != STEP_RELAY && !tail) return WHEEL_NEVER;
  uint32_t delay = 0, idle_ms = tail ? 0 : s->pool_timeouts.idle_ms;
  if (s->up_body.state == PUMP_RUN && !tail)
    delay = body_look_ms(&s->up_body, least(s->timeouts.body_ms, idle_ms));
  if (s->down_body.state == PUMP_RUN)
    delay = least(delay, body_look_ms(&s->down_body, least(idle_ms, s->timeouts.send_ms)));
  return delay ? now_ms(s->w) + delay : WHEEL_NEVER;
}

void stream_timer(struct stream *s) {
  enum end end;
  uint64_t due = stream_due(s, &end), look = look_again(s);
  if (look < due) due = look;
  if (due == WHEEL_NEVER) timer_stop(&s->w->loop->wheel, &s->timer);
  else timer_set(&s->w->loop->wheel, &s->timer, due);
}

/* timed_out: an attempt that timed out before its response may be made again elsewhere. */
static void timed_out(struct stream *s, enum end end) {
  if (end == END_CLIENT_CLOSED) stream_client_gone(s, end);
  else if (end == END_OK && s->step == STEP_QUEUE) queue_any(s);
  else if (end == END_OK) stream_go(s, STEP_PICK);
  else if (end == END_TRY_TIMEOUT) attempt_overdue(s);
  else if (end == END_CONNECT_TIMEOUT) attempt_late(s);
  else if (end == END_FIRST_BYTE_TIMEOUT) attempt_failed(s, end);
  else stream_fail(s, end);
}

static void on_timer(struct timer *timer, uint64_t now) {
  struct stream *s = container_of(timer, struct stream, timer);
  enum end end;
  if (s->x && s->pool && s->pool->retry.hedge_ms && hedge_timer(s, now)) return;
  body_look(s);
  uint64_t due = stream_due(s, &end);
  if (due > now) {
    stream_timer(s);
    return;
  }
  timed_out(s, end);
}

/* ends_attempt: causes that speak of the endpoint, for its health. */
static bool ends_attempt(enum end end) {
  switch (end_get(end)->word.ptr[0]) {
    case 'u': return end != END_NONE_HEALTHY && end != END_RESOLVE_FAILED &&
                     end != END_QUEUE_FULL && end != END_QUEUE_DISPLACED &&
                     end != END_QUEUE_TIMEOUT && end != END_BREAKER_OPEN &&
                     end != END_CONCURRENCY;
    default: return false;
  }
}

/* had_its_time: nearly all of the route's timeout was this attempt's own. The queue, earlier
 * attempts and the pauses between them are not its endpoint's fault. */
static bool had_its_time(const struct stream *s) {
  return ns_to_ms(now_ns(s->w) - s->try.t_try) * 4 >= (uint64_t)s->route->timeout_ms * 3;
}

/* tell_end says of the endpoint in use what the stream's end means for it. */
static void tell_end(struct stream *s, enum end end) {
  struct attempt *a = &s->try;
  if (!a->endpoint || !a->up) return;
  bool headless = !(s->flags & STREAM_RESPONDED);
  if (end == END_CLIENT_DEADLINE && headless) attempt_outrun(s, a); /* callers choose those */
  if (!ends_attempt(end)) return;
  if (end != END_ROUTE_TIMEOUT || had_its_time(s)) {
    attempt_outcome(s, a, end, 0);
    return;
  }
  attempt_outrun(s, a);
  admit_cancelled(s, a);
}

/* shows_truncation: the client sees by the framing that the response is cut, also after a FIN;
 * what is queued may still go out. */
static bool shows_truncation(const struct stream *s) {
  if (s->flags & STREAM_H2) return false; /* it is reset */
  bool framed = s->down_body.to == HTTP_BODY_LENGTH || s->down_body.to == HTTP_BODY_CHUNKED;
  return s->flags & STREAM_RESPONDED && s->step == STEP_RELAY && framed;
}

bool stream_lost(struct stream *s) {
  enum end lost = s->flags & STREAM_H2 ? front_h2_outcome(s) : END_OK;
  if (lost != END_OK) stream_client_gone(s, lost);
  return lost != END_OK;
}

/* stop_all ends what runs for it, and its place in the queue. */
static void stop_all(struct stream *s) {
  queue_leave(s);
  body_stop(&s->up_body);
  body_stop(&s->down_body);
  hedge_cancel(s);
  attempt_drop(s, false);
}

/* give_back lets go of what others may have, whether or not the client has all of its response. */
static void give_back(struct stream *s) {
  mirror_drop(s);
  begin_left(s);
  admit_leave(s);
  held_drop(s);
}

void stream_fail(struct stream *s, enum end end) {
  if (stream_lost(s)) return;
  if (s->step == STEP_TAIL) {
    stream_client_gone(s, s->end == END_OK ? end : s->end);
    return;
  }
  s->end = end;
  tell_end(s, end);
  stop_all(s);
  s->flags |= STREAM_CLOSE;
  bool answers = !(s->flags & (STREAM_RESPONDED | STREAM_TCP)) && end_get(end)->status;
  if (answers && s->down) answer_end(s);
  else if (!grpc_cut(s) && !shows_truncation(s)) s->flags |= STREAM_ABORT;
  stream_go(s, STEP_FINISH);
}

void stream_client_gone(struct stream *s, enum end end) {
  s->end = end;
  s->flags |= STREAM_CLOSE | STREAM_ABORT;
  stop_all(s);
  stream_go(s, STEP_FINISH);
}

void enter_tail(struct stream *s) {
  stop_all(s);
  give_back(s);
  conn_finish(s->conn); /* its end goes with the last frame */
  body_tail(s);
}

void stream_unpin_settings(struct stream *s) {
  uint32_t me = s->w->config.index;
  if (s->route) object_unpin(&s->route->obj, me);
  if (s->pool) object_unpin(&s->pool->obj, me);
  if (s->listener) object_unpin(&s->listener->obj, me);
  s->route = NULL;
  s->pool = NULL;
  s->listener = NULL;
  if (!s->x) return;
  s->x->ctx.route = NULL;
  s->x->ctx.listener = NULL;
}

static void unpin_all(struct stream *s) {
  uint32_t me = s->w->config.index;
  stream_unpin_settings(s);
  if (s->pool_state) object_unpin(&s->pool_state->obj, me);
  if (s->try.endpoint) object_unpin(&s->try.endpoint->obj, me);
  if (s->route_state) object_unpin(&s->route_state->obj, me);
}

/* let_go ends what the client's connection had to do with a stream that is gone. */
static void let_go(struct down *d, struct conn *c, uint32_t flags, enum end end) {
  if (flags & STREAM_H2) {
    front_h2_done(c, flags & STREAM_ABORT, end);
    return;
  }
  stat_add(&d->serving->w->stats.downstream_idle, 1);
  d->stream = NULL;
  if (flags & STREAM_ABORT) down_abort(d);
  else if (flags & STREAM_CLOSE) down_close(d, true);
  else front_h1_next(d);
}

void stream_finish(struct stream *s) {
  struct worker *w = s->w;
  struct down *d = s->down;
  struct conn *c = s->conn;
  uint32_t flags = s->flags;
  if (flags & STREAM_H2 && s->end == END_OK) s->end = front_h2_outcome(s);
  enum end end = s->end;
  if (flags & STREAM_H2 && end == END_CLIENT_TIMEOUT_SEND) body_unsent(s);
  timer_stop(&w->loop->wheel, &s->timer);
  stop_all(s);
  give_back(s);
  access_write(s);
  list_remove(&s->link);
  if (s->flags & STREAM_TUNNEL) stat_sub(&w->stats.tunnels, 1);
  if (s->flags & STREAM_TCP) stat_sub(&w->stats.tcp_sessions, 1);
  unpin_all(s);
  arena_reset(&s->arena);
  if (s->x) slab_free(&w->exchanges, s->x);
  if (s->kept) slab_free(&w->kept, s->kept);
  slab_free(&w->streams, s);
  if (flags & STREAM_H2) stat_sub(&w->stats.h2_streams, 1);
  if (flags & STREAM_FURTHER) w->streams_further--;
  stat_sub(&w->stats.requests_inflight, 1);
  worker_count(&w->stream_count, -1);
  let_go(d, c, flags, end);
}
