/* tally.c: tables of tally.h. Why compare-and-swap on the word alone is enough: a slot changes its
 * key only while its word is BUSY, and no word ever comes back; so whoever read the word first and
 * the key after it, and then swaps the word, swaps that of the key. Placing (one newcomer of a set
 * at a time) keeps a key from getting two slots. It sleeps nowhere and takes memory only in
 * tally_init. */
#include "weir/base/tally.h"

#include "weir/base/mem.h"

#define BUSY (UINT64_C(1) << 63)
/* PLACING_LOOKS: how often a newcomer looks whether another one of its set is done; a few us. */
#define PLACING_LOOKS 64u

_Static_assert(sizeof(struct tally_set) == 128, "two lines of cache");

/* event is one call of tally_apply. */
struct event {
  struct tally_set *set;
  const struct tally_rule *rule;
  const void *how;
  uint64_t key;
  struct tally_result *out;
};

bool tally_init(struct tally *t, uint32_t keys) {
  check(keys > 0 && keys <= UINT32_C(1) << 31);
  struct tally made = {.set_count = (keys + TALLY_KEYS_PER_SET - 1) / TALLY_KEYS_PER_SET};
  made.sets = mem_table(tally_bytes(&made));
  if (!made.sets) return false;
  *t = made;
  return true;
}

void tally_fini(struct tally *t) {
  if (t->sets) mem_table_free(t->sets, tally_bytes(t));
  *t = (struct tally){0};
}

size_t tally_bytes(const struct tally *t) { return (size_t)t->set_count * sizeof *t->sets; }

/* key_of: an untouched slot has key 0. */
static uint64_t key_of(uint64_t key) { return key ? key : 1; }

static struct tally_set *set_of(const struct tally *t, uint64_t key) {
  return &t->sets[((key >> 32) * t->set_count) >> 32];
}

static uint64_t word_get(const _Atomic uint64_t *at) {
  return atomic_load_explicit(at, memory_order_acquire);
}

static uint64_t key_get(const struct tally_slot *slot) {
  return atomic_load_explicit(&slot->key, memory_order_relaxed);
}

static bool word_swap(_Atomic uint64_t *at, uint64_t old, uint64_t new) {
  return atomic_compare_exchange_strong_explicit(at, &old, new, memory_order_acq_rel,
                                                 memory_order_relaxed);
}

/* slot_find reads the word before the key counts: see above. */
static struct tally_slot *slot_find(struct tally_set *set, uint64_t key, uint64_t *word) {
  for (uint32_t i = 0; i < TALLY_WAYS; i++) {
    struct tally_slot *slot = &set->slots[i];
    if (key_get(slot) != key) continue;
    *word = word_get(&slot->word);
    if (!(*word & BUSY) && key_get(slot) == key) return slot;
  }
  return NULL;
}

/* step moves a word on; false: another thread was faster, and all must be looked at again. */
static bool step(const struct event *e, _Atomic uint64_t *at, uint64_t word) {
  uint64_t next = word;
  *e->out = (struct tally_result){.at = at, .word = word};
  if (!e->rule->next(word, e->how, &next)) return true;
  if (!word_swap(at, word, next)) return false;
  e->out->granted = true;
  e->out->word = next;
  return true;
}

/* place gives the key the first dead slot; false: there is none. The set is being placed in. */
static bool place(const struct event *e) {
  for (uint32_t i = 0; i < TALLY_WAYS; i++) {
    struct tally_slot *slot = &e->set->slots[i];
    uint64_t word = word_get(&slot->word), next = 0;
    if (!e->rule->dead(word, e->how) || !word_swap(&slot->word, word, word | BUSY)) continue;
    check(e->rule->next(word, e->how, &next));
    atomic_store_explicit(&slot->key, e->key, memory_order_relaxed);
    atomic_store_explicit(&slot->word, next, memory_order_release);
    *e->out = (struct tally_result){.granted = true, .word = next, .at = &slot->word};
    return true;
  }
  return false;
}

static bool placing_take(struct tally_set *set) {
  for (uint32_t i = 0; i < PLACING_LOOKS; i++) {
    if (!atomic_exchange_explicit(&set->placing, 1, memory_order_acquire)) return true;
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
  }
  return false;
}

enum newcomer { NEWCOMER_PLACED, NEWCOMER_KNOWN, NEWCOMER_SPARE };

/* newcomer finds a slot for a key that has none; KNOWN: it got one meanwhile. */
static enum newcomer newcomer(const struct event *e) {
  uint64_t word;
  if (!placing_take(e->set)) return NEWCOMER_SPARE;
  enum newcomer answer = NEWCOMER_KNOWN;
  if (!slot_find(e->set, e->key, &word)) answer = place(e) ? NEWCOMER_PLACED : NEWCOMER_SPARE;
  atomic_store_explicit(&e->set->placing, 0, memory_order_release);
  return answer;
}

static void step_spare(const struct event *e) {
  while (!step(e, &e->set->spare, word_get(&e->set->spare))) continue;
  e->out->shared = true;
}

void tally_apply(struct tally *t, const struct tally_rule *rule, const void *how, uint64_t key,
                 struct tally_result *out) {
  struct event e = {.rule = rule, .how = how, .key = key_of(key), .out = out};
  e.set = set_of(t, e.key);
  for (;;) { /* each turn that fails is one in which another thread went on */
    uint64_t word;
    struct tally_slot *slot = slot_find(e.set, e.key, &word);
    if (slot && step(&e, &slot->word, word)) return;
    if (slot) continue;
    switch (newcomer(&e)) {
      case NEWCOMER_PLACED: return;
      case NEWCOMER_KNOWN: continue;
      case NEWCOMER_SPARE: step_spare(&e); return;
    }
  }
}

bool tally_find(const struct tally *t, uint64_t key, uint64_t *word) {
  key = key_of(key);
  return slot_find(set_of(t, key), key, word) != NULL;
}

/* ---- counts: how many there are now, with a number of changes above it ---- */

#define CHANGE (UINT64_C(1) << 32)

static uint64_t changed(uint64_t word, uint32_t count) {
  return ((((word & ~(CHANGE - 1)) + CHANGE)) & ~BUSY) | count;
}

static bool count_dead(uint64_t word, const void *how) {
  (void)how;
  return (uint32_t)word == 0;
}

static bool count_next(uint64_t word, const void *how, uint64_t *out) {
  const uint32_t *max = how;
  uint32_t count = (uint32_t)word;
  if (count >= *max) return false;
  *out = changed(word, count + 1);
  return true;
}

bool tally_join(struct tally *t, uint64_t key, uint32_t max, _Atomic uint64_t **at, bool *shared) {
  static const struct tally_rule counts = {.dead = count_dead, .next = count_next};
  struct tally_result r;
  check(max > 0);
  tally_apply(t, &counts, &max, key, &r);
  *at = r.at;
  *shared = r.shared;
  return r.granted;
}

void tally_leave(_Atomic uint64_t *at) {
  uint64_t word;
  do {
    word = word_get(at);
    check((uint32_t)word > 0 && !(word & BUSY));
  } while (!word_swap(at, word, changed(word, (uint32_t)word - 1)));
}
