/* breaker.c: the circuit breaker of a pool. Workers count outcomes in rows of their own, in parts
 * of a sliding window; a bad or slow one makes its worker add up all rows and judge. State, epoch
 * and the probes of the half-open state are one word, changed by compare-and-swap: any number of
 * workers let exactly `probes` through. Each change begins an epoch: what was admitted in another
 * one says nothing any more. Costs a load per request while closed. Logs nothing, reads no clock.
 */
#include "weir/upstream/breaker.h"

#include "upstream_priv.h"

/* ---- the word ---- */

/* word: while half-open issued counts passes that are out or were used; done, bad and slow what
 * came back. */
struct word {
  uint32_t state, epoch, issued, done, bad, slow;
};

static struct word word_of(uint64_t bits) {
  return (struct word){.state = bits & 3,
                       .epoch = (bits >> 2) & 0x3fff,
                       .issued = (bits >> 16) & 0xfff,
                       .done = (bits >> 28) & 0xfff,
                       .bad = (bits >> 40) & 0xfff,
                       .slow = (uint32_t)(bits >> 52)};
}

static uint64_t bits_of(const struct word *w) {
  return (uint64_t)w->slow << 52 | (uint64_t)w->bad << 40 | (uint64_t)w->done << 28 |
         (uint64_t)w->issued << 16 | (uint64_t)w->epoch << 2 | w->state;
}

static uint64_t load(const struct breaker *b) {
  return atomic_load_explicit(&b->word, memory_order_acquire);
}

static bool same_time(const struct word *a, const struct word *b) {
  return a->state == b->state && a->epoch == b->epoch;
}

/* ---- the window, while closed ---- */

static uint64_t part_number(const struct pool_breaker *s, uint64_t now_ms) {
  return now_ms / (s->window_ms / BREAKER_PARTS + !(s->window_ms / BREAKER_PARTS));
}

#define NUMBER_BITS 48

static uint64_t part_key(uint32_t epoch, uint64_t number) {
  return (uint64_t)epoch << NUMBER_BITS | (number & ((UINT64_C(1) << NUMBER_BITS) - 1));
}

static void add(_Atomic uint32_t *counter, uint32_t by) {
  uint32_t now = atomic_load_explicit(counter, memory_order_relaxed);
  if (by) atomic_store_explicit(counter, now + by, memory_order_relaxed);
}

static void count(struct upstream *u, const struct pool *pool, uint32_t epoch, uint64_t now_ms,
                  struct breaker_count more) {
  uint64_t number = part_number(&pool->breaker, now_ms), key = part_key(epoch, number);
  struct breaker_part *p = &pool->state->rows[u->worker].breaker.parts[number % BREAKER_PARTS];
  if (atomic_load_explicit(&p->key, memory_order_relaxed) != key) {
    atomic_store_explicit(&p->all, 0, memory_order_relaxed);
    atomic_store_explicit(&p->bad, 0, memory_order_relaxed);
    atomic_store_explicit(&p->slow, 0, memory_order_relaxed);
    atomic_store_explicit(&p->key, key, memory_order_release);
  }
  add(&p->all, more.all);
  add(&p->bad, more.bad);
  add(&p->slow, more.slow);
}

/* in_window: workers' clocks may be a part apart. */
static bool in_window(uint64_t key, uint32_t epoch, uint64_t number) {
  uint64_t at = key & ((UINT64_C(1) << NUMBER_BITS) - 1);
  return key >> NUMBER_BITS == epoch && at + BREAKER_PARTS > number && at <= number + 1;
}

static struct breaker_count window(const struct pool *pool, uint32_t epoch, uint64_t now_ms) {
  struct breaker_count sum = {0};
  uint64_t number = part_number(&pool->breaker, now_ms);
  for (uint32_t w = 0; w < pool->state->obj.workers; w++) {
    for (uint32_t i = 0; i < BREAKER_PARTS; i++) {
      const struct breaker_part *p = &pool->state->rows[w].breaker.parts[i];
      if (!in_window(atomic_load_explicit(&p->key, memory_order_acquire), epoch, number)) continue;
      sum.bad += atomic_load_explicit(&p->bad, memory_order_relaxed);
      sum.slow += atomic_load_explicit(&p->slow, memory_order_relaxed);
      sum.all += atomic_load_explicit(&p->all, memory_order_relaxed);
    }
  }
  if (sum.bad > sum.all) sum.bad = sum.all; /* their heads were counted before the window */
  return sum;
}

