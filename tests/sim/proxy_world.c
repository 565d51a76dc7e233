/* proxy_world.c: the world itself: workers on sim loops, steps, what must hold at each of them,
 * access records read back, the end and what must be gone then. */
#include "proxy_world.h"

#include <stdio.h>
#include <stdlib.h>

#include "weir/base/mem.h"

#define LOG_BYTES (1u << 18)
#define END_STEPS 2000000u
#define REST_MS 50u

static uint64_t from_env(const char *name, uint64_t otherwise) {
  uint64_t v;
  return span_u64(span_str(getenv(name)), &v) ? v : otherwise;
}

bool world_seed(uint64_t *seed, uint64_t count) {
  uint64_t first = from_env("WEIR_SIM_SEED", 1);
  *seed = *seed ? *seed + 1 : first;
  return *seed < first + from_env("WEIR_SIM_COUNT", count);
}

struct addr world_addr(const char *text) {
  struct addr a;
  check(addr_parse(span_str(text), &a));
  return a;
}

uint64_t world_draw(struct world *w, uint64_t below) { return sim_draw(w->sim, below); }
bool world_chance(struct world *w, uint32_t percent) { return sim_draw(w->sim, 100) < percent; }

void world_fault(struct world *w, const char *fmt, ...) {
  if (w->why[0]) return;
  va_list ap;
  va_start(ap, fmt);
  (void)vsnprintf(w->why, sizeof w->why, fmt, ap);
  va_end(ap);
}

void world_post(struct world *w, uint32_t worker, const struct worker_msg *msg) {
  struct worker_msg *m = mem_alloc(sizeof *m);
  *m = *msg;
  worker_post(w->worker[worker], m);
}

/* turn is one turn of a worker; a stopped one only lets its connections end. */
static int turn(void *ctx) {
  struct worker *w = ctx;
  if (worker_stopped(w)) return loop_run_turn(w->loop, 0);
  /* A message ends the wait of a turn, which has read the clock when the mailbox is looked at. */
  if ((atomic_load(&w->inbox) || atomic_load(&w->signals)) && loop_run_turn(w->loop, 0)) return -1;
  if (!worker_turn(w)) atomic_store(&w->has_stopped, true);
  if (w->wake_pending) loop_wake(w->loop);
  return 0;
}

static void worker_start(struct world *w, uint32_t i, uint32_t streams_max) {
  struct loop_config config = {
      .conns_max = 2 * streams_max, .buffer_bytes = 4096, .buffers_first = 64, .buffers_max = 64,
      .seed = w->seed + i};
  spsc_init(&w->logs[i], LOG_BYTES);
  struct worker_config wc = {.index = i,
                             .workers = w->workers,
                             .group = w->group,
                             .loop = sim_loop_new(w->sim, &config),
                             .log = &w->logs[i],
                             .access_log = true,
                             .sample_ppm = 1000000,
                             .streams_max = streams_max};
  w->worker[i] = worker_new(&wc);
  sim_loop_drive(w->worker[i]->loop, turn, w->worker[i]);
}

static void listen_all(struct world *w) {
  for (uint32_t i = 0; i < w->workers; i++) {
    char text[32];
    (void)snprintf(text, sizeof text, "127.0.0.1:%u", 8000 + i);
    struct addr at = world_addr(text);
    struct worker_msg msg = {.kind = WORKER_LISTEN, .fd = sim_listen_fd(w->sim, &at)};
    msg.state = w->current->listeners[0].listener->state;
    world_post(w, i, &msg);
  }
}

struct world *world_new(uint64_t seed, uint32_t workers, const struct sim_faults *faults,
                        const struct world_conf *conf) {
  struct world *w = mem_alloc(sizeof *w);
  w->seed = seed;
  w->sim = sim_new(seed, faults);
  w->workers = workers;
  w->registry = registry_new(workers);
  w->group = worker_group_new();
  list_init(&w->clients);
  for (uint32_t i = 0; i < SIM_ORIGINS; i++) {
    char text[32];
    (void)snprintf(text, sizeof text, "10.0.0.%u:80", i + 1);
    w->origins[i] = (struct origin){.w = w, .index = i, .at = world_addr(text)};
    list_init(&w->origins[i].conns);
    origin_up(&w->origins[i]);
  }
  uint32_t most = conf->streams_max ? conf->streams_max : 1024;
  for (uint32_t i = 0; i < workers; i++) worker_start(w, i, most);
  world_install(w, conf);
  listen_all(w);
  return w;
}

