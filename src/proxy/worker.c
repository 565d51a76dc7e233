/* worker.c: one worker: its loop, its mailbox, snapshots installed, drain, date and events. Makes
 * no decision about a request. */
#include "weir/proxy/worker.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "proxy_priv.h"
#include "weir/base/hash.h"
#include "weir/base/mem.h"

#define BLOCKS_KEEP 4096u
#define DOWN_CHUNK 64u
#define STREAM_CHUNK 16u
#define KEPT_CHUNK 16u

/* ---- birth ---- */

static void on_wake(struct loop *loop) { (void)loop; } /* worker_turn reads the mailbox */

/* TRIM_QUIET: ticks without a finished request after which the heap is trimmed and the timer rests
 * until the next request (stream_new). */
#define TRIM_QUIET 3u

static void on_trim(struct timer *timer, uint64_t now) {
  struct worker *w = container_of(timer, struct worker, trim_timer);
  uint64_t finished = atomic_load_explicit(&w->stats.proxied, memory_order_relaxed);
  w->trim_quiet = finished == w->trim_seen ? w->trim_quiet + 1 : 0;
  w->trim_seen = finished;
  loop_trim(w->loop);
  arena_blocks_trim(&w->blocks, 64);
  slab_trim(&w->streams);
  slab_trim(&w->exchanges);
  slab_trim(&w->kept);
  slab_trim(&w->proxied);
  slab_trim(&w->proxied_ids);
  slab_trim(&w->rests);
  slab_trim(&w->downs);
  front_udp_trim(w);
  h2_pool_trim(w->h2);
  slab_trim(&w->upstream.upconns);
  if (w->trim_quiet < TRIM_QUIET) timer_set(&w->loop->wheel, timer, now + TRIM_MS);
  else mem_trim();
}

static void on_drain_deadline(struct timer *timer, uint64_t now);

static void init_counters(struct worker *w) {
  w->upstream.counters = (struct upstream_counters){
      .conns = &w->stats.upstream_conns,
      .h2 = &w->stats.upstream_h2,
      .idle = &w->stats.upstream_idle,
      .connects = &w->stats.upstream_connects,
      .reused = &w->stats.upstream_reused,
      .ejections = &w->stats.ejections,
      .tls = {.full = &w->stats.upstream_tls_full,
              .resumed = &w->stats.upstream_tls_resumed,
              .failed = &w->stats.upstream_tls_failed},
  };
  w->upstream.permit_freed = permit_freed;
  w->upstream.breaker_turned = admit_turned;
}

struct worker *worker_new(const struct worker_config *config) {
  struct worker *w = mem_alloc_aligned(64, sizeof *w);
  w->config = *config;
  w->loop = config->loop;
  w->loop->owner = w;
  w->loop->on_wake = on_wake;
  w->access_log = config->access_log;
  w->sample_ppm = config->sample_ppm;
  w->rng = w->loop->rng ^ 0x9e3779b9u;
  uint32_t most = config->streams_max;
  stats_init(&w->stats);
  slab_init(&w->downs, sizeof(struct down), DOWN_CHUNK, most + DOWN_CHUNK);
  /* Clients', and ours: each of either has a conn, of which the loop has so many. */
  w->h2 = h2_pool_new(w->loop, w->loop->conns.limit, w->loop->conns.limit);
  slab_init(&w->streams, sizeof(struct stream), STREAM_CHUNK, most);
  slab_init(&w->exchanges, sizeof(struct exchange), STREAM_CHUNK, most);
  slab_init(&w->kept, sizeof(struct kept), KEPT_CHUNK, most);
  slab_init(&w->proxied, sizeof(struct proxied), DOWN_CHUNK, most + DOWN_CHUNK);
  slab_init(&w->proxied_ids, sizeof(struct proxied_id), DOWN_CHUNK, most + DOWN_CHUNK);
  slab_init(&w->rests, sizeof(struct rest), DOWN_CHUNK, most + DOWN_CHUNK);
  arena_blocks_init(&w->blocks, STREAM_BLOCK, BLOCKS_KEEP);
  upstream_init(&w->upstream, w->loop, config->index, w->loop->conns.limit);
  w->upstream.h2 = w->h2;
  init_counters(w);
  w->regex = regex_scratch_new();
  list_init(&w->servings);
  list_init(&w->tunnels);
  list_init(&w->waiting);
  begin_init(&w->begin);
  list_init(&w->displaced);
  queue_watch_init(w);
  mirror_init(w);
  timer_init(&w->drain_timer, on_drain_deadline);
  timer_init(&w->trim_timer, on_trim);
  timer_init(&w->stale_timer, stale_on_timer);
  timer_init(&w->room_timer, room_on_timer);
  overload_init(w);
  group_join(w);
  return w;
}

/* ---- the end ---- */

/* end_one: nothing may go on; the client sees truncation unless it can be told. */
static void end_one(struct down *d) {
  d->flags |= DOWN_CLOSE;
  if (d->h2) front_h2_end(d, END_DRAIN);
  else if (!d->stream) down_close(d, false);
  else if (d->stream->step == STEP_TUNNEL) stream_fail(d->stream, END_DRAIN_TUNNEL);
  else stream_fail(d->stream, END_DRAIN);
}