/* judge tells which rule `count` breaks, as a share of `all`. */
static enum breaker_cause judge(const struct pool_breaker *s, uint64_t all,
                                const struct breaker_count *c) {
  if (s->failure_percent && c->bad && c->bad * UINT64_C(100) >= all * s->failure_percent)
    return BREAKER_FAILURES;
  if (s->slow_percent && c->slow && c->slow * UINT64_C(100) >= all * s->slow_percent)
    return BREAKER_SLOW;
  return BREAKER_NONE;
}

/* ---- changes ---- */

/* streak_next: openings in a row are those from half-open, and those within a window of closing.
 */
static uint32_t streak_next(const struct pool *pool, const struct word *from, uint64_t now_ms) {
  const struct breaker *b = &pool->state->breaker;
  uint64_t since = atomic_load_explicit(&b->since_ms, memory_order_relaxed);
  bool again =
      from->state == BREAKER_HALF_OPEN || (since && now_ms - since < pool->breaker.window_ms);
  return again ? atomic_load_explicit(&b->streak, memory_order_relaxed) + 1 : 0;
}

static uint32_t open_ms(const struct pool_breaker *s, uint32_t streak) {
  uint64_t most = s->max_open_ms > s->open_ms ? s->max_open_ms : s->open_ms;
  uint64_t ms = streak < 31 ? (uint64_t)s->open_ms << streak : most;
  return (uint32_t)(ms < most ? ms : most);
}

/* decision is what a change is for. */
struct decision {
  enum breaker_state to;
  enum breaker_cause cause;
  struct breaker_count count;
};

static void turn_now(const struct pool *pool, const struct word *from, const struct decision *d,
                     uint64_t now_ms) {
  struct breaker *b = &pool->state->breaker;
  uint32_t lasts = pool->breaker.open_ms;
  if (d->to == BREAKER_OPEN) {
    uint32_t streak = streak_next(pool, from, now_ms);
    lasts = open_ms(&pool->breaker, streak);
    atomic_store_explicit(&b->streak, streak, memory_order_relaxed);
    atomic_fetch_add_explicit(&b->opened[d->cause], 1, memory_order_relaxed);
  }
  atomic_store_explicit(&b->before, (uint8_t)from->state, memory_order_relaxed);
  atomic_store_explicit(&b->cause, (uint8_t)d->cause, memory_order_relaxed);
  atomic_store_explicit(&b->all, d->count.all, memory_order_relaxed);
  atomic_store_explicit(&b->bad, d->count.bad, memory_order_relaxed);
  atomic_store_explicit(&b->slow, d->count.slow, memory_order_relaxed);
  atomic_store_explicit(&b->lasts_ms, lasts, memory_order_relaxed);
  atomic_store_explicit(&b->since_ms, now_ms ? now_ms : 1, memory_order_relaxed);
  atomic_store_explicit(&b->until_ms, now_ms + lasts, memory_order_relaxed);
  struct word next = {.state = d->to, .epoch = (from->epoch + 1) & 0x3fff};
  atomic_store_explicit(&b->word, bits_of(&next), memory_order_release);
}

/* turn changes the state unless it is another one by now, or another thread is at it: who comes
 * next finds the same grounds. */
static bool turn(struct upstream *u, const struct pool *pool, const struct word *from,
                 const struct decision *d, uint64_t now_ms) {
  struct breaker *b = &pool->state->breaker;
  if (atomic_exchange_explicit(&b->changing, true, memory_order_acquire)) return false;
  struct word now = word_of(load(b));
  bool may = same_time(&now, from);
  struct breaker_told told;
  if (may) {
    turn_now(pool, from, d, now_ms);
    told = breaker_look(pool->state);
  }
  atomic_store_explicit(&b->changing, false, memory_order_release);
  /* A half-open state that only goes on is no news. */
  if (may && u->breaker_turned && told.state != told.before) u->breaker_turned(u, pool, &told);
  return may;
}

/* settle ends the half-open state when the probes have decided; true: it changed. Probes that hang
 * hold nobody up: those that came back decide in time, and when none did others are let through.
 */
