/* hpack_table.c: the dynamic table (RFC 7541 2.3.2, 4). Entries are numbered; the number's place
 * in a ring is all there is to look up, and eviction moves one end. An encoder's table also has
 * two chains per bucket, of equal pairs and of equal names, from new to old: what was evicted ends
 * a chain, for all behind it is older, so that nothing is ever unlinked but by a pop. Knows
 * nothing of the wire. Called by hpack_decode.c and hpack_encode.c. */
#include "hpack_priv.h"

#include "weir/base/mem.h"

enum { CAPACITY_FIRST = 512, LOOKS_MAX = 16 };
#define LINKED_EXTRA (sizeof(struct hpack_link) + 2 * sizeof(uint16_t))

/* Memory is: entries, then of a linked table links and heads of pairs and of names, then bytes. */
static uint32_t slots(const struct hpack_table *t) { return t->capacity / HPACK_FIELD_OVERHEAD; }

static struct hpack_entry *entry_of(const struct hpack_table *t, uint32_t number) {
  return (struct hpack_entry *)(void *)t->memory + (number & (slots(t) - 1));
}

static struct hpack_link *links(const struct hpack_table *t) {
  return (struct hpack_link *)(void *)(t->memory + slots(t) * sizeof(struct hpack_entry));
}

static struct hpack_link *link_of(const struct hpack_table *t, uint32_t number) {
  return links(t) + (number & (slots(t) - 1));
}

static uint16_t *pair_head(const struct hpack_table *t, uint32_t hash) {
  return (uint16_t *)(void *)(links(t) + slots(t)) + (hash & (slots(t) - 1));
}

static uint16_t *name_head(const struct hpack_table *t, uint32_t hash) {
  return (uint16_t *)(void *)(links(t) + slots(t)) + slots(t) + (hash & (slots(t) - 1));
}

static char *ring(const struct hpack_table *t) {
  size_t per_slot = sizeof(struct hpack_entry) + (t->linked ? LINKED_EXTRA : 0);
  return t->memory + slots(t) * per_slot;
}

static uint32_t stored_name(const struct hpack_entry *e) { return e->known ? 0 : e->name_len; }

static uint32_t entry_size(const struct hpack_entry *e) {
  return (uint32_t)e->name_len + e->value_len + HPACK_FIELD_OVERHEAD;
}

static void ring_put(struct hpack_table *t, struct span s) {
  uint32_t at = t->at & (t->capacity - 1);
  size_t first = t->capacity - at < s.len ? t->capacity - at : s.len;
  if (s.len > 0) memcpy(ring(t) + at, s.ptr, first);
  if (first < s.len) memcpy(ring(t), s.ptr + first, s.len - first);
  t->at = (uint32_t)(at + s.len) & (t->capacity - 1);
}

static void ring_get(const struct hpack_table *t, uint32_t at, uint32_t len, char *out) {
  at &= t->capacity - 1;
  uint32_t first = t->capacity - at < len ? t->capacity - at : len;
  memcpy(out, ring(t) + at, first);
  if (first < len) memcpy(out + first, ring(t), len - first);
}

static bool ring_equals(const struct hpack_table *t, uint32_t at, struct span s) {
  at &= t->capacity - 1;
  size_t first = t->capacity - at < s.len ? t->capacity - at : s.len;
  if (s.len == 0) return true;
  if (memcmp(ring(t) + at, s.ptr, first) != 0) return false;
  return first == s.len || memcmp(ring(t), s.ptr + first, s.len - first) == 0;
}

void hpack_table_fini(struct hpack_table *t) {
  mem_free(t->memory);
  *t = (struct hpack_table){0};
}

void hpack_table_keep(struct hpack_table *t, uint32_t bytes) {
  while (t->used > bytes) { /* each turn takes an entry, and without entries nothing is used */
    check(t->count > 0);
    t->used -= entry_size(entry_of(t, t->next - t->count));
    t->count--;
  }
}

void hpack_table_resize(struct hpack_table *t, uint32_t limit) {
  check(limit <= HPACK_TABLE_MAX);
  t->limit = limit;
  hpack_table_keep(t, limit);
}

static void link_newest(struct hpack_table *t, uint32_t number) {
  struct hpack_link *link = link_of(t, number);
  uint16_t *pair = pair_head(t, link->pair), *name = name_head(t, link->name);
  link->older_pair = *pair;
  link->older_name = *name;
  *pair = *name = (uint16_t)number;
}

/* move_entries copies what `from` holds, oldest first, into t, which has room for it. */
static void move_entries(struct hpack_table *t, const struct hpack_table *from) {
  for (uint32_t number = from->next - from->count; number != from->next; number++) {
    struct hpack_entry *e = entry_of(t, number);
    *e = *entry_of(from, number);
    uint32_t len = stored_name(e) + e->value_len, at = e->at & (from->capacity - 1);
    uint32_t first = from->capacity - at < len ? from->capacity - at : len;
    e->at = (uint16_t)t->at;
    ring_put(t, span_of(ring(from) + at, first));
    ring_put(t, span_of(ring(from), len - first));
    if (!t->linked) continue;
    *link_of(t, number) = *link_of(from, number);
    link_newest(t, number);
  }
}

