/* regex_cost.c: what a match can cost at most, from the pattern alone. It walks over the tokens of
 * regex_scan.c as a match would go and keeps the repeats that could still give bytes back
 * (runners). A repeat that begins where a runner can stop at many places is entered again from
 * each of them: a link. The steps are bounded by the subject's length times the product of the
 * links, where a link counts the bytes of the subject at which it can happen: the smallest set
 * that must be passed between the two. A byte that a runner does not take ends it.
 *
 * The bound holds for compiled code and for the interpreter alike, whose own counters see
 * different things, and neither the bytes that a class runs over. Repeated groups are walked
 * twice: what links one turn to the next is seen in the second. Where turns may be ambiguous no
 * length bounds them; those patterns are marked (counted). Called by regex.c. */
#include "regex_priv.h"

#include "weir/base/mem.h"

#define RUNNERS_MAX 8u
#define DEPTH_MAX 17u   /* regex_scan.c's, and the whole pattern */
#define WALK_MAX 20000u /* tokens in all: bounded repeats are walked as often as they say */
#define COPIES_MAX 10u  /* of an ambiguous group, each of which multiplies */
#define TRIAL_LEN 32u   /* no pattern is accepted that cannot even be searched in so many bytes */

/* runner is a repeat (or a choice) behind which the walk stands, and which may yet give back. */
struct runner {
  struct byte_set set, gate; /* gate: the smallest set that was passed since, of its own bytes */
  uint32_t chain;            /* how many multiply, this one included */
  uint32_t most;             /* ways that it has; REGEX_NO_END: one for each byte */
  uint32_t born;
};

struct runners {
  struct runner rows[RUNNERS_MAX];
  uint32_t count;
};

/* level is an open group. */
struct level {
  struct runners first, in, out; /* before it, before this turn, behind its branches */
  struct runners done;           /* behind turns that may have been the last */
  struct byte_set all;
  uint32_t begin, turns, branches, born;
  bool endless, linked, choice; /* inside: an endless repeat, a link, an ambiguous choice */
};

struct walk {
  const struct regex_facts *facts;
  struct regex_cost *cost;
  struct runners now;
  struct level levels[DEPTH_MAX];
  uint32_t depth, at, steps, born;
  bool deep; /* more links in a row than are kept, or could be searched */
};

static const struct byte_set every = {{UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}};

/* narrower is the gate of r behind a byte of set: where r gives back, that is one of its own. */
static struct byte_set narrower(const struct runner *r, const struct byte_set *set) {
  struct byte_set both = *set;
  for (unsigned i = 0; i < 4; i++) both.bits[i] &= r->set.bits[i];
  return set_size(&both) < set_size(&r->gate) ? both : r->gate;
}

static uint32_t larger(uint32_t a, uint32_t b) { return a > b ? a : b; }

/* ---- runners ---- */

static void runner_merge(struct runner *into, const struct runner *r) {
  set_or(&into->set, &r->set);
  set_or(&into->gate, &r->gate);
  into->chain = larger(into->chain, r->chain);
  into->most = larger(into->most, r->most);
  into->born = larger(into->born, r->born);
}

static bool set_same(const struct byte_set *a, const struct byte_set *b) {
  return memcmp(a, b, sizeof *a) == 0;
}

static void runner_add(struct runners *to, const struct runner *r) {
  for (uint32_t i = 0; i < to->count; i++)
    if (set_same(&to->rows[i].set, &r->set)) {
      runner_merge(&to->rows[i], r);
      return;
    }
  if (to->count == RUNNERS_MAX)
    runner_merge(&to->rows[RUNNERS_MAX - 1], r);
  else
    to->rows[to->count++] = *r;
}

static void runners_add(struct runners *to, const struct runners *more) {
  for (uint32_t i = 0; i < more->count; i++) runner_add(to, &more->rows[i]);
}

/* pass takes a byte of set: what cannot have run over it is done. */
static void pass(struct runners *now, const struct byte_set *set) {
  uint32_t kept = 0;
  for (uint32_t i = 0; i < now->count; i++) {
    struct runner r = now->rows[i];
    if (!set_meets(&r.set, set)) continue;
    r.gate = narrower(&r, set);
    now->rows[kept++] = r;
  }
  now->count = kept;
}

