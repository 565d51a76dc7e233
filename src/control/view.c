/* view.c: fills the tables of the status page and `weir status` from counters and the current
 * snapshot. Does not: lock (the caller holds published.lock) or write (view_write.c). */
#include "control/view_priv.h"

#include <time.h>

#include "weir/base/mem.h"
#include "weir/io/tls.h"
#include "weir/upstream/breaker.h"
#include "weir/upstream/gradient.h"

static const struct view_column process_columns[] = {{"name", "", false}, {"value", "", false}};
static const struct view_column listener_columns[] = {
    {"name", "listener", false},        {"bind", "bind", false},
    {"protocol", "protocol", false},    {"pool", "pool", false},
    {"tls", "TLS", false},              {"open", "open", true},
    {"accepted", "accepted", true},     {"refused", "refused", true}};
static const struct view_column route_columns[] = {
    {"name", "route", false}, {"requests", "requests", true}, {"2xx", "2xx", true},
    {"3xx", "3xx", true},     {"4xx", "4xx", true},           {"5xx", "5xx", true},
    {"mean_ms", "mean ms", true}, {"p99_ms", "p99 ms <=", true}};
static const struct view_column pool_columns[] = {
    {"name", "pool", false},           {"inflight", "in flight", true},
    {"requests", "requests", true},    {"breaker", "breaker", false},
    {"since", "since", false},         {"reason", "reason", false},
    {"refused", "refused", true},      {"limit", "limit", true},
    {"waiting", "wait for head", true}, {"baseline_ms", "baseline ms", true},
    {"latency_ms", "latency ms", true}, {"over_limit", "over limit", true}};
static const struct view_column endpoint_columns[] = {
    {"pool", "pool", false},       {"address", "address", false},
    {"endpoint", "endpoint", false}, {"state", "state", false},
    {"since", "since", false},       {"reason", "reason", false},
    {"next_check_ms", "next check ms", true},
    {"inflight", "in flight", true}, {"connections", "connections", true},
    {"requests", "requests", true},  {"failures", "failures", true}};
static const struct view_column rate_columns[] = {
    {"policy", "policy", false},   {"passed", "passed", true}, {"refused", "refused", true},
    {"dry_run", "dry run", true},  {"shared", "shared", true}, {"bytes", "table bytes", true}};
static const struct view_column end_columns[] = {
    {"end", "end", false}, {"count", "requests", true}, {"meaning", "meaning", false}};
static const struct view_column certificate_columns[] = {
    {"listener", "listener", false}, {"certificate", "certificate", false},
    {"not_after", "ends", false}};

static const struct view_column name_columns[] = {
    {"name", "name", false},          {"type", "type", false},
    {"state", "state", false},        {"reason", "reason", false},
    {"addresses", "addresses", true}, {"age_ms", "age ms", true},
    {"ttl_ms", "TTL ms", true},       {"next_ms", "next ms", true}};

enum table { PROCESS, LISTENERS, ROUTES, POOLS, ENDPOINTS, RATES, NAMES, ENDS, CERTIFICATES };

#define TABLE(key, title, columns) {key, title, columns, array_count(columns), NULL, 0, 0, 0}
static const struct view_table empty_tables[VIEW_TABLES] = {
    [PROCESS] = TABLE("process", "weir", process_columns),
    [LISTENERS] = TABLE("listeners", "Listeners", listener_columns),
    [ROUTES] = TABLE("routes", "Routes", route_columns),
    [POOLS] = TABLE("pools", "Pools", pool_columns),
    [ENDPOINTS] = TABLE("endpoints", "Endpoints", endpoint_columns),
    [RATES] = TABLE("rates", "Rates of policies", rate_columns),
    [NAMES] = TABLE("names", "Names", name_columns),
    [ENDS] = TABLE("ends", "Requests that weir ended", end_columns),
    [CERTIFICATES] = TABLE("certificates", "Certificates", certificate_columns),
};

/* ---- cells ---- */

