/* tally.h: a table of fixed size with one 64-bit word for each key, shared by all threads without
 * a lock that anybody waits for: rates (gcra.h) and connections per client are kept in one. Keys
 * are hashes under a secret (hash_keyed), so that nobody can choose who shares a set with whom.
 *
 * A key has at most one slot, found among the TALLY_WAYS of its set; its word changes by
 * compare-and-swap. Only a slot whose word is dead (tally_rule) is given to another key. A
 * newcomer that finds none, or meets another newcomer that takes too long, uses the spare word of
 * the set, which all such newcomers share. It may get a slot later and begins anew in it: what is
 * counted of a key is exact while it has its place, and at most twice what the rule grants where
 * it had none before. */
#ifndef WEIR_BASE_TALLY_H
#define WEIR_BASE_TALLY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/base/check.h"

#define TALLY_WAYS 7u
/* TALLY_KEYS_PER_SET of the slots of a set are used when the table holds what it was made for:
 * then about 2 of 100 live keys find their set full. A set is 128 bytes. */
#define TALLY_KEYS_PER_SET 4u

struct tally_slot {
  _Atomic uint64_t word;
  _Atomic uint64_t key;
};

struct tally_set {
  _Alignas(64) struct tally_slot slots[TALLY_WAYS];
  _Atomic uint64_t spare;
  _Atomic uint32_t placing; /* 1: a newcomer is being given a slot */
};

struct tally {
  struct tally_set *sets; /* pages of their own, taken as they are used */
  uint32_t set_count;
};

/* tally_rule says what words mean. A word never takes a value again that it had before, bit 63 is
 * the table's, and 0 is dead. */
struct tally_rule {
  /* dead: nothing is lost when another key takes the slot. */
  bool (*dead)(uint64_t word, const void *how);
  /* next gives the word after one more event, or refuses it; never on a dead word. */
  bool (*next)(uint64_t word, const void *how, uint64_t *out);
};

/* tally_result is what came of an event. */
struct tally_result {
  bool granted;
  bool shared;          /* it was counted on the spare word of a full set */
  uint64_t word;        /* after it; of a refused one: that stands */
  _Atomic uint64_t *at; /* where; stays while the table does */
};

/* tally_init makes room for `keys` live ones (1 to 2^31), TALLY_KEYS_PER_SET to a set; false:
 * there is no memory for it, and *t is as it was. Not for the data path. */
MUST_USE bool tally_init(struct tally *t, uint32_t keys);
void tally_fini(struct tally *t);
size_t tally_bytes(const struct tally *t);

/* tally_apply counts one event of a key. Any thread. */
void tally_apply(struct tally *t, const struct tally_rule *rule, const void *how, uint64_t key,
                 struct tally_result *out);
/* tally_find gives the word of a key; false: it has none. */
MUST_USE bool tally_find(const struct tally *t, uint64_t key, uint64_t *word);

/* tally_join counts one more of a key unless there are `max` (1 or more) already: true and *at,
 * which tally_leave wants when it is over. *shared as in tally_result. All users of one table must
 * be of this pair. Exact for a key with a slot; who was counted on a spare word before may have up
 * to `max` there beside. */
MUST_USE bool tally_join(struct tally *t, uint64_t key, uint32_t max, _Atomic uint64_t **at,
                         bool *shared);
void tally_leave(_Atomic uint64_t *at);

#endif