/* ---- records ---- */

static void event_read(struct world *w, struct span bytes) {
  struct record_event e;
  if (bytes.ptr[0] != RECORD_EVENT) return;
  check(bytes.len >= sizeof e);
  memcpy(&e, bytes.ptr, sizeof e);
  w->errors += e.level == END_LEVEL_ERROR;
}

static void record_read(struct world *w, struct span bytes) {
  struct record_access r;
  event_read(w, bytes);
  if (bytes.ptr[0] != RECORD_ACCESS) return;
  check(bytes.len >= sizeof r);
  memcpy(&r, bytes.ptr, sizeof r);
  struct span text[TEXT_COUNT];
  size_t at = sizeof r;
  for (size_t i = 0; i < TEXT_COUNT; i++) {
    text[i] = span_sub(bytes, at, r.text_len[i]);
    at += r.text_len[i];
  }
  check(at == bytes.len && r.end < END_COUNT);
  w->ends[r.end]++;
  struct plan *p = text[TEXT_PATH].len ? plan_find(w, text[TEXT_PATH]) : NULL;
  if (!p) {
    w->other_ends[r.end]++;
    return;
  }
  if (p->ended) world_fault(w, "plan %u has two access records", p->id);
  p->ended = true;
  p->end = (enum end)r.end;
  p->record = r;
}

static void records(struct world *w) {
  for (uint32_t i = 0; i < w->workers; i++) {
    for (struct span s = spsc_peek(&w->logs[i]); s.len; s = spsc_peek(&w->logs[i])) {
      record_read(w, s);
      spsc_release(&w->logs[i]);
    }
    check(atomic_load(&w->logs[i].dropped) == 0);
  }
}

/* ---- steps ---- */

static void cap(struct world *w, uint32_t count, uint32_t most) {
  if (most && w->capped) check(count <= most);
}

static void endpoint_caps(struct world *w, const struct pool *pool, const struct endpoint *e) {
  const struct pool_connections *c = &pool->connections;
  uint32_t conns = 0;
  for (uint32_t k = 0; k < w->workers; k++) conns += e->rows[k].conns;
  check(conns == atomic_load(&e->permits));
  cap(w, conns, c->max_per_endpoint);
  cap(w, endpoint_load(e), c->max_requests_per_endpoint);
}

/* caps looks at every pool of the current generation. */
static void caps(struct world *w) {
  for (uint32_t i = 0; i < w->current->pool_count; i++) {
    const struct pool *pool = w->current->pools[i];
    uint32_t queued = 0, load = 0, conns = 0;
    for (uint32_t k = 0; k < w->workers; k++) queued += pool->state->rows[k].queued;
    for (uint32_t m = 0; m < pool->member_count; m++) {
      const struct endpoint *e = pool->members[m].endpoint;
      endpoint_caps(w, pool, e);
      load += endpoint_load(e);
      conns += atomic_load(&e->permits);
    }
    check(queued == atomic_load(&pool->state->waiting));
    cap(w, queued, pool->connections.queue);
    cap(w, load, pool->connections.max_requests);
    cap(w, conns, pool->connections.max);
  }
}

void world_step(struct world *w) {
  if (!sim_step(w->sim)) sim_advance(w->sim, REST_MS); /* nothing is under way, not even a timer */
  w->steps++;
  for (struct list *l = w->clients.next; l != &w->clients; l = l->next)
    client_tick(container_of(l, struct client, link));
  records(w);
  caps(w);
  for (uint32_t i = 0; i < w->workers; i++) {
    size_t out = w->worker[i]->loop->iobufs.bytes_out;
    if (out > w->iobufs_max) w->iobufs_max = out;
  }
  if (w->old_count) world_retire(w, false);
  if (w->why[0])
    fail_msg("seed %llu, step %llu: %s", (unsigned long long)w->seed, (unsigned long long)w->steps,
             w->why);
}

static void undone(struct world *w) {
  for (uint32_t i = 0; i < w->plan_count; i++) {
    const struct plan *p = &w->plans[i];
    if (p->outcome == OUT_NONE || !p->ended)
      print_message(
          "plan %u: %s frame %u len %u, status %u frame %u len %u: outcome %d, got %llu, "
          "ended %d %s, seen upstream %u/%u\n",
          i, p->method, p->frame, p->len, p->status, p->up_frame, p->up_len, (int)p->outcome,
          (unsigned long long)p->got_body, p->ended, p->ended ? end_get(p->end)->word.ptr : "",
          p->up_heads, p->up_bodies);
  }
  for (uint32_t i = 0; i < w->workers; i++)
    print_message("worker %u: %u streams, %u downs\n", i, worker_streams(w->worker[i]),
                  worker_conns(w->worker[i]));
}