/* row gives the cells of a new row, or NULL when enough are shown. */
static struct span *row(struct view *v, enum table id) {
  struct view_table *t = &v->tables[id];
  if (t->row_count == VIEW_ROWS_MAX) {
    t->left_out++;
    return NULL;
  }
  if (t->row_count == t->row_cap) {
    t->row_cap = t->row_cap ? 2 * t->row_cap : 8;
    t->cells = (struct span *)mem_grow(t->cells, t->row_cap * t->column_count, sizeof *t->cells);
  }
  struct span *cells = t->cells + t->row_count++ * t->column_count;
  for (uint32_t i = 0; i < t->column_count; i++) {
    cells[i] = SPAN_EMPTY;
  }
  return cells;
}

static struct span number(struct view *v, uint64_t n) {
  return arena_printf(&v->arena, "%llu", (unsigned long long)n);
}

static struct span copy(struct view *v, struct span s) { return arena_copy(&v->arena, s, NULL); }

static struct span milliseconds(struct view *v, uint64_t ns) {
  return arena_printf(&v->arena, "%llu.%02llu", (unsigned long long)(ns / 1000000),
                      (unsigned long long)(ns / 10000 % 100));
}

/* ---- process ---- */

static void fact(struct view *v, const char *name, struct span value) {
  struct span *cells = row(v, PROCESS);
  if (cells) {
    cells[0] = span_str(name);
    cells[1] = value;
  }
}

static struct span duration(struct view *v, uint64_t seconds) {
  unsigned long long s = seconds;
  if (s >= 86400) {
    return arena_printf(&v->arena, "%llud %lluh", s / 86400, s / 3600 % 24);
  }
  return s >= 3600 ? arena_printf(&v->arena, "%lluh %llum", s / 3600, s / 60 % 60)
                   : arena_printf(&v->arena, "%llum %llus", s / 60, s % 60);
}

/* overload names what makes how many workers refuse requests. */
static struct span overload(struct view *v, const struct metrics_input *in) {
  const struct {
    const char *name;
    uint64_t workers;
  } causes[] = {{"memory", STAT_SUM(in, overload_memory)},
                {"connections", STAT_SUM(in, overload_connections)},
                {"lag", STAT_SUM(in, overload_lag)}};
  struct text text = {.ptr = NULL};
  for (size_t i = 0; i < array_count(causes); i++) {
    if (!causes[i].workers) continue;
    text_printf(&text, "%s%s (%llu of %u workers)", text.len ? ", " : "", causes[i].name,
                (unsigned long long)causes[i].workers, in->workers);
  }
  struct span s = text.len ? copy(v, text_span(&text)) : SPAN_LIT("no");
  text_fini(&text);
  return s;
}

static void fill_process(struct view *v, const struct metrics_input *in, const char *phase) {
  const struct metrics_facts *f = &in->facts;
  uint64_t up_s = (in->wall_ms - f->start_ms) / 1000;
  fact(v, "version", SPAN_LIT(WEIR_VERSION));
  fact(v, "state", span_str(phase));
  fact(v, "generation", number(v, f->generation));
  fact(v, "last_reload", f->last_reload_ok ? SPAN_LIT("ok") : SPAN_LIT("refused"));
  fact(v, "loader", f->loader_up ? SPAN_LIT("runs") : SPAN_LIT("ended: restart weir"));
  fact(v, "up", duration(v, up_s));
  fact(v, "workers", number(v, in->workers));
  fact(v, "connections", number(v, STAT_SUM(in, downstream_conns)));
  fact(v, "max_connections", number(v, f->max_connections));
  fact(v, "in_flight", number(v, STAT_SUM(in, requests_inflight)));
  fact(v, "requests", number(v, STAT_SUM(in, proxied)));
  fact(v, "tunnels", number(v, STAT_SUM(in, tunnels)));
  fact(v, "tcp_sessions", number(v, STAT_SUM(in, tcp_sessions)));
  fact(v, "udp_sessions", number(v, STAT_SUM(in, udp_sessions)));
  fact(v, "overload", overload(v, in));
  fact(v, "memory_bytes", number(v, f->resident_bytes));
  fact(v, "log_dropped", number(v, STAT_SUM(in, log_dropped) + f->log_lost));
}

