/* queue.c: streams that wait because their pool's caps are reached (permits.h says who comes next
 * over all workers). Each worker keeps its own in two heaps by claim and publishes the best; it
 * serves its best while that is the best of all, and hands on by a signal (group.c) when it is
 * not. Nothing here allocates. Does not: choose endpoints or take permits (attempt_take.c). */
#include "proxy_priv.h"

static uint32_t me(const struct worker *w) { return w->config.index; }

static struct pool_row *row_of(const struct stream *s) {
  return &s->pool_state->rows[me(s->w)];
}

static struct waiter *waiter_first(const struct heap_node *node) {
  return container_of(node, struct waiter, first);
}
static struct waiter *waiter_last(const struct heap_node *node) {
  return container_of(node, struct waiter, last);
}

/* sooner orders streams of one worker: by claim, else by age. */
static bool sooner(const struct waiter *a, const struct waiter *b) {
  if (a->claim != b->claim) return claim_before(a->claim, b->claim);
  return a->order < b->order;
}
static bool best_first(const struct heap_node *a, const struct heap_node *b) {
  return sooner(waiter_first(a), waiter_first(b));
}
static bool worst_first(const struct heap_node *a, const struct heap_node *b) {
  return sooner(waiter_last(b), waiter_last(a));
}

/* ---- whose turn it is ---- */

void queue_freed(struct worker *w, struct pool_state *state) {
  uint32_t best = me(w);
  if (!atomic_load(&state->waiting) || !claim_best(state, &best)) return;
  if (best == me(w)) w->wake_pending = true;
  else group_signal(w, best, SIGNAL_PERMIT);
}

void permit_freed(struct upstream *u, struct pool_state *state) {
  queue_freed(container_of(u, struct worker, upstream), state);
}

bool queue_stands(const struct pool *pool) {
  return pool_capped(&pool->connections) && atomic_load(&pool->state->waiting) > 0;
}

bool queue_lacks(const struct worker *w, const struct pool *pool, const struct endpoint *e) {
  uint32_t best = me(w);
  if (!atomic_load_explicit(&pool->state->waiting, memory_order_relaxed)) return false;
  return claim_best(pool->state, &best) && best != me(w) && conn_permits_out(pool, e);
}

/* ---- priority (RFC 9218 section 4.1, or a bare digit) ---- */

static bool urgency(struct span value, uint8_t *out) {
  struct span rest = value, token;
  bool found = false;
  while (span_next_token(&rest, ',', &token)) {
    struct span item = span_trim(token);
    if (span_starts(item, SPAN_LIT("u="))) item = span_from(item, 2);
    if (item.len != 1 || item.ptr[0] < '0' || item.ptr[0] > '7') continue;
    *out = (uint8_t)(item.ptr[0] - '0');
    found = true;
  }
  return found;
}

/* priority_of goes by the first row that the endpoint sees: not one that a policy took out. */
static uint8_t priority_of(const struct stream *s) {
  uint8_t priority = s->route ? s->route->priority : TCP_PRIORITY;
  const struct http_fields *fields = &s->x->req.fields;
  struct span name = s->pool->priority_header;
  for (uint32_t i = 0; name.len && i < fields->count; i++) {
    const struct http_field *row = &fields->rows[i];
    if (!http_field_passed_on(row) || !span_eq_nocase(row->name, name)) continue;
    (void)urgency(row->value, &priority);
    break;
  }
  return priority;
}

/* ---- in and out ---- */

static void publish(struct stream *s) {
  const struct heap_node *first = row_of(s)->first.root;
  claim_publish(s->pool_state, me(s->w), first ? waiter_first(first)->claim : 0);
}

