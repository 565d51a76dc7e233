/* names.c: a map from text to pointer for checks and compiling: open addressing, grown at half
 * full, never shrunk, gone with its arena. Not for the data path. */
#include "load_priv.h"
#include "weir/base/hash.h"

struct names_slot {
  struct span key;
  void *value; /* NULL: free */
};

static struct names_slot *slot_of(const struct names *names, struct span key) {
  uint32_t at = (uint32_t)hash_bytes(key) & (names->cap - 1);
  while (names->slots[at].value && !span_eq(names->slots[at].key, key))
    at = (at + 1) & (names->cap - 1);
  return &names->slots[at];
}

static void grow(struct names *names) {
  struct names old = *names;
  names->cap = old.cap ? old.cap * 2 : 64;
  names->slots = arena_get(names->arena, names->cap * sizeof *names->slots);
  for (uint32_t i = 0; i < old.cap; i++)
    if (old.slots[i].value) *slot_of(names, old.slots[i].key) = old.slots[i];
}

void *names_put(struct names *names, struct span key, void *value) {
  check(value != NULL);
  if (names->count * 2 >= names->cap) grow(names);
  struct names_slot *slot = slot_of(names, key);
  if (slot->value) return slot->value;
  *slot = (struct names_slot){key, value};
  names->count++;
  return NULL;
}

void *names_find(const struct names *names, struct span key) {
  return names->cap ? slot_of(names, key)->value : NULL;
}
