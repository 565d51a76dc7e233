/* publish.c: from a validated configuration to workers that run it: compile, bind, INSTALL,
 * LISTEN, UNLISTEN, wait, free. Everything that can fail comes before the first message to a
 * worker. Does not: read files (compiler.c, secrets.c). Runs in the compile thread. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "control/compiler_priv.h"
#include "control/log_priv.h"
#include "control/poller_priv.h"
#include "control/resolver_priv.h"
#include "weir/base/mem.h"
#include "weir/config/diff.h"
#include "weir/io/tls.h"
#include "weir/io/tls_client_auth.h"
#include "weir/io/tls_client.h"
#include "weir/io/tls_warnings.h"

void publish_result_fini(struct publish_result *r) {
  text_fini(&r->diff);
  text_fini(&r->diff_json);
}

static void resolve(void *ctx, const struct name_query *q, struct arena *arena,
                    struct name_answers *out) {
  resolver_get(((struct compiler *)ctx)->config.resolver, q, arena, out);
}

/* ---- which states are in the newest snapshot: tunnels of removed routes end after drain ---- */

static int compare_pointers(const void *a, const void *b) {
  uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;
  return x < y ? -1 : x > y;
}

struct state_set {
  uintptr_t *at;
  size_t count;
};

static bool state_in(const struct state_set *set, const void *state) {
  uintptr_t key = (uintptr_t)state;
  return set->count && bsearch(&key, set->at, set->count, sizeof key, compare_pointers);
}

static void mark_route(struct object *o, void *ctx) {
  struct route_state *state = container_of(o, struct route_state, obj);
  atomic_store(&state->removed, !state_in((const struct state_set *)ctx, state));
}

static void mark_listener(struct object *o, void *ctx) {
  struct listener_state *state = container_of(o, struct listener_state, obj);
  atomic_store(&state->removed, !state_in((const struct state_set *)ctx, state));
}

static void mark_removed(struct registry *registry, const struct snapshot *s) {
  struct state_set set = {.at = (uintptr_t *)mem_array(s->route_count + s->listener_count,
                                                       sizeof(uintptr_t))};
  for (uint32_t i = 0; i < s->route_count; i++) {
    set.at[set.count++] = (uintptr_t)s->routes[i]->state;
  }
  for (uint32_t i = 0; i < s->listener_count; i++) {
    set.at[set.count++] = (uintptr_t)s->listeners[i].listener->state;
  }
  qsort(set.at, set.count, sizeof *set.at, compare_pointers);
  registry_each(registry, OBJECT_ROUTE_STATE, mark_route, &set);
  registry_each(registry, OBJECT_LISTENER_STATE, mark_listener, &set);
  mem_free(set.at);
}

/* ---- publishing ---- */

bool publish_wait(struct compiler *c, uint64_t seq) {
  uint64_t until = clock_ms() + COMPILER_ACK_MS;
  while (!workers_acked(c->config.workers, seq)) {
    uint64_t now = clock_ms();
    if (now >= until) {
      return false;
    }
    struct pollfd ack = {.fd = c->config.workers->ack_event, .events = POLLIN};
    (void)poll(&ack, 1, (int)(until - now));
    uint64_t count;
    ssize_t n = read(ack.fd, &count, sizeof count);
    (void)n;
  }
  return true;
}

struct conf_hooks publish_hooks(struct compiler *c, bool trial) {
  return (struct conf_hooks){.tls = secrets_tls,
                             .tls_unref = tls_server_unref,
                             .tls_warning = secrets_warning,
                             .tls_lacks = tls_server_lacks,
                             .tls_stapled = secrets_stapled,
                             .tls_pem = tls_pem_check,
                             .upstream_tls = upstream_tls_get,
                             .upstream_tls_unref = tls_client_unref,
                             .resolve = resolve,
                             .connections_max = c->config.connections_max,
                             .trial = trial,
                             .ctx = c};
}