static bool settle(struct upstream *u, const struct pool *pool, const struct word *w,
                   uint64_t now_ms) {
  const struct pool_breaker *s = &pool->breaker;
  bool over = now_ms >= atomic_load_explicit(&pool->state->breaker.until_ms, memory_order_relaxed);
  struct decision d = {.to = BREAKER_OPEN, .count = {w->done, w->bad, w->slow}};
  d.cause = judge(s, over && w->done ? w->done : s->probes, &d.count);
  if (d.cause != BREAKER_NONE) return turn(u, pool, w, &d, now_ms);
  if (!over && w->done < s->probes) return false;
  d.to = w->done ? BREAKER_CLOSED : BREAKER_HALF_OPEN;
  return turn(u, pool, w, &d, now_ms);
}

/* ---- a request ---- */

static bool probe_take(const struct pool *pool, struct breaker_pass *pass) {
  struct breaker *b = &pool->state->breaker;
  uint64_t bits = load(b), next;
  do {
    struct word w = word_of(bits);
    if (w.state != BREAKER_HALF_OPEN || w.issued >= pool->breaker.probes) return false;
    *pass = (struct breaker_pass){.kind = BREAKER_PASS_PROBE, .epoch = (uint16_t)w.epoch};
    w.issued++;
    next = bits_of(&w);
  } while (!atomic_compare_exchange_weak(&b->word, &bits, next));
  return true;
}

/* TURNS_MAX bounds the changes that one request can meet: open, half-open, and once again. */
#define TURNS_MAX 4u

static bool admit(struct upstream *u, const struct pool *pool, uint64_t now_ms,
                  struct breaker_pass *pass) {
  struct breaker *b = &pool->state->breaker;
  for (uint32_t i = 0; i < TURNS_MAX; i++) {
    struct word w = word_of(load(b));
    if (w.state == BREAKER_CLOSED) {
      *pass = (struct breaker_pass){.kind = BREAKER_PASS_PLAIN, .epoch = (uint16_t)w.epoch};
      return true;
    }
    if (w.state == BREAKER_HALF_OPEN) {
      if (!settle(u, pool, &w, now_ms)) return probe_take(pool, pass);
      continue;
    }
    if (now_ms < atomic_load_explicit(&b->until_ms, memory_order_relaxed)) return false;
    struct decision d = {.to = BREAKER_HALF_OPEN};
    if (!turn(u, pool, &w, &d, now_ms)) return false;
  }
  return false;
}

bool breaker_admit(struct upstream *u, const struct pool *pool, uint64_t now_ms,
                   struct breaker_pass *pass) {
  *pass = (struct breaker_pass){0};
  if (!breaker_on(&pool->breaker) || admit(u, pool, now_ms, pass)) return true;
  _Atomic uint64_t *refused = &pool->state->rows[u->worker].breaker.refused;
  atomic_store_explicit(refused, atomic_load_explicit(refused, memory_order_relaxed) + 1,
                        memory_order_relaxed);
  return false;
}

/* probe_back gives a probe back: with its result, or (NULL) to be given to another request. */
static void probe_back(struct breaker *b, uint32_t epoch, const struct breaker_result *r) {
  uint64_t bits = load(b), next;
  do {
    struct word w = word_of(bits);
    if (w.state != BREAKER_HALF_OPEN || w.epoch != epoch) return;
    if (r) {
      w.done++;
      w.bad += r->bad;
      w.slow += r->slow;
    } else {
      w.issued--;
    }
    next = bits_of(&w);
  } while (!atomic_compare_exchange_weak(&b->word, &bits, next));
}

/* plain_end counts; `late`: the attempt was counted as good before. */
static void plain_end(struct upstream *u, const struct pool *pool, uint64_t now_ms, uint32_t epoch,
                      struct breaker_count more) {
  struct word w = word_of(load(&pool->state->breaker));
  if (w.state != BREAKER_CLOSED || w.epoch != epoch) return;
  count(u, pool, epoch, now_ms, more);
  if (!more.bad && !more.slow) return;
  struct decision d = {.to = BREAKER_OPEN, .count = window(pool, epoch, now_ms)};
  if (d.count.all < pool->breaker.min_requests) return;
  d.cause = judge(&pool->breaker, d.count.all, &d.count);
  if (d.cause != BREAKER_NONE) (void)turn(u, pool, &w, &d, now_ms);
}

