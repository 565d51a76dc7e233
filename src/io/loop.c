/* loop.c: what all loops share: the order of a turn, the lists of conns with work, parked
 * receives, trimming. Makes no system call but through loop->ops. Called by the worker. */
#include "weir/io/loop.h"

#include "io/io_priv.h"
#include "io/udp_priv.h"
#include "weir/base/hash.h"
#include "weir/base/mem.h"

#define CHUNK_CONNS 64u
/* FLUSH_PASSES bounds how often work that makes work is done in one turn. */
#define FLUSH_PASSES 8u
/* RESUME_MAX bounds the parked conns that go on in one turn. */
#define RESUME_MAX 32u
#define IOBUF_BYTES_MIN ((size_t)64 << 20)

static size_t iobuf_limit(const struct loop_config *config) {
  if (config->iobuf_bytes_max) return config->iobuf_bytes_max;
  size_t by_conns = (size_t)config->conns_max * 8192;
  return by_conns > IOBUF_BYTES_MIN ? by_conns : IOBUF_BYTES_MIN;
}

void loop_init(struct loop *loop, const struct loop_ops *ops, const struct loop_config *config) {
  loop->ops = ops;
  loop->share_ns = UINT64_MAX;
  loop_share_open(loop, loop->now_ns);
  loop->rng = config->seed;
  (void)rng_next(&loop->rng);
  wheel_init(&loop->wheel, loop->now_ms);
  slab_init(&loop->conns, sizeof(struct conn), CHUNK_CONNS, config->conns_max);
  iobufs_init(&loop->iobufs, iobuf_limit(config));
  udp_init(loop, config->conns_max);
  list_init(&loop->dirty);
  list_init(&loop->carriers);
  list_init(&loop->later);
  list_init(&loop->later_next);
  list_init(&loop->starved);
  list_init(&loop->parked);
  list_init(&loop->dead);
  pipe_pool_init(loop);
}

void loop_share_open(struct loop *loop, uint64_t from_ns) {
  bool bound = loop->share_ns < UINT64_MAX - from_ns;
  loop->share_to_ns = bound ? from_ns + loop->share_ns : UINT64_MAX;
}

bool loop_share_over(const struct loop *loop) {
  if (loop->share_to_ns == UINT64_MAX) return false;
  return loop->ops->clock(loop) + loop->owed_ns + loop->due_ns >= loop->share_to_ns;
}

uint64_t loop_later_ms(const struct loop *loop) {
  return list_empty(&loop->later) ? 0 : loop->now_ms - loop->later_ms;
}

uint64_t loop_lag_max_ns(const struct loop_stats *stats, uint64_t now_ms) {
  uint64_t since = loop_stat_get(&stats->lag_since_ms);
  uint64_t age = now_ms > since ? now_ms - since : 0;
  uint64_t now = loop_stat_get(&stats->lag_max_ns);
  uint64_t before = age < LOOP_LAG_INTERVAL_MS ? loop_stat_get(&stats->lag_before_ns) : 0;
  if (age >= 2 * LOOP_LAG_INTERVAL_MS) return 0;
  return now > before ? now : before;
}

void loop_note_turn(struct loop *loop, uint64_t busy_ns) {
  struct loop_stats *s = &loop->stats;
  loop_stat_add(&s->busy_ns, busy_ns);
  uint64_t age = loop->now_ms - loop_stat_get(&s->lag_since_ms);
  if (__builtin_expect(age >= LOOP_LAG_INTERVAL_MS, 0)) {
    bool next = age < 2 * LOOP_LAG_INTERVAL_MS;
    loop_stat_set(&s->lag_before_ns, next ? loop_stat_get(&s->lag_max_ns) : 0);
    loop_stat_set(&s->lag_max_ns, 0);
    loop_stat_set(&s->lag_since_ms, loop->now_ms);
  }
  if (busy_ns > loop_stat_get(&s->lag_max_ns)) loop_stat_set(&s->lag_max_ns, busy_ns);
}

static void bury_dead(struct loop *loop) {
  for (struct list *link = list_pop_head(&loop->dead); link; link = list_pop_head(&loop->dead))
    conn_bury(container_of(link, struct conn, dirty_link));
}

/* abandon_live closes every conn that is left. */
static void abandon_live(struct loop *loop) {
  struct slab *conns = &loop->conns;
  for (uint32_t chunk = 0; chunk < conns->chunk_count; chunk++) {
    for (uint32_t i = 0; i < conns->chunk_objects; i++) {
      struct slab_head *head = (void *)(conns->chunks[chunk] + i * conns->object_size);
      if ((head->generation & 1) == 0) continue;
      conn_abandon((struct conn *)(void *)head);
    }
  }
}

void loop_fini(struct loop *loop) {
  bury_dead(loop);
  abandon_live(loop);
  if (loop->tls_free) loop->tls_free(loop);
  pipe_pool_fini(loop);
  iobufs_fini(&loop->iobufs);
  slab_fini(&loop->conns);
  udp_fini(loop);
}