/* compile: of what failed, objects may be left that nobody has: they are collected. */
static struct snapshot *compile(struct compiler *c, const struct conf *conf, bool trial,
                                struct conf_faults *faults) {
  const struct conf_hooks hooks = publish_hooks(c, trial);
  struct snapshot *s =
      conf_compile(conf, &hooks, c->config.registry, c->published.current, faults);
  c->collect = c->collect || !s;
  return s;
}

static void retire(struct compiler *c, struct snapshot *s, uint64_t seq) {
  c->retired =
      (struct retired *)mem_grow(c->retired, c->retired_count + 1, sizeof *c->retired);
  c->retired[c->retired_count++] = (struct retired){s, seq};
}

/* post hands s and its descriptors to the workers, in one batch; false when they drain. What was
 * removed is marked before they look. A worker may take the messages one by one: a socket that
 * came before the snapshot would have its first connections refused. */
static bool post(struct compiler *c, struct snapshot *s, uint64_t *seq) {
  struct workers *w = c->config.workers;
  const struct worker_msg msg = {.kind = WORKER_INSTALL, .snapshot = s};
  if (!workers_open(w)) {
    return false;
  }
  mark_removed(c->config.registry, s);
  binds_rename(c);
  *seq = workers_post_all(w, &msg);
  binds_listen(c);
  binds_unlisten(c);
  workers_release(w);
  return true;
}

/* install makes s the current snapshot, for the workers and for those who look. */
static bool install(struct compiler *c, struct snapshot *s) {
  struct snapshot *old = c->published.current;
  uint64_t seq;
  if (!post(c, s, &seq)) {
    return false;
  }
  pthread_mutex_lock(&c->published.lock);
  c->published.current = s;
  c->published.live++;
  c->published.serial++;
  pthread_mutex_unlock(&c->published.lock);
  c->config.wake(c->config.ctx); /* health checks of what is new begin now */
  if (old) {
    retire(c, old, seq);
  }
  c->collect = true;
  if (!publish_wait(c, seq)) {
    log_line(c->config.log, END_LEVEL_WARN,
             "a worker has not taken over generation %llu after %u s; it will",
             (unsigned long long)s->generation, COMPILER_ACK_MS / 1000);
  }
  return true;
}

static void tell_changes(const struct compiler *c, const struct conf *conf,
                         const struct snapshot *s, struct publish_result *result) {
  const struct conf_side before = {c->conf, c->published.current}, after = {conf, s};
  if (before.snapshot) {
    result->changes = conf_diff(&before, &after, &result->diff, false);
    (void)conf_diff(&before, &after, &result->diff_json, true);
  }
}

/* give_up undoes what publish did before it failed. */
static void give_up(struct compiler *c, struct snapshot *s, struct publish_result *result) {
  result->code = WEIR_CANNOT_START;
  result->changes = 0;
  publish_result_fini(result);
  snapshot_free(s);
  c->collect = true;
}

/* take_over hands s to the workers. */
static void take_over(struct compiler *c, const struct conf *conf, struct snapshot *s,
                      struct publish_result *result) {
  struct buf why = buf_of(result->why, sizeof result->why - 1); /* stays NUL-terminated */
  if (!binds_stage(c, s, &why)) {
    give_up(c, s, result);
    return;
  }
  tell_changes(c, conf, s, result);
  if (!install(c, s)) {
    buf_lit(&why, "weir drains");
    binds_unstage(c);
    give_up(c, s, result);
    return;
  }
  secrets_prune(c);
  (void)publish_collect(c);
}

void publish(struct compiler *c, const struct conf *conf, uint64_t generation, uint32_t revision,
             struct conf_faults *faults, struct publish_result *result) {
  struct snapshot *s = compile(c, conf, false, faults);
  if (!s) {
    result->code = WEIR_BAD_CONFIG;
    return;
  }
  s->generation = generation;
  s->revision = revision;
  take_over(c, conf, s, result);
}

/* same_pools: objects are shared by content, so that what did not change is the same one. */
static bool same_pools(const struct snapshot *a, const struct snapshot *b) {
  if (a->pool_count != b->pool_count) {
    return false;
  }
  for (uint32_t i = 0; i < a->pool_count; i++) {
    if (a->pools[i]->obj.content != b->pools[i]->obj.content) {
      return false;
    }
  }
  return true;
}