/* ---- listeners and certificates ---- */

static struct span binds_of(struct view *v, const struct listener *l) {
  struct text text = {.ptr = NULL};
  for (uint32_t i = 0; i < l->bind_count; i++) {
    text_put(&text, i ? SPAN_LIT(", ") : SPAN_EMPTY);
    text_put(&text, l->binds[i]);
  }
  struct span s = copy(v, text_span(&text));
  text_fini(&text);
  return s;
}

/* pools_of names where connections go that no route sends: of TLS that is passed on to the pools
 * of its names, in the order of the file, and last to that of all others. */
#define POOLS_SHOWN 8u
static struct span pools_of(struct view *v, const struct listener *l) {
  const struct pool *shown[POOLS_SHOWN];
  struct text text = {.ptr = NULL};
  uint32_t count = 0;
  for (uint32_t i = 0; i <= l->sni_count; i++) {
    const struct pool *pool = i < l->sni_count ? l->sni[i].pool : l->pool;
    bool known = !pool;
    for (uint32_t k = 0; k < count && !known; k++) known = shown[k] == pool;
    if (known) continue;
    if (count == POOLS_SHOWN) {
      text_lit(&text, ", ...");
      break;
    }
    shown[count++] = pool;
    text_printf(&text, "%s" SPAN_FMT, text.len ? ", " : "", SPAN_ARG(pool->obj.name));
  }
  struct span s = copy(v, text_span(&text));
  text_fini(&text);
  return s;
}

/* served are the words of listeners.*.protocol. */
static const char *const served[] = {"http", "tcp", "tls_passthrough", "udp"};

static void fill_listener(struct view *v, const struct metrics_input *in,
                          const struct listener *l) {
  uint64_t open = 0, accepted = 0, refused = 0;
  for (uint32_t w = 0; w < in->workers; w++) {
    const struct listener_row *r = &l->state->rows[w];
    open += atomic_load_explicit(&r->conns, memory_order_relaxed);
    accepted += atomic_load_explicit(&r->accepted, memory_order_relaxed);
    refused += atomic_load_explicit(&r->refused, memory_order_relaxed);
  }
  struct span *cells = row(v, LISTENERS);
  if (cells) {
    cells[0] = copy(v, l->obj.name);
    cells[1] = binds_of(v, l);
    cells[2] = span_str(served[l->serves]);
    cells[3] = pools_of(v, l);
    cells[4] = l->tls ? SPAN_LIT("yes") : SPAN_LIT("no");
    cells[5] = number(v, open);
    cells[6] = number(v, accepted);
    cells[7] = number(v, refused);
  }
}

static struct span date(struct view *v, int64_t seconds) {
  time_t t = (time_t)seconds;
  struct tm tm;
  char text[32];
  gmtime_r(&t, &tm);
  return copy(v, span_of(text, strftime(text, sizeof text, "%Y-%m-%d %H:%M UTC", &tm)));
}

static void fill_certificates(struct view *v, const struct listener *l) {
  struct span label;
  int64_t not_after;
  for (uint32_t i = 0; l->tls && tls_server_cert(l->tls, i, &label, &not_after); i++) {
    struct span *cells = row(v, CERTIFICATES);
    if (cells) {
      cells[0] = copy(v, l->obj.name);
      cells[1] = copy(v, label);
      cells[2] = date(v, not_after);
    }
  }
}

static struct span moment(struct view *v, uint64_t wall_ms) {
  time_t t = (time_t)(wall_ms / 1000);
  struct tm tm;
  char text[32];
  gmtime_r(&t, &tm);
  return copy(v, span_of(text, strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm)));
}

/* ---- routes ---- */

struct route_sum {
  uint64_t count, by_class[6], sum_ns, buckets[STATS_BUCKETS + 1];
};

static struct route_sum route_sum(const struct series_list *series, uint32_t id) {
  struct route_sum sum = {.count = 0};
  for (uint32_t i = 0; i < series->count; i++) {
    const struct series *s = &series->rows[i];
    if (s->kind != STATS_SERVER || s->overflow || s->b != id) {
      continue;
    }
    sum.count += s->count;
    sum.by_class[s->status_class < 6 ? s->status_class : 0] += s->count;
    sum.sum_ns += s->sum_ns;
    for (uint32_t k = 0; k <= STATS_BUCKETS; k++) {
      sum.buckets[k] += s->buckets[k];
    }
  }
  return sum;
}