static void link_in(struct stream *s) {
  struct pool_row *row = row_of(s);
  s->x->wait.stream = s;
  s->x->wait.order = s->w->queue_order++;
  heap_insert(&row->first, &s->x->wait.first, best_first);
  heap_insert(&row->last, &s->x->wait.last, worst_first);
  if (row->queued++ == 0) {
    list_push_tail(&s->w->waiting, &row->waiting_link);
    (void)queue_news(s->w, row, s->pool);
    queue_watch(s->w);
  }
  s->flags |= STREAM_QUEUED | STREAM_WAITED;
  s->x->wait.t_queue = now_ns(s->w);
  uint32_t most_ms = s->pool->connections.queue_timeout_ms;
  s->x->wait.due_ms = most_ms ? s->x->wait.t_queue / 1000000u + most_ms : WHEEL_NEVER;
  stat_add(&s->w->stats.queued, 1);
  publish(s);
}

/* link_out leaves the stream's place in the queue's count to the caller. */
static void link_out(struct stream *s) {
  struct pool_row *row = row_of(s);
  heap_remove(&row->first, &s->x->wait.first, best_first);
  heap_remove(&row->last, &s->x->wait.last, worst_first);
  if (--row->queued == 0) list_remove(&row->waiting_link);
  s->flags &= ~(uint32_t)STREAM_QUEUED;
  uint64_t waited = now_ns(s->w) - s->x->wait.t_queue;
  s->queue_ns += waited;
  stat_add(&row->queue_ns, waited);
  stat_add(&row->queue_count, 1);
  stat_sub(&s->w->stats.queued, 1);
  publish(s);
}

void queue_any(struct stream *s) {
  s->x->any_ms = 0;
  s->w->wake_pending = true;
  stream_timer(s);
}

void queue_served(struct stream *s) {
  link_out(s);
  claim_done(s->pool_state, s->x->wait.claim);
  atomic_fetch_sub(&s->pool_state->waiting, 1);
}

void queue_leave(struct stream *s) {
  struct pool_state *state = s->pool_state;
  list_remove(&s->link); /* displaced; or a tunnel that ends */
  if (!(s->flags & STREAM_QUEUED)) return;
  bool first = row_of(s)->first.root == &s->x->wait.first;
  link_out(s);
  /* Whose time is over is the oldest of its route: the turn is behind all that are left. */
  if (s->end == END_QUEUE_TIMEOUT) claim_done(state, s->x->wait.claim);
  atomic_fetch_sub(&state->waiting, 1);
  if (first) queue_freed(s->w, state); /* what was meant for s may serve the next */
}

/* turns_of is the id of whose turns s takes: its route, or its TCP listener. */
static uint32_t turns_of(const struct stream *s) {
  return s->route_state ? s->route_state->obj.id : s->down->serving->state->obj.id;
}

/* displace gives s the place of the worst of this worker's, if that comes after s. */
static bool displace(struct stream *s, uint8_t priority, uint32_t most) {
  struct worker *w = s->w;
  const struct heap_node *last = row_of(s)->last.root;
  if (!last) return false;
  struct stream *worst = waiter_last(last)->stream;
  claim mine = claim_peek(s->pool_state, turns_of(s), priority, most);
  if (!claim_before(mine, worst->x->wait.claim)) return false;
  link_out(worst);
  list_push_tail(&w->displaced, &worst->link);
  w->wake_pending = true; /* queue_run ends it */
  return true;
}

/* place_take counts one more in the queue unless it is full. */
static bool place_take(struct pool_state *state, uint32_t most) {
  uint32_t now = atomic_load(&state->waiting);
  do {
    if (now >= most) return false;
  } while (!atomic_compare_exchange_weak(&state->waiting, &now, now + 1));
  return true;
}

void queue_enter(struct stream *s) {
  if (s->x->left_err) {
    front_tcp_gone(s, s->x->left_err);
    return;
  }
  uint32_t most = s->pool->connections.queue;
  uint8_t priority = priority_of(s);
  if (!place_take(s->pool_state, most) && !displace(s, priority, most)) {
    stream_fail(s, END_QUEUE_FULL);
    return;
  }
  s->x->wait.claim = claim_draw(s->pool_state, turns_of(s), priority, most);
  link_in(s);
  s->w->wake_pending = true; /* what was given back before the claim was seen is there still */
  stream_go(s, STEP_QUEUE);
}