void breaker_outcome(struct upstream *u, const struct pool *pool, uint64_t now_ms,
                     struct breaker_pass *pass, const struct breaker_result *r) {
  enum breaker_pass_kind kind = pass->kind;
  pass->kind = kind == BREAKER_PASS_PLAIN ? BREAKER_PASS_USED : BREAKER_PASS_NONE;
  if (!breaker_on(&pool->breaker)) return;
  if (kind == BREAKER_PASS_PLAIN) {
    plain_end(u, pool, now_ms, pass->epoch, (struct breaker_count){1, r->bad, r->slow});
  } else if (kind == BREAKER_PASS_USED) {
    plain_end(u, pool, now_ms, pass->epoch, (struct breaker_count){0, r->bad, 0});
  } else if (kind == BREAKER_PASS_PROBE) {
    probe_back(&pool->state->breaker, pass->epoch, r);
    struct word w = word_of(load(&pool->state->breaker));
    if (w.state == BREAKER_HALF_OPEN && w.epoch == pass->epoch) (void)settle(u, pool, &w, now_ms);
  }
}

void breaker_forget(struct pool_state *state, struct breaker_pass *pass) {
  if (pass->kind == BREAKER_PASS_PROBE) probe_back(&state->breaker, pass->epoch, NULL);
  pass->kind = BREAKER_PASS_NONE;
}

bool breaker_refuses(const struct pool *pool, uint64_t now_ms) {
  const struct breaker *b = &pool->state->breaker;
  if (!breaker_on(&pool->breaker)) return false;
  struct word w = word_of(load(b));
  if (w.state == BREAKER_CLOSED) return false;
  if (now_ms >= atomic_load_explicit(&b->until_ms, memory_order_relaxed)) return false;
  return w.state == BREAKER_OPEN || w.issued >= pool->breaker.probes;
}

bool breaker_closed(const struct pool *pool) {
  return !breaker_on(&pool->breaker) ||
         word_of(load(&pool->state->breaker)).state == BREAKER_CLOSED;
}

uint32_t breaker_wait_ms(const struct pool *pool, uint64_t now_ms) {
  const struct breaker *b = &pool->state->breaker;
  uint64_t until = atomic_load_explicit(&b->until_ms, memory_order_relaxed);
  bool open = word_of(load(b)).state == BREAKER_OPEN;
  return open && until > now_ms ? (uint32_t)(until - now_ms) : 0;
}

/* ---- for people ---- */

struct breaker_told breaker_look(const struct pool_state *state) {
  const struct breaker *b = &state->breaker;
  struct breaker_told told = {
      .state = word_of(load(b)).state,
      .before = atomic_load_explicit(&b->before, memory_order_relaxed),
      .cause = atomic_load_explicit(&b->cause, memory_order_relaxed),
      .count = {atomic_load_explicit(&b->all, memory_order_relaxed),
                atomic_load_explicit(&b->bad, memory_order_relaxed),
                atomic_load_explicit(&b->slow, memory_order_relaxed)},
      .lasts_ms = atomic_load_explicit(&b->lasts_ms, memory_order_relaxed),
      .since_ms = atomic_load_explicit(&b->since_ms, memory_order_relaxed)};
  for (size_t i = 0; i < BREAKER_CAUSES; i++)
    told.opened[i] = atomic_load_explicit(&b->opened[i], memory_order_relaxed);
  return told;
}

struct span breaker_word(enum breaker_state state) {
  switch (state) {
    case BREAKER_CLOSED: return SPAN_LIT("closed");
    case BREAKER_OPEN: return SPAN_LIT("open");
    case BREAKER_HALF_OPEN: return SPAN_LIT("half-open");
  }
  return SPAN_EMPTY;
}

void breaker_write(const struct breaker_told *t, struct buf *out) {
  const char *what = t->before == BREAKER_HALF_OPEN ? "probes" : "attempts";
  const char *how =
      t->cause == BREAKER_SLOW ? "were slow (breaker.slow_rate)" : "failed (breaker.failure_rate)";
  uint32_t some = t->cause == BREAKER_SLOW ? t->count.slow : t->count.bad;
  switch (t->state) {
    case BREAKER_OPEN: buf_printf(out, "%u of %u %s %s", some, t->count.all, what, how); return;
    case BREAKER_HALF_OPEN: buf_lit(out, "probes are let through"); return;
    case BREAKER_CLOSED:
      if (!t->since_ms) return;
      buf_printf(out, "%u probes came back, %u failed, %u were slow", t->count.all, t->count.bad,
                 t->count.slow);
  }
}