/* link_from notes that the next repeat, which begins with one of `first`, is entered again by r.
 */
static void link_from(struct walk *w, const struct runner *r, const struct byte_set *first) {
  struct regex_cost *cost = w->cost;
  for (uint32_t i = 0; i <= w->depth; i++)
    if (r->born > w->levels[i].born) w->levels[i].linked = true;
  if (r->chain > REGEX_LINKS_MAX) {
    w->deep = true;
    return;
  }
  struct regex_link *link = &cost->links[r->chain - 1];
  if (cost->link_count < r->chain) {
    cost->link_count = r->chain;
    *link = (struct regex_link){.most = 0};
  }
  struct byte_set gate = narrower(r, first);
  set_or(&link->gate, &gate);
  link->most = larger(link->most, r->most);
}

/* runner_of makes the runner of a repeat that begins with one of `first`: those in
 * `from` that take such a byte may enter it again. */
static struct runner runner_of(struct walk *w, const struct runners *from,
                               const struct byte_set *first, uint32_t most) {
  struct runner made = {.set = *first, .gate = every, .chain = 1, .most = most};
  for (uint32_t i = 0; i < from->count; i++) {
    if (!set_meets(&from->rows[i].set, first)) continue;
    link_from(w, &from->rows[i], first);
    made.chain = larger(made.chain, from->rows[i].chain + 1);
  }
  made.born = ++w->born;
  return made;
}

/* ---- tokens ---- */

static uint32_t ways(const struct regex_token *token) {
  return token->max == REGEX_NO_END ? REGEX_NO_END : token->max - token->min + 1;
}

static void walk_set(struct walk *w, const struct regex_token *token) {
  struct level *level = &w->levels[w->depth];
  if (!token->max) return;
  set_or(&level->all, &token->set);
  if (token->max == token->min) {
    pass(&w->now, &token->set);
    return;
  }
  struct runner made = runner_of(w, &w->now, &token->set, ways(token));
  if (token->min) pass(&w->now, &token->set);
  runner_add(&w->now, &made);
  if (token->max == REGEX_NO_END) level->endless = true;
}

static void walk_open(struct walk *w) {
  check(w->depth + 1 < DEPTH_MAX);
  w->levels[++w->depth] = (struct level){
      .first = w->now, .in = w->now, .begin = w->at, .branches = 1, .born = w->born};
}

static void walk_bar(struct walk *w) {
  struct level *level = &w->levels[w->depth];
  runners_add(&level->out, &w->now);
  w->now = level->in;
  level->branches++;
}

/* again begins the next turn of a group. */
static void again(struct walk *w) {
  struct level *level = &w->levels[w->depth];
  level->in = w->now = level->out;
  level->out.count = 0;
  level->branches = 1;
  w->at = level->begin;
}

/* leave takes what is known of a group to the one around it. */
static void leave(struct walk *w, const struct regex_token *token) {
  struct level level = w->levels[w->depth--], *outer = &w->levels[w->depth];
  set_or(&outer->all, &level.all);
  outer->endless = outer->endless || level.endless;
  outer->choice = outer->choice || level.choice;
  if (token->max != REGEX_NO_END) return;
  outer->endless = true;
  if (level.choice || level.linked) w->cost->counted = true;
  if (w->cost->counted && token->min > COPIES_MAX) w->deep = true; /* (a?){85} */
}

/* choose notes a choice between branches that the first byte does not tell apart. */
static void choose(struct walk *w, const struct regex_token *token) {
  struct level *level = &w->levels[w->depth];
  struct runner choice = runner_of(w, &level->in, &token->set, level->branches);
  choice.set = level->all;
  level->choice = true;
  runner_add(&level->out, &choice);
}

/* turn_ends tells whether the group is walked once more. */
static bool turn_ends(struct walk *w, const struct regex_token *token) {
  struct level *level = &w->levels[w->depth];
  uint32_t turns = token->max == REGEX_NO_END ? 2 : token->max;
  runners_add(&level->out, &w->now);
  if (token->ambiguous) choose(w, token);
  if (++level->turns >= token->min) runners_add(&level->done, &level->out);
  return level->turns < turns;
}

