/* wheel.c: the timer wheel (hierarchical: Varghese and Lauck, 1987). A slot of level n holds 64^n
 * ticks; when the clock reaches it, its timers move a level down. Reads no clock. A timer whose
 * deadline moved later stays where it is linked and is put back when its slot comes up. */
#include "weir/base/wheel.h"

#include "weir/base/check.h"

#define SLOT_BITS 6u
#define SLOT_MASK (WHEEL_SLOTS - 1)
#define REACH_TICKS ((uint64_t)1 << (SLOT_BITS * WHEEL_LEVELS))
_Static_assert(WHEEL_SLOTS == 1u << SLOT_BITS, "slots are a power of two");

void wheel_init(struct wheel *wheel, uint64_t now_ms) {
  for (unsigned level = 0; level < WHEEL_LEVELS; level++)
    for (unsigned slot = 0; slot < WHEEL_SLOTS; slot++) list_init(&wheel->slots[level][slot]);
  wheel->tick = now_ms / WHEEL_TICK_MS;
  wheel->soonest = 0;
  wheel->armed = 0;
}

void timer_init(struct timer *timer, void (*fire)(struct timer *timer, uint64_t now_ms)) {
  list_init(&timer->link);
  timer->due_ms = timer->queued_ms = WHEEL_NEVER;
  timer->fire = fire;
}

/* place links the timer at its due time, not before the tick `earliest` (this one or the next). */
static void place(struct wheel *wheel, struct timer *timer, uint64_t earliest) {
  uint64_t due = timer->due_ms / WHEEL_TICK_MS + (timer->due_ms % WHEEL_TICK_MS != 0);
  if (due < earliest) due = earliest;
  if (due - wheel->tick >= REACH_TICKS) due = wheel->tick + REACH_TICKS - 1;
  unsigned level = 0;
  while ((due - wheel->tick) >> (SLOT_BITS * (level + 1)) != 0) level++;
  timer->queued_ms = timer->due_ms;
  if (due < wheel->soonest) wheel->soonest = due;
  list_push_tail(&wheel->slots[level][(due >> (SLOT_BITS * level)) & SLOT_MASK], &timer->link);
}

void timer_set(struct wheel *wheel, struct timer *timer, uint64_t due_ms) {
  if (due_ms == WHEEL_NEVER) {
    timer_stop(wheel, timer);
    return;
  }
  bool armed = timer_armed(timer);
  timer->due_ms = due_ms;
  if (armed && due_ms >= timer->queued_ms) return;
  if (!armed) wheel->armed++;
  list_remove(&timer->link);
  place(wheel, timer, wheel->tick + 1);
}

void timer_stop(struct wheel *wheel, struct timer *timer) {
  if (!timer_armed(timer)) return;
  list_remove(&timer->link);
  timer->due_ms = timer->queued_ms = WHEEL_NEVER;
  check(wheel->armed > 0);
  wheel->armed--;
}

static struct timer *timer_of(struct list *link) { return container_of(link, struct timer, link); }

/* move_all moves the timers of a slot to a list of its own, so that what callbacks set anew is not
 * met again. Timers there can still be stopped. */
static void move_all(struct list *from, struct list *to) {
  list_init(to);
  if (list_empty(from)) return;
  *to = *from;
  to->next->prev = to;
  to->prev->next = to;
  list_init(from);
}

/* cascade puts the timers of the slot of a level that the clock has just reached further down. */
static void cascade(struct wheel *wheel, unsigned level) {
  struct list moved;
  move_all(&wheel->slots[level][(wheel->tick >> (SLOT_BITS * level)) & SLOT_MASK], &moved);
  /* The current tick's own slot has not been run yet. */
  for (struct list *link = list_pop_head(&moved); link; link = list_pop_head(&moved))
    place(wheel, timer_of(link), wheel->tick);
}

static void fire_slot(struct wheel *wheel, uint64_t now_ms) {
  struct list due;
  move_all(&wheel->slots[0][wheel->tick & SLOT_MASK], &due);
  for (struct list *link = list_pop_head(&due); link; link = list_pop_head(&due)) {
    struct timer *timer = timer_of(link);
    if (timer->due_ms > now_ms) {
      place(wheel, timer, wheel->tick + 1);
      continue;
    }
    timer->due_ms = timer->queued_ms = WHEEL_NEVER;
    wheel->armed--;
    timer->fire(timer, now_ms);
  }
}

static bool level_empty(const struct wheel *wheel, unsigned level) {
  for (unsigned slot = 0; slot < WHEEL_SLOTS; slot++)
    if (!list_empty(&wheel->slots[level][slot])) return false;
  return true;
}

void wheel_run(struct wheel *wheel, uint64_t now_ms) {
  uint64_t target = now_ms / WHEEL_TICK_MS;
  while (wheel->tick < target) {
    if (wheel->armed == 0) {
      wheel->tick = target;
      return;
    }
    /* A long pause costs one step per 64 ticks, not one per tick. */
    uint64_t last = wheel->tick | SLOT_MASK;
    if (wheel->tick + 1 < last && last <= target && level_empty(wheel, 0)) wheel->tick = last;
    if (wheel->tick >= target) return;
    wheel->tick++;
    if ((wheel->tick & (((uint64_t)1 << (2 * SLOT_BITS)) - 1)) == 0) cascade(wheel, 2);
    if ((wheel->tick & SLOT_MASK) == 0) cascade(wheel, 1);
    fire_slot(wheel, now_ms);
  }
}

/* level_next is the first tick after now at which a slot of the level comes up with timers in it.
 */
static uint64_t level_next(const struct wheel *wheel, unsigned level) {
  uint64_t base = wheel->tick >> (SLOT_BITS * level);
  for (uint64_t ahead = 1; ahead <= WHEEL_SLOTS; ahead++)
    if (!list_empty(&wheel->slots[level][(base + ahead) & SLOT_MASK]))
      return (base + ahead) << (SLOT_BITS * level);
  return WHEEL_NEVER;
}

static uint64_t search(const struct wheel *wheel) {
  uint64_t next = WHEEL_NEVER;
  for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
    uint64_t tick = level_next(wheel, level);
    if (tick < next) next = tick;
    /* Nothing of a higher level comes up before the end of this level's turn. */
    if (next <= (wheel->tick | (((uint64_t)1 << (SLOT_BITS * (level + 1))) - 1))) break;
  }
  check(next != WHEEL_NEVER);
  return next;
}

uint64_t wheel_next_ms(struct wheel *wheel) {
  if (wheel->armed == 0) return WHEEL_NEVER;
  if (wheel->soonest <= wheel->tick) wheel->soonest = search(wheel);
  return wheel->soonest * WHEEL_TICK_MS;
}