/* move_all gives the nodes of a list to another one, which was not in use. */
static void move_all(struct list *to, struct list *from) {
  list_init(to);
  list_push_head(from, to); /* both in one ring */
  list_remove(from);
}

/* end_downs tells each connection once. Who is told stands in sv->downs again, until it leaves, so
 * `rest` gets shorter by one each time, whatever comes of it. It gives how many have stayed. */
static uint32_t end_downs(struct serving *sv) {
  struct list rest;
  uint32_t stayed = 0;
  move_all(&rest, &sv->downs);
  for (struct list *l = list_pop_head(&rest); l; l = list_pop_head(&rest)) {
    list_push_tail(&sv->downs, l);
    end_one(container_of(l, struct down, link));
  }
  for (struct list *l = sv->downs.next; l != &sv->downs; l = l->next) stayed++;
  return stayed;
}

/* end_all: none should stay; if one does, that is our mistake, and no reason to wait for it. */
static void end_all(struct worker *w) {
  uint32_t stayed = 0;
  for (struct list *l = w->servings.next, *next; l != &w->servings; l = next) {
    next = l->next;
    struct serving *sv = container_of(l, struct serving, link);
    if (sv->udp) front_udp_end(sv);
    if (sv->conn) conn_close(sv->conn);
    sv->conn = NULL;
    sv->down_count++;
    stayed += end_downs(sv);
    sv->down_count--;
    serving_free_if_done(sv);
  }
  if (!stayed) return;
  w->stopped = true;
  worker_event(w, END_LEVEL_ERROR,
               "connections that were to end have not: %u; please report it", stayed);
}

static void on_drain_deadline(struct timer *timer, uint64_t now) {
  (void)now;
  end_all(container_of(timer, struct worker, drain_timer));
}

static void drain(struct worker *w, uint64_t deadline_ms) {
  w->draining = true;
  w->drain_deadline_ms = deadline_ms;
  serve_drain(w);
  tunnel_drain_all(w, deadline_ms);
  timer_set(&w->loop->wheel, &w->drain_timer, deadline_ms);
}

static void stop(struct worker *w) {
  w->draining = true;
  end_all(w);
  w->stopped = true;
}

/* ---- the mailbox ---- */

static void install(struct worker *w, const struct worker_msg *msg) {
  const struct snapshot *before = w->snapshot;
  w->snapshot = msg->snapshot;
  if (msg->snapshot) {
    uint32_t workers = w->config.workers ? w->config.workers : 1;
    w->conns_share = ((uint64_t)msg->snapshot->max_connections + workers - 1) / workers;
  }
  upstream_install(&w->upstream, msg->seq, before, msg->snapshot);
  serve_install(w);
  if (w->snapshot) overload_install(w, &w->snapshot->overload);
  if (w->snapshot) tunnel_check_routes(w);
  w->wake_pending = true; /* who waits in a queue may find room by the new settings */
  serve_resume(w);
}

static void forget(struct worker *w, uint32_t id) {
  stats_forget(&w->stats, STATS_SERVER, id);
  stats_forget(&w->stats, STATS_CLIENT, id);
}

static void carry_out(struct worker *w, const struct worker_msg *msg) {
  switch (msg->kind) {
    case WORKER_INSTALL: install(w, msg); break;
    case WORKER_RENAME: serve_rename(w, msg); break;
    case WORKER_LISTEN: serve_start(w, msg); break;
    case WORKER_UNLISTEN: serve_stop(w, msg->state, msg->fd); break;
    case WORKER_DRAIN: drain(w, msg->deadline_ms); break;
    case WORKER_STOP: stop(w); break;
    case WORKER_FORGET: forget(w, msg->id); break;
    case WORKER_LOG:
      w->access_log = msg->access_log;
      w->sample_ppm = msg->sample_ppm;
      break;
  }
}

void worker_post(struct worker *w, struct worker_msg *msg) {
  struct worker_msg *head = atomic_load_explicit(&w->inbox, memory_order_relaxed);
  do {
    msg->next = head;
  } while (!atomic_compare_exchange_weak_explicit(&w->inbox, &head, msg, memory_order_release,
                                                  memory_order_relaxed));
  loop_wake(w->loop);
}

/* inbox_take gives the messages in the order in which they were posted. */
static struct worker_msg *inbox_take(struct worker *w) {
  struct worker_msg *newest = atomic_exchange_explicit(&w->inbox, NULL, memory_order_acquire);
  struct worker_msg *oldest = NULL;
  while (newest) {
    struct worker_msg *next = newest->next;
    newest->next = oldest;
    oldest = newest;
    newest = next;
  }
  return oldest;
}

static void inbox_run(struct worker *w) {
  struct worker_msg *msg = inbox_take(w);
  while (msg) {
    struct worker_msg *next = msg->next;
    carry_out(w, msg);
    if (msg->seq) {
      atomic_store_explicit(&w->seq, msg->seq, memory_order_release);
      if (w->config.notify) w->config.notify(w->config.ctx, w);
    }
    mem_free(msg);
    msg = next;
  }
}

