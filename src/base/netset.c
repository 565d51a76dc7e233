/* netset.c: networks are nested or apart, never across each other, so a list of them is a sequence
 * of ranges: sorted by start and size, each opens a range within the one that holds it, and where
 * it ends the outer one goes on. Compiled once by config/, searched by proxy/. */
#include "weir/base/netset.h"

#include <stdlib.h>

/* range is a network as numbers. */
struct range {
  uint64_t first[2], last[2];
  uint8_t bits;
  bool allowed;
};

static int number_cmp(const uint64_t a[2], const uint64_t b[2]) {
  if (a[0] != b[0]) return a[0] < b[0] ? -1 : 1;
  if (a[1] != b[1]) return a[1] < b[1] ? -1 : 1;
  return 0;
}

static void number_of(const uint8_t *bytes, size_t count, uint64_t out[2]) {
  out[0] = out[1] = 0;
  for (size_t i = 0; i < count; i++) out[i / 8] |= (uint64_t)bytes[i] << (56 - 8 * (i % 8));
}

/* host_mask has the bits of one of the two words that a network leaves open. */
static uint64_t host_mask(unsigned bits, unsigned word) {
  unsigned from = word * 64;
  if (bits <= from) return UINT64_MAX;
  return bits >= from + 64 ? 0 : UINT64_MAX >> (bits - from);
}

static struct range range_of(const struct addr_net *net, bool allowed) {
  struct range r = {.bits = net->bits, .allowed = allowed};
  number_of(net->bytes, net->family == AF_INET ? 4 : 16, r.first);
  for (unsigned i = 0; i < 2; i++) r.last[i] = r.first[i] | host_mask(net->bits, i);
  return r;
}

/* Outer before inner, and of one network in both lists deny last, where it counts. */
static int range_cmp(const void *a, const void *b) {
  const struct range *x = a, *y = b;
  int order = number_cmp(x->first, y->first);
  if (order) return order;
  if (x->bits != y->bits) return x->bits < y->bits ? -1 : 1;
  return (int)y->allowed - (int)x->allowed;
}

/* sweep walks the sorted ranges; `open` are those that hold the present one, outermost first. Each
 * is nested in the one before and has more bits, but for two of one network: 130 at most. */
struct sweep {
  struct netset_edge *edges;
  uint32_t count;
  const struct range *open[132];
  uint32_t depth;
  bool others;
};

static void edge(struct sweep *s, const uint64_t start[2], bool allowed) {
  if (s->count && number_cmp(s->edges[s->count - 1].start, start) == 0) s->count--;
  bool before = s->count ? s->edges[s->count - 1].allowed : s->others;
  if (before == allowed) return;
  s->edges[s->count++] = (struct netset_edge){{start[0], start[1]}, allowed};
}

/* close_one ends the innermost open range: the one around it goes on. */
static void close_one(struct sweep *s) {
  const struct range *ended = s->open[--s->depth];
  uint64_t after[2] = {ended->last[0], ended->last[1] + 1};
  if (after[1] == 0) after[0]++;
  if (after[0] == 0 && after[1] == 0) return; /* there is no address behind it */
  edge(s, after, s->depth ? s->open[s->depth - 1]->allowed : s->others);
}

static void sweep_all(struct sweep *s, const struct range *ranges, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    while (s->depth && number_cmp(s->open[s->depth - 1]->last, ranges[i].first) < 0) close_one(s);
    check(s->depth < array_count(s->open));
    if (s->depth && s->open[s->depth - 1]->bits == ranges[i].bits) s->depth--; /* the same again */
    s->open[s->depth++] = &ranges[i];
    edge(s, ranges[i].first, ranges[i].allowed);
  }
  while (s->depth) close_one(s);
}

/* lists is what netset_new was given. */
struct lists {
  const struct addr_net *nets[2]; /* deny, allow */
  uint32_t counts[2];
};

static uint32_t ranges_fill(const struct lists *l, int family, struct range *ranges) {
  uint32_t count = 0;
  for (uint32_t allowed = 0; allowed < 2; allowed++)
    for (uint32_t i = 0; i < l->counts[allowed]; i++)
      if (l->nets[allowed][i].family == family)
        ranges[count++] = range_of(&l->nets[allowed][i], allowed);
  return count;
}

static void *room(struct arena *arena, size_t count, size_t size) {
  void *bytes = arena_alloc(arena, (count + 1) * size);
  check(bytes != NULL); /* without a limit */
  return bytes;
}

static void compile(struct netset *set, struct arena *arena, const struct lists *l, int which) {
  struct arena scratch;
  arena_init(&scratch, ARENA_PAGES, 0);
  uint32_t most = l->counts[0] + l->counts[1];
  struct range *ranges = room(&scratch, most, sizeof *ranges);
  uint32_t count = ranges_fill(l, which ? AF_INET6 : AF_INET, ranges);
  struct sweep s = {.others = set->others};
  s.edges = room(arena, 2 * (size_t)count, sizeof *s.edges);
  qsort(ranges, count, sizeof *ranges, range_cmp);
  sweep_all(&s, ranges, count);
  set->edges[which] = s.edges;
  set->counts[which] = s.count;
  arena_reset(&scratch);
}

const struct netset *netset_new(struct arena *arena, const struct addr_net *allow,
                                uint32_t allow_count, const struct addr_net *deny,
                                uint32_t deny_count) {
  if (!allow_count && !deny_count) return NULL;
  const struct lists l = {{deny, allow}, {deny_count, allow_count}};
  struct netset *set = room(arena, 1, sizeof *set);
  *set = (struct netset){.others = allow_count == 0};
  for (int which = 0; which < 2; which++) compile(set, arena, &l, which);
  return set;
}

bool netset_allows(const struct netset *set, const struct addr *a) {
  struct addr_net net;
  uint64_t number[2];
  if (!addr_prefix(a, 32, 128, &net)) return set->others;
  unsigned which = net.family == AF_INET6;
  number_of(net.bytes, which ? 16 : 4, number);
  uint32_t low = 0, high = set->counts[which]; /* the edge that counts is before `high` */
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (number_cmp(set->edges[which][middle].start, number) <= 0) low = middle + 1;
    else high = middle;
  }
  return low ? set->edges[which][low - 1].allowed : set->others;
}

static bool edges_same(const struct netset *a, const struct netset *b, int which) {
  if (a->counts[which] != b->counts[which]) return false;
  for (uint32_t i = 0; i < a->counts[which]; i++) {
    const struct netset_edge *x = &a->edges[which][i], *y = &b->edges[which][i];
    if (number_cmp(x->start, y->start) != 0 || x->allowed != y->allowed) return false;
  }
  return true;
}

bool netset_same(const struct netset *a, const struct netset *b) {
  if (!a || !b) return a == b;
  return a->others == b->others && edges_same(a, b, 0) && edges_same(a, b, 1);
}
