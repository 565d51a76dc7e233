/* resolver.c: the names of endpoints: which there are, when they are asked for again, what other
 * threads read. Does not: ask (resolver_round.c), parse (dns_addrs.c, dns_srv.c), or decide what a
 * missing name means. Called by control.c, compiler.c and publish.c. */
#include "control/lookup_priv.h"

#include <time.h>

#include "weir/base/mem.h"

void lookup_changed(struct resolver *r) { r->config.changed(r->config.ctx); }

/* ---- the names; the lock is held ---- */

static struct lookup *find(struct resolver *r, const struct name_query *q) {
  uint64_t hash = name_hash(q->name);
  struct list *bucket = &r->buckets[hash % LOOKUP_BUCKETS];
  for (struct list *l = bucket->next; l != bucket; l = l->next) {
    struct lookup *found = container_of(l, struct lookup, bucket);
    if (found->hash == hash && name_query_same(&found->query, q)) {
      return found;
    }
  }
  return NULL;
}

static void on_due(struct timer *timer, uint64_t now_ms) {
  struct lookup *l = container_of(timer, struct lookup, timer);
  struct resolver *r = l->resolver;
  (void)now_ms;
  pthread_mutex_lock(&r->lock);
  l->asking = true;
  pthread_mutex_unlock(&r->lock);
  list_remove(&l->queue);
  list_push_tail(&r->due, &l->queue);
}

/* sibling finds who asks the same with other times or servers, and has the newest answer. */
static const struct lookup *sibling(const struct lookup *l) {
  const struct list *bucket = &l->resolver->buckets[l->hash % LOOKUP_BUCKETS];
  const struct lookup *best = NULL;
  for (struct list *at = bucket->next; at != bucket; at = at->next) {
    const struct lookup *other = container_of(at, struct lookup, bucket);
    bool fits = other != l && other->hash == l->hash && other->state.good &&
                other->query.srv == l->query.srv && other->query.family == l->query.family &&
                span_eq_nocase(other->query.name, l->query.name);
    if (fits && (!best || other->state.answer_ms > best->state.answer_ms)) {
      best = other;
    }
  }
  return best;
}

/* inherit takes over what is known: a changed setting loses no answer. It is no answer of this
 * question: the first one is waited for as for any other. Places in the search list are the same
 * only for the same servers. */
static void inherit(struct lookup *l, const struct lookup *from) {
  bool places = span_eq(l->query.servers, from->query.servers) ||
                from->good_candidate == LOCAL_CANDIDATE;
  l->state.good = true;
  l->state.answer_ms = from->state.answer_ms;
  l->state.ttl_ms = from->state.ttl_ms;
  l->good_candidate = places ? from->good_candidate : 0;
  l->left_out = from->left_out;
  l->addr_count = from->addr_count;
  l->addrs = (struct addr *)mem_array(from->addr_count, sizeof *l->addrs);
  if (from->addr_count) {
    memcpy(l->addrs, from->addrs, from->addr_count * sizeof *l->addrs);
  }
}

void lookup_note(struct lookup *l) {
  list_remove(&l->open);
  if (!l->hopeless && (!l->state.answered || (l->srv_next && !l->srv))) {
    list_push_tail(&l->resolver->open, &l->open);
  }
}

struct lookup *lookup_get(struct resolver *r, const struct name_query *q) {
  struct lookup *l = find(r, q);
  if (l) {
    return l;
  }
  l = (struct lookup *)mem_alloc(sizeof *l);
  l->resolver = r;
  l->hash = name_hash(q->name);
  l->query = *q;
  l->query.name = span_str(mem_str(q->name));
  l->query.servers = span_str(mem_str(q->servers));
  l->asking = true;
  timer_init(&l->timer, on_due);
  list_push_tail(&r->lookups, &l->link);
  list_push_tail(&r->buckets[l->hash % LOOKUP_BUCKETS], &l->bucket);
  list_push_tail(&r->fresh, &l->queue);
  list_init(&l->settling);
  list_init(&l->open);
  lookup_note(l);
  const struct lookup *from = sibling(l);
  if (from) {
    inherit(l, from);
  }
  return l;
}

static void lookup_free(struct lookup *l) {
  struct resolver *r = l->resolver;
  round_drop(l);
  srv_forget(l);
  timer_stop(&r->wheel, &l->timer);
  list_remove(&l->link);
  list_remove(&l->bucket);
  list_remove(&l->queue);
  list_remove(&l->open);
  if (l->channel) {
    dns_channel_put(l->channel);
  }
  mem_free((void *)(uintptr_t)l->query.name.ptr);
  mem_free((void *)(uintptr_t)l->query.servers.ptr);
  mem_free(l->addrs);
  mem_free(l);
}