/* ---- turns ---- */

static bool done(const struct worker *w) {
  return w->stopped || (w->draining && list_empty(&w->servings));
}

bool worker_turn(struct worker *w) {
  if (atomic_load_explicit(&w->inbox, memory_order_relaxed)) inbox_run(w);
  group_listen(w);
  if (w->wake_pending) queue_run(w);
  if (done(w)) {
    mirror_end_all(w);
    return false;
  }
  bool more = begin_turn(w) || w->wake_pending;
  int err = loop_run_turn(w->loop, more ? 0 : WHEEL_NEVER);
  check(err == 0); /* the ring itself failed: nothing can go on */
  begin_run(w);
  return true;
}

/* close_upstream closes every idle connection, so that pins and slabs come to an end. */
static void close_upstream(struct worker *w) {
  if (w->snapshot) upstream_install(&w->upstream, UINT64_MAX, w->snapshot, NULL);
}

/* FLUSH_TURNS bounds the turns of 10 ms that let closing connections end: after a drain they
 * linger for their peers' FIN, after a stop only what is queued goes out. */
#define FLUSH_TURNS 100u
#define FLUSH_TURNS_STOPPED 5u

/* flush lets closing connections send their FIN and end; bounded. */
static void flush(struct worker *w) {
  mirror_end_all(w);
  w->loop->share_ns = UINT64_MAX;
  close_upstream(w);
  w->snapshot = NULL;
  timer_stop(&w->loop->wheel, &w->drain_timer);
  timer_stop(&w->loop->wheel, &w->trim_timer);
  timer_stop(&w->loop->wheel, &w->stale_timer);
  timer_stop(&w->loop->wheel, &w->room_timer);
  timer_stop(&w->loop->wheel, &w->queue_timer);
  timer_stop(&w->loop->wheel, &w->begin.unruly_timer);
  overload_stop(w);
  uint32_t most = w->stopped ? FLUSH_TURNS_STOPPED : FLUSH_TURNS;
  for (uint32_t i = 0; i < most && w->loop->conns.live > 0; i++)
    if (loop_run_turn(w->loop, w->loop->now_ms + 10)) break;
}

void worker_run(struct worker *w) {
  while (worker_turn(w)) continue;
  flush(w);
  atomic_store_explicit(&w->has_stopped, true, memory_order_release);
  if (w->config.notify) w->config.notify(w->config.ctx, w);
}

void worker_free(struct worker *w) {
  group_leave(w);
  flush(w);
  inbox_run(w);
  upstream_fini(&w->upstream);
  front_udp_fini(w);
  slab_fini(&w->downs);
  h2_pool_free(w->h2);
  slab_fini(&w->streams);
  slab_fini(&w->exchanges);
  slab_fini(&w->kept);
  slab_fini(&w->proxied);
  slab_fini(&w->proxied_ids);
  slab_fini(&w->rests);
  mirror_fini(w);
  arena_blocks_fini(&w->blocks);
  stats_fini(&w->stats);
  regex_scratch_free(w->regex);
  loop_free(w->loop);
  mem_free(w);
}

/* ---- small services ---- */

struct span worker_date(struct worker *w) {
  uint64_t sec = w->loop->wall_ms / 1000;
  if (sec != w->date_sec || !w->date[0]) {
    time_t t = (time_t)sec;
    struct tm tm;
    gmtime_r(&t, &tm);
    strftime(w->date, sizeof w->date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    w->date_sec = sec;
  }
  return span_of(w->date, 29);
}

#define EVENT_MAX 512u

void worker_event(struct worker *w, enum end_level level, const char *fmt, ...) {
  if (!w->config.log) return;
  char text[EVENT_MAX];
  va_list ap;
  va_start(ap, fmt);
  int n = vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  if (n < 0) return;
  struct record_event e = {.kind = RECORD_EVENT, .level = (uint8_t)level};
  e.worker = (uint16_t)w->config.index;
  e.len = (uint16_t)((size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
  e.done_ns = now_ns(w);
  e.wall_ms = w->loop->wall_ms;
  size_t len = sizeof e + e.len;
  char *to = worker_log_room(w, len);
  if (!to) return;
  struct buf b = buf_of(to, len);
  buf_put(&b, span_of((const char *)&e, sizeof e));
  buf_put(&b, span_of(text, e.len));
  worker_log_done(w, len);
}

uint64_t worker_seq(const struct worker *w) {
  return atomic_load_explicit(&w->seq, memory_order_acquire);
}
bool worker_stopped(const struct worker *w) {
  return atomic_load_explicit(&w->has_stopped, memory_order_acquire);
}
const struct stats *worker_stats(const struct worker *w) { return &w->stats; }
const struct loop_stats *worker_loop_stats(const struct worker *w) { return &w->loop->stats; }
uint32_t worker_conns(const struct worker *w) {
  return atomic_load_explicit(&w->down_count, memory_order_relaxed);
}
uint32_t worker_streams(const struct worker *w) {
  return atomic_load_explicit(&w->stream_count, memory_order_relaxed);
}