/* ---- serving ---- */

/* idle_on is ordered behind the claim that its caller's stream has published (idle_counted). */
static uint32_t idle_on(const struct endpoint *e, uint32_t worker) {
  return atomic_load(&e->rows[worker].idle_count);
}

/* yield closes at most so many idle connections that hold permits which are short. */
static void yield(struct worker *w, const struct pool *pool, uint32_t most) {
  for (uint32_t i = 0; i < pool->member_count && most > 0; i++) {
    struct endpoint *e = pool->members[i].endpoint;
    uint32_t idle = idle_on(e, me(w));
    if (!idle || !conn_permits_out(pool, e)) continue;
    most -= upstream_close_idle(&w->upstream, e, idle > most ? idle - most : 0);
  }
}

void queue_yield(struct worker *w) {
  const struct snapshot *snap = w->snapshot;
  for (uint32_t i = 0; snap && i < snap->pool_count; i++) {
    const struct pool *pool = snap->pools[i];
    uint32_t waiting = atomic_load(&pool->state->waiting), best = me(w);
    if (waiting && claim_best(pool->state, &best) && best != me(w)) yield(w, pool, waiting);
  }
}

static bool has_idle(const struct pool *pool, uint32_t worker) {
  for (uint32_t i = 0; i < pool->member_count; i++) {
    const struct endpoint *e = pool->members[i].endpoint;
    if (!idle_on(e, worker) || request_permits_out(pool, e)) continue; /* those are not short */
    if (conn_permits_out(pool, e)) return true;
  }
  return false;
}

/* ask gets at permits of connections that nobody uses: our own to other endpoints, and those of
 * other workers. */
static void ask(struct worker *w, const struct pool *pool) {
  if (has_idle(pool, me(w))) yield(w, pool, 1);
  for (uint32_t i = 0; i < w->config.workers; i++)
    if (i != me(w) && has_idle(pool, i)) group_signal(w, i, SIGNAL_YIELD);
}

/* serve_first gives a permit to the best stream here if it is the best of all; false: nothing more
 * is to be done here now. */
static bool serve_first(struct worker *w, struct pool_state *state) {
  uint32_t best = me(w);
  if (!claim_best(state, &best)) return false;
  if (best != me(w)) {
    group_signal(w, best, SIGNAL_PERMIT);
    return false;
  }
  struct stream *s = waiter_first(state->rows[me(w)].first.root)->stream;
  struct pool *newest = queue_pool(s);
  if (newest) stream_renew_pool(s, newest);
  const struct pool *pool = s->pool; /* pinned by s */
  bool pending = w->wake_pending;
  if (attempt_serve(s)) return true;
  w->wake_pending = pending; /* what was taken and given back again is nothing new */
  ask(w, pool);
  return false;
}

static void serve_row(struct worker *w, struct pool_row *row, struct pool_state *state) {
  object_pin(&state->obj, me(w)); /* the last stream's pin may go */
  list_remove(&row->waiting_link);
  list_push_tail(&w->waiting, &row->waiting_link);
  for (uint32_t left = row->queued + 1; left > 0; left--)
    if (!serve_first(w, state)) break;
  object_unpin(&state->obj, me(w));
}

void queue_run(struct worker *w) {
  w->wake_pending = false;
  while (!list_empty(&w->displaced)) { /* each turn takes one out */
    struct list *link = w->displaced.next;
    stream_fail(container_of(link, struct stream, link), END_QUEUE_DISPLACED);
  }
  uint32_t rows = 0;
  for (struct list *l = w->waiting.next; l != &w->waiting; l = l->next) rows++;
  for (; rows > 0 && !list_empty(&w->waiting); rows--) {
    struct pool_row *row = container_of(w->waiting.next, struct pool_row, waiting_link);
    serve_row(w, row, waiter_first(row->first.root)->stream->pool_state);
  }
}
