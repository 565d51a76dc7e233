/* balance.c: chooses a member: narrows the set (in service, untried, primaries before backups),
 * then asks the policy's row. No policy lives here. Called by proxy/ before checkout. */
#include "upstream_priv.h"

typedef uint32_t (*balance_fn)(const struct pick_from *from);

static const struct {
  struct span name;
  balance_fn pick;
} rows[BALANCE_COUNT] = {
#define BALANCE(id, text, fn, doc) {{(text), sizeof(text) - 1}, fn},
#include "weir/upstream/balance.def"
#undef BALANCE
};

bool balance_find(struct span name, uint8_t *out) {
  for (uint8_t i = 0; i < BALANCE_COUNT; i++) {
    if (!span_eq(rows[i].name, name)) continue;
    *out = i;
    return true;
  }
  return false;
}

struct span balance_text(uint8_t row) {
  check(row < BALANCE_COUNT);
  return rows[row].name;
}

static bool was_tried(const struct pool_tried *tried, uint32_t place) {
  for (uint32_t i = 0; tried && i < tried->count; i++)
    if (tried->place[i] == place) return true;
  return false;
}

static bool fit(const struct endpoint *e, enum pick_need need, uint64_t now_ms) {
  if (need == PICK_IN_SERVICE) return endpoint_in_service(e, now_ms);
  uint8_t state = atomic_load_explicit(&e->state, memory_order_relaxed);
  return need == PICK_UNKNOWN ? state == ENDPOINT_UNKNOWN : state != ENDPOINT_DOWN;
}

bool pick_allows(const struct pick_from *from, uint32_t place) {
  const struct pool_member *m = &from->pool->members[place];
  if (m->backup != from->backup || was_tried(from->tried, place)) return false;
  return fit(m->endpoint, from->need, from->now_ms);
}

uint32_t pick_nth(const struct pick_from *from, uint32_t n) {
  for (uint32_t i = 0; i < from->pool->member_count; i++)
    if (pick_allows(from, i) && n-- == 0) return i;
  check(false);
}

uint32_t pick_by_weight(const struct pick_from *from, uint64_t at) {
  for (uint32_t i = 0; i < from->pool->member_count; i++) {
    if (!pick_allows(from, i)) continue;
    if (at < from->pool->members[i].weight) return i;
    at -= from->pool->members[i].weight;
  }
  check(false);
}

/* narrow counts the members that from allows; false when there are none. */
static bool narrow(struct pick_from *from) {
  from->count = 0;
  from->weight = 0;
  for (uint32_t i = 0; i < from->pool->member_count; i++) {
    if (!pick_allows(from, i)) continue;
    from->count++;
    from->weight += from->pool->members[i].weight;
  }
  return from->count > 0 && from->weight > 0;
}

/* The order in which sets are tried. A first try only goes to an endpoint in service (how many may
 * be out of it is max_ejected's to say), or to a new one when there is no other; a further one
 * would rather try an ejected endpoint than one that has just failed. */
static const struct {
  bool untried;
  enum pick_need need;
  bool backup;
} sets[] = {
    {true, PICK_IN_SERVICE, false},  {true, PICK_IN_SERVICE, true},
    {true, PICK_UNKNOWN, false},     {true, PICK_UNKNOWN, true},
    {true, PICK_EJECTED, false},     {true, PICK_EJECTED, true},
    {false, PICK_IN_SERVICE, false}, {false, PICK_IN_SERVICE, true},
    {false, PICK_UNKNOWN, false},    {false, PICK_UNKNOWN, true},
};

const struct pool_member *pool_pick(struct upstream *u, const struct pool *pool, uint64_t now_ms,
                                    const struct pool_tried *tried) {
  bool first = !tried || !tried->count;
  for (size_t i = 0; i < array_count(sets); i++) {
    struct pick_from from = {.up = u, .pool = pool, .now_ms = now_ms};
    if (first && (sets[i].need == PICK_EJECTED || !sets[i].untried)) continue;
    from.tried = sets[i].untried ? tried : NULL;
    from.need = sets[i].need;
    from.backup = sets[i].backup;
    if (!narrow(&from)) continue;
    uint32_t place = from.count == 1 ? pick_nth(&from, 0) : rows[pool->balance].pick(&from);
    return &pool->members[place];
  }
  return NULL;
}