/* take_all moves a list to one of its own, so that what is queued meanwhile waits for its turn. */
static void take_all(struct list *from, struct list *to) {
  list_init(to);
  if (list_empty(from)) return;
  to->next = from->next;
  to->prev = from->prev;
  to->next->prev = to;
  to->prev->next = to;
  list_init(from);
}

static void flush_pass(struct list *from) {
  struct list batch;
  take_all(from, &batch);
  for (struct list *link = list_pop_head(&batch); link; link = list_pop_head(&batch)) {
    struct conn *c = container_of(link, struct conn, dirty_link);
    c->flags &= ~(uint32_t)CONN_DIRTY;
    conn_run(c);
  }
}

static void flush(struct loop *loop) {
  for (unsigned pass = 0; pass < FLUSH_PASSES; pass++) {
    loop->due_ns = 0; /* what goes is owed from here on */
    if (!list_empty(&loop->dirty)) flush_pass(&loop->dirty);
    else if (!list_empty(&loop->carriers)) flush_pass(&loop->carriers);
    else return;
  }
}

static void run_one_later(struct list *link) {
  struct conn *c = container_of(link, struct conn, later_link);
  if (c->relay_in) c->flags |= CONN_KICK;
  conn_run(c);
}

/* run_later lets conns that used up their share go on, one after the other and each to its end, as
 * long as this turn's share lasts: one at least. Who used it up again waits for all others. */
static void run_later(struct loop *loop) {
  if (list_empty(&loop->later)) {
    take_all(&loop->later_next, &loop->later);
    loop->later_ms = loop->now_ms;
  }
  if (loop->share_ns < UINT64_MAX) loop_share_open(loop, loop->ops->clock(loop));
  struct list *later = &loop->later;
  for (struct list *link = list_pop_head(later); link; link = list_pop_head(later)) {
    run_one_later(link);
    flush(loop);
    if (loop_share_over(loop)) break;
  }
}

/* retry_starved arms as many parked receives as there are buffers: the others would only fail
 * again. All buffers are back in the ring here, so each of them gets one sooner or later. */
static void retry_starved(struct loop *loop) {
  uint64_t buffers = loop_stat_get(&loop->stats.buffers_total);
  for (uint64_t i = 0; i < buffers; i++) {
    struct list *link = list_pop_head(&loop->starved);
    if (link == NULL) return;
    struct conn *c = container_of(link, struct conn, starved_link);
    c->flags &= ~(uint32_t)CONN_STARVED;
    rx_arm(c);
  }
}

/* resume_parked lets bodies that waited for an iobuf go on as long as there are some, in the order
 * in which they came; bounded. */
static void resume_parked(struct loop *loop) {
  for (unsigned i = 0; i < RESUME_MAX && !iobufs_full(&loop->iobufs); i++) {
    struct list *link = list_pop_head(&loop->parked);
    if (link == NULL) return;
    rx_resume(container_of(link, struct conn, starved_link));
  }
}

/* has_work tells whether the next turn must not wait. */
static bool has_work(const struct loop *loop) {
  bool dirty = !list_empty(&loop->dirty) || !list_empty(&loop->carriers);
  if (dirty || loop_has_later(loop) || loop->budget_left) return true;
  return !list_empty(&loop->parked) && !iobufs_full(&loop->iobufs);
}

static uint64_t wait_until(struct loop *loop, uint64_t until_ms) {
  if (has_work(loop)) return 0;
  uint64_t next = wheel_next_ms(&loop->wheel);
  return next < until_ms ? next : until_ms;
}

int loop_run_turn(struct loop *loop, uint64_t until_ms) {
  if (loop_has_later(loop)) run_later(loop);
  if (!list_empty(&loop->parked)) resume_parked(loop);
  flush(loop);
  if (!list_empty(&loop->starved)) retry_starved(loop);
  if (!list_empty(&loop->udp_starved)) udp_rearm(loop);
  loop_stat_add(&loop->stats.turns, 1); /* what was armed before is with the kernel now */
  int rc = loop->ops->turn(loop, wait_until(loop, until_ms));
  if (rc < 0) return rc;
  wheel_run(&loop->wheel, loop->now_ms);
  if (loop->budget_run) loop->budget_left = loop->budget_run(loop);
  flush(loop);
  bury_dead(loop);
  return 0;
}

void loop_wake(struct loop *loop) { loop->ops->wake(loop); }

void loop_trim(struct loop *loop) {
  iobufs_trim(&loop->iobufs);
  slab_trim(&loop->conns);
  slab_trim(&loop->udps);
  pipe_pool_trim(loop);
  loop->ops->trim(loop);
  if (loop->tls_trim) loop->tls_trim(loop);
}

void loop_free(struct loop *loop) {
  if (loop) loop->ops->free(loop);
}