void world_run(struct world *w, bool (*done)(struct world *w), uint64_t max) {
  for (uint64_t i = 0; i < max; i++) {
    if (done(w)) return;
    world_step(w);
  }
  undone(w);
  fail_msg("seed %llu: not done after %llu steps", (unsigned long long)w->seed,
           (unsigned long long)max);
}

void world_for(struct world *w, uint64_t ms) {
  uint64_t until = sim_now_ms(w->sim) + ms;
  while (sim_now_ms(w->sim) < until) world_step(w);
}

bool world_clients_done(struct world *w) {
  for (struct list *l = w->clients.next; l != &w->clients; l = l->next)
    if (!client_done(container_of(l, struct client, link))) return false;
  return true;
}

/* ---- the end ---- */

static bool all_over(struct world *w) {
  for (uint32_t i = 0; i < w->workers; i++)
    if (!worker_stopped(w->worker[i])) return false;
  return true;
}

/* settled: gauges of a stopped worker; only idle upstream connections may be left. */
static void settled(const struct worker *w) {
  const struct stats *s = &w->stats;
  check(s->requests_inflight == 0);
  check(s->downstream_conns == 0);
  check(s->downstream_idle == 0);
  check(s->queued == 0);
  check(s->tunnels == 0);
  check(s->udp_sessions == 0);
  check(w->loop->udps.live == 0);
  check(s->buffered_bytes == 0);
  check(s->upstream_conns == s->upstream_idle);
  check(w->downs.live == 0 && w->streams.live == 0);
  check(w->upstream.upconns.live == s->upstream_conns);
  check(w->blocks.live_bytes == 0);
  check(list_empty(&w->servings) && list_empty(&w->tunnels));
  check(list_empty(&w->waiting) && list_empty(&w->displaced));
}

static void endpoints_settled(struct object *o, void *ctx) {
  struct endpoint *e = (struct endpoint *)o;
  (void)ctx;
  check(atomic_load(&e->permits) == 0 && atomic_load(&e->requests) == 0);
  check(endpoint_load(e) == 0);
  for (uint32_t i = 0; i < o->workers; i++)
    check(e->rows[i].conns == 0 && e->rows[i].idle_count == 0);
}

static void pools_settled(struct object *o, void *ctx) {
  const struct pool_state *p = (const struct pool_state *)o;
  (void)ctx;
  check(atomic_load(&p->waiting) == 0 && atomic_load(&p->conns) == 0);
  check(atomic_load(&p->requests) == 0);
  for (uint32_t i = 0; i < o->workers; i++) {
    check(p->rows[i].queued == 0 && atomic_load(&p->rows[i].claim) == 0);
    check(!p->rows[i].first.root && !p->rows[i].last.root);
  }
}

void world_end(struct world *w) {
  for (uint32_t i = 0; i < w->workers; i++)
    if (!worker_stopped(w->worker[i])) world_post(w, i, &(struct worker_msg){.kind = WORKER_STOP});
  world_run(w, all_over, END_STEPS);
  world_for(w, 4000); /* gentle closes end */
  for (uint32_t i = 0; i < w->workers; i++) settled(w->worker[i]);
  for (uint32_t i = 0; i < w->workers; i++) {
    worker_free(w->worker[i]);
    w->worker[i] = NULL;
  }
  registry_each(w->registry, OBJECT_ENDPOINT, endpoints_settled, NULL);
  registry_each(w->registry, OBJECT_POOL_STATE, pools_settled, NULL);
  check(sim_fds_open(w->sim) == 0);
  world_retire(w, true);
  snapshot_free(w->current);
  while (!list_empty(&w->clients)) client_free(container_of(w->clients.next, struct client, link));
  for (uint32_t i = 0; i < SIM_ORIGINS; i++) origin_down(&w->origins[i], true);
  for (uint32_t i = 0; i < w->workers; i++) spsc_fini(&w->logs[i]);
  worker_group_free(w->group);
  registry_free(w->registry);
  sim_free(w->sim);
  mem_free(w);
}
