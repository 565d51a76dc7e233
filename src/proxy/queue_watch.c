/* queue_watch.c: what makes room for streams that wait other than permits given back: newer
 * settings of their pool, endpoints that come into service again (by a check, or because their
 * ejection is over). Does not: keep them or serve them (queue.c, which it tells to run). */
#include "proxy_priv.h"

#define WATCH_MS 250u /* between two looks while streams wait */

/* ---- settings ---- */

/* current is the pool of that state in the worker's snapshot; NULL: it was removed. */
static struct pool *current(const struct worker *w, const struct pool_state *state) {
  for (uint32_t i = 0; w->snapshot && i < w->snapshot->pool_count; i++)
    if (w->snapshot->pools[i]->state == state) return w->snapshot->pools[i];
  return NULL;
}

struct pool *queue_pool(const struct stream *s) {
  const struct pool_row *row = &s->pool_state->rows[s->w->config.index];
  if (row->settings == s->pool) return NULL; /* as it almost always is */
  struct pool *pool = current(s->w, s->pool_state);
  return pool && pool != s->pool && pool->tcp == s->pool->tcp ? pool : NULL;
}

/* ---- endpoints ---- */

static uint32_t in_service(const struct worker *w, const struct pool *pool) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < pool->member_count; i++) {
    const struct pool_member *m = &pool->members[i];
    count += m->weight && endpoint_in_service(m->endpoint, now_ms(w));
  }
  return count;
}

/* An ejection ends without a word, so the endpoints are counted, too. */
bool queue_news(const struct worker *w, struct pool_row *row, const struct pool *pool) {
  uint64_t epoch = atomic_load_explicit(&pool->state->epoch, memory_order_acquire);
  uint32_t serving = in_service(w, pool);
  bool news = epoch != row->queue_epoch || serving != row->queue_serving;
  row->queue_epoch = epoch;
  row->queue_serving = serving;
  return news;
}

static void on_watch(struct timer *timer, uint64_t now) {
  struct worker *w = container_of(timer, struct worker, queue_timer);
  for (struct list *l = w->waiting.next; l != &w->waiting; l = l->next) {
    struct pool_row *row = container_of(l, struct pool_row, waiting_link);
    const struct stream *s = container_of(row->first.root, struct waiter, first)->stream;
    const struct pool *pool = queue_pool(s);
    if (queue_news(w, row, pool ? pool : s->pool)) w->wake_pending = true;
  }
  if (!list_empty(&w->waiting)) timer_set(&w->loop->wheel, timer, now + WATCH_MS);
}

void queue_watch_init(struct worker *w) { timer_init(&w->queue_timer, on_watch); }

void queue_watch(struct worker *w) {
  if (timer_armed(&w->queue_timer)) return;
  timer_set(&w->loop->wheel, &w->queue_timer, now_ms(w) + WATCH_MS);
}
