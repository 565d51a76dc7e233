/* begin.c: when the requests of HTTP/2 clients begin: when all that came in a turn of the loop was
 * read, so that what the client has reset by then, or made us reset, costs no endpoint anything
 * (THREATS.md rows 1 and 2). One that is alone on its connection begins at once. Those beside
 * others wait for their round, one of each connection in it, and only so many begin in a turn: a
 * turn is what everybody else waits for. */
#include "proxy_priv.h"
#include "weir/base/warm.h"

/* FURTHER_MOST begin in a turn, but FURTHER_FEW while there are clients with one request at a
 * time: large turns are cheap, small ones are what those want. */
#define FURTHER_MOST 128u
#define FURTHER_FEW 4u
#define ALONE_MS 20u
/* LATE_MS: when one has waited so long turns are large again: nobody waits for ever. */
#define LATE_MS 50u
/* How long a turn reads on of those that bring much (loop.share_ns), and how many streams of a
 * connection that ended are told of it at a time. */
#define SHARE_MOST_NS 2000000u
#define SHARE_FEW_NS 50000u
#define ENDS_FEW 8u
/* Of clients that have used up a good part of their budgets against floods one request begins in a
 * millisecond, UNRULY_AT_ONCE after longer pauses (a timer's tick is 8 ms): what they begin they
 * mostly give up. More than UNRULY_MOST do not wait: they are floods. */
#define UNRULY_AT_ONCE 8u
#define UNRULY_MOST 1024u

/* on_unruly: the turn that it wakes ends by begin_run. */
static void on_unruly(struct timer *timer, uint64_t now_ms) { (void)timer, (void)now_ms; }

void begin_init(struct begin *b) {
  list_init(&b->alone);
  list_init(&b->unruly);
  timer_init(&b->unruly_timer, on_unruly);
  for (uint32_t i = 0; i < BEGIN_ROUNDS; i++) list_init(&b->rounds[i]);
}

void begin_alone(struct worker *w) { w->begin.alone_ms = now_ms(w); }

void begin_put(struct stream *s) {
  struct begin *b = &s->w->begin;
  timer_stop(&s->w->loop->wheel, &s->timer); /* the client has done its part */
  if (!(s->flags & STREAM_FURTHER)) {
    list_push_tail(&b->alone, &s->link);
    return;
  }
  uint32_t ahead = s->down->round + 1 - b->round; /* 0: the round that is on */
  if (ahead > UINT32_MAX / 2) ahead = 0;
  if (ahead >= BEGIN_ROUNDS) ahead = BEGIN_ROUNDS - 1;
  uint32_t round = s->down->round = b->round + ahead;
  if (ahead > b->last - b->round) b->last = round;
  list_push_tail(&b->rounds[round % BEGIN_ROUNDS], &s->link);
}

/* first is the one that is next; NULL: none waits. */
static struct stream *first(struct begin *b) {
  while (list_empty(&b->rounds[b->round % BEGIN_ROUNDS])) {
    if (b->round == b->last) return NULL;
    b->round++;
  }
  return container_of(b->rounds[b->round % BEGIN_ROUNDS].next, struct stream, link);
}

/* behind is the one that comes after s, which is of *round; NULL: none. */
static const struct stream *behind(const struct begin *b, const struct stream *s,
                                   uint32_t *round) {
  const struct list *next = s->link.next;
  while (next == &b->rounds[*round % BEGIN_ROUNDS]) {
    if (*round == b->last) return NULL;
    next = b->rounds[++*round % BEGIN_ROUNDS].next;
  }
  return container_of(next, const struct stream, link);
}

/* warm_behind: those who wait have been out of sight for some turns. */
static void warm_behind(const struct begin *b, const struct stream *s) {
  uint32_t round = b->round;
  for (unsigned step = WARM_STEPS; step-- > 0;) {
    s = behind(b, s, &round);
    if (!s) return;
    stream_warm(s, step, WARM_REQUEST);
  }
}

static void go(struct stream *s) {
  list_remove(&s->link);
  if (!stream_lost(s)) stream_go(s, STEP_ROUTE);
}

/* go_or_wait: true: it began, or was over: what is lost does not wait, nor is it lost for another
 * cause. */
static bool go_or_wait(struct begin *b, struct stream *s) {
  if (!h2_unruly(s->down->h2) || h2_stream_lost(h2_stream_of(s->conn))) {
    go(s);
    return true;
  }
  list_remove(&s->link);
  if (b->unruly_count >= UNRULY_MOST) {
    h2_stream_fail(h2_stream_of(s->conn), END_CLIENT_H2_FLOOD);
    return false;
  }
  s->flags |= STREAM_UNRULY;
  b->unruly_count++;
  list_push_tail(&b->unruly, &s->link);
  return false;
}

void begin_left(struct stream *s) {
  if (s->flags & STREAM_UNRULY) s->w->begin.unruly_count--;
  s->flags &= ~(uint32_t)STREAM_UNRULY;
}

static struct stream *stream_at(const struct list *l) {
  return container_of(l->next, struct stream, link);
}

/* may_begin: a further one, now. In small turns the first is sure of its place. */
static bool may_begin(const struct worker *w) {
  const struct begin *b = &w->begin;
  bool sure = !b->small || b->left == FURTHER_FEW;
  return b->left && (sure || !loop_share_over(w->loop));
}

static void run_unruly(struct worker *w) {
  struct begin *b = &w->begin;
  uint64_t passed = now_ms(w) - b->unruly_ms;
  uint64_t n = passed < UNRULY_AT_ONCE ? passed : UNRULY_AT_ONCE;
  if (n) b->unruly_ms = now_ms(w);
  for (; n > 0 && !list_empty(&b->unruly); n--) {
    struct stream *s = stream_at(&b->unruly);
    begin_left(s);
    go(s);
  }
  timer_set(&w->loop->wheel, &b->unruly_timer, now_ms(w) + 1);
}

/* run_alone: the first of a burst was alone only until the rest was read. */
static void run_alone(struct worker *w) {
  struct begin *b = &w->begin;
  while (!list_empty(&b->alone)) {
    struct stream *s = stream_at(&b->alone);
    if (h2_streams(s->down->h2) == 1) begin_alone(w);
    (void)go_or_wait(b, s);
  }
}

void begin_run(struct worker *w) {
  struct begin *b = &w->begin;
  run_alone(w);
  for (struct stream *s; may_begin(w) && (s = first(b)) != NULL;) {
    warm_behind(b, s);
    b->left -= go_or_wait(b, s);
  }
  if (!list_empty(&b->unruly) && !timer_armed(&b->unruly_timer)) run_unruly(w);
}

bool begin_turn(struct worker *w) {
  struct begin *b = &w->begin;
  bool some = first(b) != NULL;
  bool late = begin_late_ms(w) >= LATE_MS || loop_later_ms(w->loop) >= LATE_MS;
  bool small = b->small = now_ms(w) - b->alone_ms < ALONE_MS && !late;
  b->left = small ? FURTHER_FEW : FURTHER_MOST;
  w->loop->share_ns = small ? SHARE_FEW_NS : SHARE_MOST_NS;
  h2_pool_pace(w->h2, small ? ENDS_FEW : UINT32_MAX);
  return some;
}

uint64_t begin_late_ms(const struct worker *w) {
  const struct list *on = &w->begin.rounds[w->begin.round % BEGIN_ROUNDS];
  if (list_empty(on)) return 0;
  return (now_ns(w) - container_of(on->next, const struct stream, link)->t_head) / 1000000;
}