/* ---- the control thread ---- */

/* reap forgets names that nobody wants; those that are being asked for go after their round. An
 * SRV name gives up its hosts, so it goes round until nothing is left to go. */
static void reap(struct resolver *r) {
  pthread_mutex_lock(&r->lock);
  bool again = r->reap;
  r->reap = false;
  while (again) {
    again = false;
    for (struct list *at = r->lookups.next; at != &r->lookups;) {
      struct lookup *l = lookup_of(at);
      at = at->next;
      if (!lookup_wanted(l) && !l->round.on) {
        again = again || l->query.srv;
        lookup_free(l);
      }
    }
  }
  pthread_mutex_unlock(&r->lock);
}

static void take_fresh(struct resolver *r) {
  struct list *l;
  pthread_mutex_lock(&r->lock);
  while ((l = list_pop_head(&r->fresh)) != NULL) {
    list_push_tail(&r->due, l);
  }
  pthread_mutex_unlock(&r->lock);
}

static void rearm(struct resolver *r) {
  uint64_t due = wheel_next_ms(&r->wheel);
  dns_rearm(r->dns);
  if (due == WHEEL_NEVER) {
    poller_stop(&r->timer);
  } else {
    poller_set(r->config.poller, &r->timer, due);
  }
}

/* run does all that can be done now. It ends: a name is due again only at a later time, and a
 * round has as many steps as the search list is long. */
static void run(struct resolver *r) {
  for (;;) {
    struct list *l;
    while ((l = list_pop_head(&r->stirred)) != NULL) {
      round_step(lookup_queued(l));
    }
    take_fresh(r);
    l = r->rounds < RESOLVER_ROUNDS_MAX ? list_pop_head(&r->due) : NULL;
    if (l) {
      round_begin(lookup_queued(l));
    } else if (list_empty(&r->stirred)) {
      break;
    }
  }
  reap(r);
  rearm(r);
}

static void on_dns(void *ctx) { run((struct resolver *)ctx); }

static void on_timer(struct poll_timer *timer) {
  struct resolver *r = container_of(timer, struct resolver, timer);
  wheel_run(&r->wheel, r->config.poller->now_ms);
  run(r);
}

void resolver_pump(struct resolver *r) { run(r); }

/* ---- any thread ---- */

void resolver_want(struct resolver *r, const struct name_query *q) {
  pthread_mutex_lock(&r->lock);
  struct lookup *l = lookup_get(r, q);
  bool is_new = l->wanted == 0 && !l->state.answered;
  const struct lookup *from = q->srv && l->wanted == 0 ? sibling(l) : NULL;
  if (from && from->srv) {
    srv_inherit(l, from); /* here and not in lookup_get, which makes the hosts */
  }
  l->wanted = r->mark;
  pthread_mutex_unlock(&r->lock);
  if (is_new) {
    r->config.wake(r->config.ctx);
  }
}

static bool all_answered(const struct resolver *r) {
  for (struct list *at = r->open.next; at != &r->open; at = at->next) {
    if (lookup_wanted(container_of(at, struct lookup, open))) {
      return false;
    }
  }
  return true;
}

void resolver_wait(struct resolver *r, uint32_t wait_ms) {
  struct timespec until;
  check(clock_gettime(CLOCK_MONOTONIC, &until) == 0);
  until.tv_sec += wait_ms / 1000;
  until.tv_nsec += (long)(wait_ms % 1000) * 1000000;
  if (until.tv_nsec >= 1000000000) {
    until.tv_nsec -= 1000000000;
    until.tv_sec++;
  }
  pthread_mutex_lock(&r->lock);
  while (!all_answered(r) && pthread_cond_timedwait(&r->answered, &r->lock, &until) == 0) {
  }
  pthread_mutex_unlock(&r->lock);
}

static uint32_t host_answers(const struct lookup *l, struct name_answer *rows) {
  for (uint32_t i = 0; i < l->addr_count; i++) {
    rows[i] = (struct name_answer){.addr = l->addrs[i], .weight = 1};
  }
  return l->addr_count;
}

void resolver_get(struct resolver *r, const struct name_query *q, struct arena *arena,
                  struct name_answers *out) {
  *out = (struct name_answers){.count = 0};
  pthread_mutex_lock(&r->lock);
  const struct lookup *l = find(r, q);
  if (l && lookup_wanted(l)) {
    uint32_t room = l->query.srv ? NAME_ANSWERS_MAX : l->addr_count;
    size_t size = (room + 1) * sizeof(struct name_answer);
    struct name_answer *rows = (struct name_answer *)arena_alloc(arena, size);
    check(rows != NULL); /* an arena without limit */
    out->count = l->query.srv ? srv_answers(l, rows, arena) : host_answers(l, rows);
    out->rows = rows;
  }
  pthread_mutex_unlock(&r->lock);
}