/* walk_close ends a turn: the group is walked again, or left with what runs behind it. */
static void walk_close(struct walk *w, const struct regex_token *token) {
  struct level *level = &w->levels[w->depth];
  if (turn_ends(w, token)) {
    again(w);
    return;
  }
  if (token->max != token->min) {
    struct runner made = runner_of(w, &level->first, &token->set, ways(token));
    made.set = level->all;
    runner_add(&level->done, &made);
  }
  if (token->min == 0) runners_add(&level->done, &level->first);
  w->now = token->look ? level->first : level->done; /* a look gives nothing back */
  leave(w, token);
}

static void walk_token(struct walk *w, const struct regex_token *token) {
  switch ((enum regex_token_kind)token->kind) {
    case TOKEN_SET: walk_set(w, token); return;
    case TOKEN_OPEN: walk_open(w); return;
    case TOKEN_BAR: walk_bar(w); return;
    case TOKEN_CLOSE: walk_close(w, token); return;
  }
}

/* ---- the whole ---- */

static uint64_t times(uint64_t a, uint64_t b) {
  uint64_t product;
  return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

/* bound: a step that was linked weighs more, for there the interpreter tries again. */
static uint64_t bound(const struct regex_cost *cost, uint64_t len, uint64_t product) {
  uint64_t linked = times(times(product - 1, len + 1), 4);
  uint64_t sum;
  if (__builtin_add_overflow(linked, len + 1, &sum)) return UINT64_MAX;
  return times(sum, cost->weight);
}

static void weigh(const struct regex_facts *facts, struct regex_cost *cost) {
  uint32_t bars = 0, frames = 2;
  for (uint32_t i = 0; i < facts->token_count; i++) {
    const struct regex_token *token = &facts->tokens[i];
    bars += token->kind == TOKEN_BAR;
    frames += token->kind == TOKEN_OPEN || token->kind == TOKEN_BAR || token->max != token->min;
  }
  cost->weight = 1 + bars / 4;
  cost->frames = frames;
}

bool regex_cost_find(const struct regex_facts *facts, struct regex_cost *cost,
                     struct regex_fault *fault) {
  struct walk *w = mem_alloc(sizeof *w);
  *cost = (struct regex_cost){.turn = facts->turn, .prefix = facts->prefix};
  w->facts = facts;
  w->cost = cost;
  while (w->at < facts->token_count && w->steps++ < WALK_MAX)
    walk_token(w, &facts->tokens[w->at++]);
  bool good = w->at == facts->token_count && !w->deep;
  mem_free(w);
  weigh(facts, cost);
  uint64_t product = 1;
  for (uint32_t i = 0; i < cost->link_count; i++)
    product = times(product, cost->links[i].most < TRIAL_LEN ? cost->links[i].most : TRIAL_LEN);
  if (good && bound(cost, TRIAL_LEN, product) <= REGEX_BUDGET) return true;
  return regex_refuse(fault, 0, "it can explode: too many repeats in a row take the same bytes");
}

static uint64_t count_of(const struct byte_set *set, struct span subject) {
  uint64_t count = 0;
  if (set_same(set, &every)) return subject.len;
  for (size_t i = 0; i < subject.len; i++) count += set_has(set, (unsigned char)subject.ptr[i]);
  return count;
}

uint64_t regex_cost_of(const struct regex_cost *cost, struct span subject) {
  uint64_t product = 1;
  for (uint32_t i = 0; i < cost->link_count; i++) {
    uint64_t ways_here = 1 + count_of(&cost->links[i].gate, subject);
    product = times(product, ways_here < cost->links[i].most ? ways_here : cost->links[i].most);
  }
  return bound(cost, subject.len, product);
}

uint32_t regex_turns(const struct regex_cost *cost, struct span subject) {
  if (set_empty(&cost->turn)) return 0;
  return (uint32_t)count_of(&cost->turn, subject) + 1;
}