/* p99 is the bound of the bucket that holds the 99th percentile; empty when beyond the last. */
static struct span p99(struct view *v, const struct route_sum *sum) {
  uint64_t seen = 0;
  for (uint32_t i = 0; i < STATS_BUCKETS; i++) {
    seen += sum->buckets[i];
    if (sum->count && seen * 100 >= sum->count * 99) {
      return milliseconds(v, stats_bounds_ns[i]);
    }
  }
  return SPAN_EMPTY;
}

static void fill_route(struct view *v, struct span name, const struct route_sum *sum) {
  struct span *cells = row(v, ROUTES);
  if (!cells) {
    return;
  }
  cells[0] = copy(v, name);
  cells[1] = number(v, sum->count);
  for (uint32_t class = 2; class <= 5; class++) {
    cells[class] = number(v, sum->by_class[class]);
  }
  cells[6] = sum->count ? milliseconds(v, sum->sum_ns / sum->count) : SPAN_EMPTY;
  cells[7] = p99(v, sum);
}

static void fill_routes(struct view *v, const struct metrics_input *in) {
  struct series_list series = series_gather(in);
  for (uint32_t i = 0; in->snapshot && i < in->snapshot->route_count; i++) {
    const struct route *r = in->snapshot->routes[i];
    struct route_sum sum = route_sum(&series, r->state->obj.id);
    fill_route(v, r->obj.name, &sum);
  }
  struct route_sum none = route_sum(&series, 0);
  if (none.count) {
    fill_route(v, SPAN_LIT("(no route)"), &none);
  }
  series_free(&series);
}

/* ---- pools ---- */

static void fill_breaker(struct view *v, const struct metrics_input *in, const struct pool *p,
                         struct span *cells) {
  struct breaker_told told = breaker_look(p->state);
  char text[128];
  struct buf why = buf_of(text, sizeof text);
  breaker_write(&told, &why);
  cells[0] = breaker_word(told.state);
  if (told.since_ms) cells[1] = moment(v, protect_since_wall_ms(in, &told));
  cells[2] = copy(v, buf_span(&why));
  cells[3] = number(v, protect_refused(p->state, true));
}

static void fill_concurrency(struct view *v, const struct pool *p, struct span *cells) {
  const struct gradient *g = &p->state->gradient;
  cells[0] = number(v, gradient_limit(p));
  cells[1] = number(v, gradient_waiting(p->state));
  cells[2] = milliseconds(
      v, UINT64_C(1000) * atomic_load_explicit(&g->base_us, memory_order_relaxed));
  cells[3] = milliseconds(
      v, UINT64_C(1000) * atomic_load_explicit(&g->latency_us, memory_order_relaxed));
  cells[4] = number(v, protect_refused(p->state, false));
}

static void fill_pool(struct view *v, const struct metrics_input *in, const struct pool *p) {
  uint64_t inflight = 0, requests = 0;
  for (uint32_t w = 0; w < in->workers; w++) {
    inflight += atomic_load_explicit(&p->state->rows[w].inflight, memory_order_relaxed);
    requests += atomic_load_explicit(&p->state->rows[w].requests, memory_order_relaxed);
  }
  struct span *cells = row(v, POOLS);
  if (!cells) return;
  cells[0] = copy(v, p->obj.name);
  cells[1] = number(v, inflight);
  cells[2] = number(v, requests);
  cells[3] = SPAN_LIT("off");
  if (breaker_on(&p->breaker)) fill_breaker(v, in, p, cells + 3);
  if (p->concurrency.mode != CONCURRENCY_OFF) fill_concurrency(v, p, cells + 7);
}

/* ---- endpoints and ends ---- */