void resolver_mark(struct resolver *r) {
  pthread_mutex_lock(&r->lock);
  r->mark++;
  pthread_mutex_unlock(&r->lock);
}

void resolver_sweep(struct resolver *r) {
  pthread_mutex_lock(&r->lock);
  r->swept = r->mark;
  r->reap = true;
  pthread_mutex_unlock(&r->lock);
  r->config.wake(r->config.ctx);
}

/* ---- for metrics and status ---- */

static bool unresolved(const struct lookup *l) {
  return l->query.srv ? !srv_resolved(l) : l->addr_count == 0;
}

void resolver_counts_get(struct resolver *r, struct resolver_counts *out) {
  pthread_mutex_lock(&r->lock);
  *out = r->counts;
  for (struct list *at = r->lookups.next; at != &r->lookups; at = at->next) {
    bool counts = lookup_wanted(lookup_of(at));
    out->names += counts;
    out->unresolved += counts && unresolved(lookup_of(at));
  }
  pthread_mutex_unlock(&r->lock);
}

static struct resolver_view view_of(const struct lookup *l, struct arena *arena, uint64_t now) {
  const struct name_state *s = &l->state;
  uint64_t since_ms = s->failing ? s->failing_ms : s->half ? s->half_ms : now;
  return (struct resolver_view){
      .name = arena_copy(arena, l->query.name, NULL),
      .servers = arena_copy(arena, l->query.servers, NULL),
      .srv = l->query.srv,
      .has_answer = s->good,
      .failing = (enum resolve_result)s->failing,
      .half = (enum resolve_result)s->half,
      .half_v6 = l->half_v6,
      .addresses = l->query.srv ? (l->srv ? l->srv->reply.count : 0) : l->addr_count,
      .left_out = l->left_out,
      .ttl_ms = s->ttl_ms,
      .age_ms = s->good && now > s->answer_ms ? now - s->answer_ms : 0,
      .failing_ms = now > since_ms ? now - since_ms : 0,
      .next_ms = !l->asking && s->next_ms > now ? s->next_ms - now : 0};
}

uint32_t resolver_views(struct resolver *r, struct arena *arena, uint32_t cap,
                        struct resolver_view **out) {
  uint32_t count = 0, most = 0;
  uint64_t now = clock_ms();
  pthread_mutex_lock(&r->lock);
  for (struct list *at = r->lookups.next; at != &r->lookups && most < cap; at = at->next) {
    most++;
  }
  *out = (struct resolver_view *)arena_alloc(arena, (most + 1) * sizeof **out);
  check(*out != NULL);
  for (struct list *at = r->lookups.next; at != &r->lookups && count < most; at = at->next) {
    if (lookup_wanted(lookup_of(at))) {
      (*out)[count++] = view_of(lookup_of(at), arena, now);
    }
  }
  pthread_mutex_unlock(&r->lock);
  return count;
}

/* ---- life ---- */

struct resolver *resolver_new(const struct resolver_config *config) {
  struct resolver *r = (struct resolver *)mem_alloc(sizeof *r);
  const struct dns_config dns = {.poller = config->poller, .after = on_dns, .ctx = r};
  r->config = *config;
  r->rng = config->seed;
  r->mark = r->swept = 1;
  list_init(&r->lookups);
  for (uint32_t i = 0; i < LOOKUP_BUCKETS; i++) {
    list_init(&r->buckets[i]);
  }
  list_init(&r->fresh);
  list_init(&r->open);
  list_init(&r->settling);
  list_init(&r->due);
  list_init(&r->stirred);
  wheel_init(&r->wheel, config->poller->now_ms);
  poll_timer_init(&r->timer, on_timer);
  r->dns = dns_new(&dns);
  pthread_mutex_init(&r->lock, NULL);
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&r->answered, &attr);
  pthread_condattr_destroy(&attr);
  return r;
}

void resolver_free(struct resolver *r) {
  dns_close(r->dns); /* what is under way ends now */
  for (struct list *at = r->lookups.next; at != &r->lookups; at = at->next) {
    srv_forget(lookup_of(at));
  }
  while (!list_empty(&r->lookups)) {
    lookup_free(lookup_of(r->lookups.next));
  }
  dns_free(r->dns);
  poller_stop(&r->timer);
  pthread_cond_destroy(&r->answered);
  pthread_mutex_destroy(&r->lock);
  mem_free(r);
}