void publish_resolved(struct compiler *c, struct conf_faults *faults,
                      struct publish_result *result) {
  const struct snapshot *now = c->published.current;
  struct snapshot *s = compile(c, c->conf, false, faults);
  if (!s) {
    result->code = WEIR_BAD_CONFIG;
    return;
  }
  if (same_pools(now, s)) {
    snapshot_free(s);
    c->collect = true;
    (void)publish_collect(c);
    return;
  }
  s->generation = now->generation;
  s->revision = now->revision + 1;
  take_over(c, c->conf, s, result);
}

void publish_plan(struct compiler *c, const struct conf *conf, struct conf_faults *faults,
                  struct publish_result *result) {
  struct snapshot *s = compile(c, conf, true, faults);
  if (!s) {
    result->code = WEIR_BAD_CONFIG;
    return;
  }
  tell_changes(c, conf, s, result);
  snapshot_free(s);
  c->collect = true;
  secrets_prune(c);
  (void)publish_collect(c);
}

/* ---- what nobody uses any more ---- */

static const enum object_kind counted_kinds[] = {OBJECT_ROUTE_STATE, OBJECT_LISTENER_STATE,
                                                 OBJECT_POOL_STATE, OBJECT_ENDPOINT};

struct ids {
  uint32_t *at;
  uint32_t count, cap;
};

static void add_id(struct object *o, void *ctx) {
  struct ids *ids = (struct ids *)ctx;
  if (ids->count == ids->cap) {
    ids->cap = ids->cap ? 2 * ids->cap : 64;
    ids->at = (uint32_t *)mem_grow(ids->at, ids->cap, sizeof *ids->at);
  }
  ids->at[ids->count++] = o->id;
}

static int compare_ids(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return x < y ? -1 : x > y;
}

static struct ids ids_now(struct registry *r) {
  struct ids ids = {.count = 0};
  for (size_t i = 0; i < array_count(counted_kinds); i++) {
    registry_each(r, counted_kinds[i], add_id, &ids);
  }
  if (ids.count) {
    qsort(ids.at, ids.count, sizeof *ids.at, compare_ids);
  }
  return ids;
}

/* forget_gone tells the workers which ids mean nothing any more, and waits: an id may be given to
 * a new object only after that. */
static void forget_gone(struct compiler *c, const struct ids *before, const struct ids *after) {
  uint64_t seq = 0;
  for (uint32_t i = 0, k = 0; i < before->count; i++) {
    while (k < after->count && after->at[k] < before->at[i]) {
      k++;
    }
    if (k == after->count || after->at[k] != before->at[i]) {
      const struct worker_msg msg = {.kind = WORKER_FORGET, .id = before->at[i]};
      seq = workers_post_all(c->config.workers, &msg);
    }
  }
  if (seq) {
    (void)publish_wait(c, seq);
  }
}

static void free_retired(struct compiler *c) {
  for (uint32_t i = c->retired_count; i-- > 0;) {
    if (!workers_acked(c->config.workers, c->retired[i].seq)) {
      continue;
    }
    pthread_mutex_lock(&c->published.lock);
    snapshot_free(c->retired[i].snapshot);
    c->published.live--;
    pthread_mutex_unlock(&c->published.lock);
    c->retired[i] = c->retired[--c->retired_count];
  }
}

bool publish_collect(struct compiler *c) {
  if (!c->collect) {
    return true;
  }
  free_retired(c);
  bool binds_gone = binds_collect(c);
  if (c->retired_count) {
    return false; /* objects are reaped only when every worker runs the newest snapshot */
  }
  struct ids before = ids_now(c->config.registry);
  pthread_mutex_lock(&c->published.lock);
  uint32_t waiting = object_reap(c->config.registry);
  pthread_mutex_unlock(&c->published.lock);
  struct ids after = ids_now(c->config.registry);
  forget_gone(c, &before, &after);
  mem_free(before.at);
  mem_free(after.at);
  c->collect = waiting > 0 || !binds_gone;
  return !c->collect;
}
