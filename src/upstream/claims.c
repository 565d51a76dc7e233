/* claims.c: who comes next in a pool's queue, over routes and workers; see permits.h. A claim is
 * one word: a mark, the priority, the turn. Turns are 32 bits and compared by their distance: a
 * queue is far shorter than half of that. */
#include "upstream_priv.h"
#include "weir/upstream/permits.h"

#define CLAIM_MARK ((claim)1 << 63) /* no claim is 0 */

static claim claim_of(uint8_t priority, uint32_t turn) {
  return CLAIM_MARK | ((claim)priority << 32) | turn;
}
static uint8_t priority_of(claim c) { return (uint8_t)((c >> 32) & (POOL_PRIORITIES - 1)); }
static uint32_t turn_of(claim c) { return (uint32_t)c; }

/* after: turn a lies behind turn b. */
static bool after(uint32_t a, uint32_t b) { return (int32_t)(a - b) > 0; }

bool claim_before(claim a, claim b) {
  if (!b || !a) return a != 0;
  if (priority_of(a) != priority_of(b)) return priority_of(a) < priority_of(b);
  return after(turn_of(b), turn_of(a));
}

/* ---- turns: a row of the table says which route (at which priority) drew which turn last ---- */

/* key_of is never 0: ids begin with 1. */
static uint32_t key_of(uint32_t route_id, uint8_t priority) {
  return route_id * POOL_PRIORITIES + priority + POOL_PRIORITIES;
}
static uint64_t row_of(uint32_t key, uint32_t turn) { return ((uint64_t)key << 32) | turn; }

/* stale: what the row says is over: its route would draw the same turn without it. */
static bool stale(const struct pool_state *state, uint64_t row) {
  uint32_t clock = atomic_load(&state->clocks[(row >> 32) % POOL_PRIORITIES]);
  return !row || !after((uint32_t)row, clock - 1);
}

/* row_find is the key's row, else one that says nothing any more, else one to share. */
static uint32_t row_find(const struct pool_state *state, uint32_t key) {
  uint32_t free_row = POOL_TURNS;
  for (uint32_t i = 0; i < POOL_TURNS; i++) {
    uint64_t row = atomic_load(&state->turns[i]);
    if (row >> 32 == key) return i;
    if (free_row == POOL_TURNS && stale(state, row)) free_row = i;
  }
  return free_row < POOL_TURNS ? free_row : key / POOL_PRIORITIES % POOL_TURNS;
}

/* next_turn is one after the row's last, neither before the clock nor more than most behind it. */
static uint32_t next_turn(const struct pool_state *state, uint64_t row, uint32_t key,
                          uint8_t priority, uint32_t most) {
  uint32_t clock = atomic_load(&state->clocks[priority]);
  bool own = (row >> 32) % POOL_PRIORITIES == key % POOL_PRIORITIES; /* else of another clock */
  uint32_t turn = own && row ? (uint32_t)row + 1 : clock;
  if (after(clock, turn)) turn = clock;
  return after(turn, clock + most) ? clock + most : turn;
}

claim claim_draw(struct pool_state *state, uint32_t route_id, uint8_t priority, uint32_t most) {
  uint32_t key = key_of(route_id, priority), turn;
  uint32_t i = row_find(state, key);
  uint64_t row = atomic_load(&state->turns[i]);
  do {
    turn = next_turn(state, row, key, priority, most);
  } while (!atomic_compare_exchange_weak(&state->turns[i], &row, row_of(key, turn)));
  return claim_of(priority, turn);
}

claim claim_peek(const struct pool_state *state, uint32_t route_id, uint8_t priority,
                 uint32_t most) {
  uint32_t key = key_of(route_id, priority);
  uint64_t row = atomic_load(&state->turns[row_find(state, key)]);
  return claim_of(priority, next_turn(state, row, key, priority, most));
}

void claim_done(struct pool_state *state, claim c) {
  _Atomic uint32_t *clock = &state->clocks[priority_of(c)];
  uint32_t now = atomic_load(clock);
  while (after(turn_of(c), now) && !atomic_compare_exchange_weak(clock, &now, turn_of(c)))
    continue;
}

/* ---- between workers ---- */

void claim_publish(struct pool_state *state, uint32_t worker, claim c) {
  atomic_store(&state->rows[worker].claim, c);
}

bool claim_best(const struct pool_state *state, uint32_t *worker) {
  claim best = atomic_load(&state->rows[*worker].claim);
  for (uint32_t i = 0; i < state->obj.workers; i++) {
    claim c = atomic_load(&state->rows[i].claim);
    if (!claim_before(c, best)) continue;
    best = c;
    *worker = i;
  }
  return best != 0;
}