/* reserve sees to it that so many bytes by the count of 4.1 have a place. */
static bool reserve(struct hpack_table *t, uint32_t bytes) {
  if (bytes <= t->capacity) return true;
  struct hpack_table grown = *t;
  grown.at = 0;
  if (grown.capacity == 0) grown.capacity = CAPACITY_FIRST;
  while (grown.capacity < bytes) grown.capacity *= 2; /* at most HPACK_TABLE_MAX */
  size_t per_slot = sizeof(struct hpack_entry) + (t->linked ? LINKED_EXTRA : 0);
  size_t index = slots(&grown) * per_slot;
  grown.memory = mem_try(index + grown.capacity);
  if (grown.memory == NULL) return false;
  memset(grown.memory, 0, index);
  if (t->memory != NULL) move_entries(&grown, t);
  mem_free(t->memory);
  *t = grown;
  return true;
}

bool hpack_table_add(struct hpack_table *t, struct hpack_entry entry, struct span name,
                     struct span value, const struct hpack_link *link) {
  size_t size =
      name.len + value.len + HPACK_FIELD_OVERHEAD; /* of strings in memory: no overflow */
  if (size > t->limit) {
    hpack_table_keep(t, 0);
    return true;
  }
  uint32_t left = t->limit - (uint32_t)size;
  if (!reserve(t, (t->used < left ? t->used : left) + (uint32_t)size)) return false;
  hpack_table_keep(t, left);
  uint32_t number = t->next;
  entry.at = (uint16_t)t->at;
  entry.name_len = (uint16_t)name.len;
  entry.value_len = (uint16_t)value.len;
  *entry_of(t, number) = entry;
  if (!entry.known) ring_put(t, name);
  ring_put(t, value);
  t->used += (uint32_t)size;
  t->count++;
  t->next++;
  if (!t->linked) return true;
  *link_of(t, number) = *link;
  link_newest(t, number);
  return true;
}

void hpack_table_pop(struct hpack_table *t) {
  check(t->count > 0 && t->linked);
  uint32_t number = --t->next;
  const struct hpack_entry *e = entry_of(t, number);
  const struct hpack_link *link = link_of(t, number);
  *pair_head(t, link->pair) = link->older_pair;
  *name_head(t, link->name) = link->older_name;
  t->used -= entry_size(e);
  t->count--;
  t->at = e->at;
}

const struct hpack_entry *hpack_table_get(const struct hpack_table *t, uint32_t age) {
  return age < t->count ? entry_of(t, t->next - 1 - age) : NULL;
}

void hpack_table_name(const struct hpack_table *t, const struct hpack_entry *e, char *out) {
  check(!e->known);
  ring_get(t, e->at, e->name_len, out);
}

void hpack_table_value(const struct hpack_table *t, const struct hpack_entry *e, char *out) {
  ring_get(t, e->at + stored_name(e), e->value_len, out);
}

/* age_of: how many entries are newer than that of a number, of which the low half is known. */
static uint32_t age_of(const struct hpack_table *t, uint16_t number) {
  return (uint16_t)(t->next - 1 - number);
}

static bool same_name(const struct hpack_table *t, const struct hpack_entry *e,
                      struct hpack_entry like, struct span name) {
  if (e->known != like.known) return false;
  return e->known || (e->name_len == name.len && ring_equals(t, e->at, name));
}

uint32_t hpack_table_find_pair(const struct hpack_table *t, const struct hpack_link *link,
                               struct hpack_entry like, struct span name, struct span value) {
  if (t->count == 0) return UINT32_MAX;
  uint32_t age = age_of(t, *pair_head(t, link->pair));
  for (unsigned looks = 0; age < t->count && looks < LOOKS_MAX; looks++) {
    const struct hpack_link *found = link_of(t, t->next - 1 - age);
    const struct hpack_entry *e = entry_of(t, t->next - 1 - age);
    if (found->pair == link->pair && e->value_len == value.len && same_name(t, e, like, name) &&
        ring_equals(t, e->at + stored_name(e), value))
      return age;
    age = age_of(t, found->older_pair);
  }
  return UINT32_MAX;
}

uint32_t hpack_table_find_name(const struct hpack_table *t, const struct hpack_link *link,
                               struct hpack_entry like, struct span name) {
  if (t->count == 0) return UINT32_MAX;
  uint32_t age = age_of(t, *name_head(t, link->name));
  for (unsigned looks = 0; age < t->count && looks < LOOKS_MAX; looks++) {
    const struct hpack_link *found = link_of(t, t->next - 1 - age);
    if (found->name == link->name && same_name(t, entry_of(t, t->next - 1 - age), like, name))
      return age;
    age = age_of(t, found->older_name);
  }
  return UINT32_MAX;
}