static struct span state_word(const struct endpoint *e, bool ejected) {
  switch ((enum endpoint_state)atomic_load_explicit(&e->state, memory_order_relaxed)) {
    case ENDPOINT_DOWN:
      return SPAN_LIT("down");
    case ENDPOINT_UNKNOWN:
      return SPAN_LIT("unknown");
    case ENDPOINT_NEW:
    case ENDPOINT_UNCHECKED:
    case ENDPOINT_UP:
      break;
  }
  return ejected ? SPAN_LIT("ejected") : SPAN_LIT("in service");
}

/* eject_reason says which rule took it out and for how much longer. */
static struct span eject_reason(struct view *v, const struct endpoint *e, uint64_t left_ms) {
  static const char *const rules[] = {"", "consecutive_failures", "consecutive_5xx",
                                      "failure_rate", "deviations"};
  uint8_t cause = atomic_load_explicit(&e->eject_cause, memory_order_relaxed);
  return arena_printf(&v->arena, "outlier.%s, %llu ms more",
                      cause < array_count(rules) ? rules[cause] : "",
                      (unsigned long long)left_ms);
}

/* check_reason is why the state is what it is; or what speaks against it. */
static struct span check_reason(struct view *v, const struct pool *p, const struct endpoint *e) {
  const struct endpoint_health *h = e->health;
  bool up = atomic_load_explicit(&e->state, memory_order_relaxed) == ENDPOINT_UP;
  if (!h->run) {
    return copy(v, span_str(h->reason));
  }
  return up ? arena_printf(&v->arena, "%u of %u checks failed: %s", h->run, p->health.unhealthy,
                           h->failure)
            : arena_printf(&v->arena, "%u of %u checks passed; was: %s", h->run,
                           p->health.healthy, h->reason);
}

/* fill_health fills the cells for state, since, reason and the next check. */
static void fill_health(struct view *v, const struct metrics_input *in, const struct pool *p,
                        const struct endpoint *e, struct span *cells) {
  uint64_t until = atomic_load_explicit(&e->ejected_until_ms, memory_order_relaxed);
  const struct endpoint_health *h = e->health && e->health->target ? e->health : NULL;
  bool ejected = until > in->now_ms;
  cells[0] = state_word(e, ejected);
  if (h) {
    cells[1] = moment(v, h->since_wall_ms);
    cells[2] = check_reason(v, p, e);
    cells[3] = number(v, h->next_ms > in->now_ms ? h->next_ms - in->now_ms : 0);
  }
  if (ejected && span_eq(cells[0], SPAN_LIT("ejected"))) {
    cells[2] = eject_reason(v, e, until - in->now_ms);
  }
}

static void fill_endpoint(struct view *v, const struct metrics_input *in, const struct pool *p,
                          const struct endpoint *e) {
  uint64_t inflight = 0, requests = 0, failures = 0;
  for (uint32_t w = 0; w < in->workers; w++) {
    inflight += atomic_load_explicit(&e->rows[w].inflight, memory_order_relaxed);
    requests += atomic_load_explicit(&e->rows[w].requests, memory_order_relaxed);
    failures += atomic_load_explicit(&e->rows[w].failures, memory_order_relaxed);
  }
  struct span *cells = row(v, ENDPOINTS);
  if (cells) {
    cells[0] = copy(v, e->pool);
    cells[1] = copy(v, e->text);
    cells[2] = copy(v, e->label);
    fill_health(v, in, p, e, cells + 3);
    cells[7] = number(v, inflight);
    cells[8] = number(v, atomic_load_explicit(&e->permits, memory_order_relaxed));
    cells[9] = number(v, requests);
    cells[10] = number(v, failures);
  }
}

static void fill_unresolved(struct view *v, const struct pool *p) {
  struct span *cells = p->unresolved ? row(v, ENDPOINTS) : NULL;
  if (cells) {
    cells[0] = copy(v, p->obj.name);
    cells[1] = arena_printf(&v->arena, "%u name%s", p->unresolved, p->unresolved == 1 ? "" : "s");
    cells[3] = SPAN_LIT("unresolved");
  }
}

static void fill_pools(struct view *v, const struct metrics_input *in) {
  for (uint32_t i = 0; in->snapshot && i < in->snapshot->pool_count; i++) {
    const struct pool *p = in->snapshot->pools[i];
    fill_pool(v, in, p);
    for (uint32_t k = 0; k < p->member_count; k++) {
      fill_endpoint(v, in, p, p->members[k].endpoint);
    }
    fill_unresolved(v, p);
  }
}

static void fill_rates(struct view *v, const struct metrics_input *in) {
  for (uint32_t i = 0; in->snapshot && i < in->snapshot->policy_count; i++) {
    const struct policy *p = in->snapshot->policies[i];
    const struct rate_state *state = p->rate.state;
    struct span *cells = state ? row(v, RATES) : NULL;
    if (cells) {
      cells[0] = copy(v, p->obj.name);
      cells[1] = number(v, rate_sum(in, state, offsetof(struct rate_row, passed)));
      cells[2] = number(v, rate_sum(in, state, offsetof(struct rate_row, refused)));
      cells[3] = number(v, rate_sum(in, state, offsetof(struct rate_row, observed)));
      cells[4] = number(v, rate_sum(in, state, offsetof(struct rate_row, shared)));
      cells[5] = number(v, tally_bytes(&state->tally));
    }
  }
}

/* ---- names ---- */

/* fill_name: what is in use, and what the last try said. */
static void fill_name(struct view *v, const struct resolver_view *n) {
  struct span *cells = row(v, NAMES);
  bool failing = n->failing != RESOLVE_OK;
  if (!cells) {
    return;
  }
  cells[0] = copy(v, n->name);
  cells[1] = n->srv ? SPAN_LIT("srv") : SPAN_LIT("address");
  cells[2] = !n->has_answer && !failing ? SPAN_LIT("asking")
             : !failing && !n->half     ? SPAN_LIT("resolved")
             : n->has_answer            ? SPAN_LIT("kept")
                                        : SPAN_LIT("unresolved");
  if (failing) {
    cells[3] = arena_printf(&v->arena, "%s, for %llu ms", resolve_sentence(n->failing),
                            (unsigned long long)n->failing_ms);
  } else if (n->half) {
    cells[3] = arena_printf(&v->arena, "%s: %s, for %llu ms", resolve_family(n->half_v6),
                            resolve_sentence(n->half), (unsigned long long)n->failing_ms);
  } else if (n->left_out) {
    cells[3] = arena_printf(&v->arena, "%u further addresses are not used", n->left_out);
  }
  cells[4] = number(v, n->addresses);
  if (n->has_answer) {
    cells[5] = number(v, n->age_ms);
    cells[6] = number(v, n->ttl_ms);
  }
  cells[7] = number(v, n->next_ms);
}

static void fill_names(struct view *v, const struct metrics_input *in) {
  for (uint32_t i = 0; i < in->name_count; i++) {
    fill_name(v, &in->names[i]);
  }
}

static void fill_ends(struct view *v, const struct metrics_input *in) {
  for (enum end e = 0; e < END_COUNT; e++) {
    uint64_t count = e == END_OK ? 0 : end_sum(in, e);
    struct span *cells = count ? row(v, ENDS) : NULL;
    if (cells) {
      cells[0] = end_get(e)->word;
      cells[1] = number(v, count);
      cells[2] = end_get(e)->detail;
    }
  }
}

void view_init(struct view *v, const struct metrics_input *in, const char *phase) {
  arena_init(&v->arena, ARENA_PAGES, 0);
  memcpy(v->tables, empty_tables, sizeof empty_tables);
  fill_process(v, in, phase);
  for (uint32_t i = 0; in->snapshot && i < in->snapshot->listener_count; i++) {
    fill_listener(v, in, in->snapshot->listeners[i].listener);
    fill_certificates(v, in->snapshot->listeners[i].listener);
  }
  fill_routes(v, in);
  fill_pools(v, in);
  fill_rates(v, in);
  fill_names(v, in);
  fill_ends(v, in);
}

void view_fini(struct view *v) {
  for (uint32_t i = 0; i < VIEW_TABLES; i++) {
    mem_free(v->tables[i].cells);
  }
  arena_reset(&v->arena);
}
