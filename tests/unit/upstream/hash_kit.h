/* hash_kit.h: pools of named addresses in any order, and where keys go, for the tests of ring and
 * maglev. */
#ifndef TESTS_UNIT_UPSTREAM_HASH_KIT_H
#define TESTS_UNIT_UPSTREAM_HASH_KIT_H

#include "upstream_kit.h"

#define KEYS 20000u
#define HOSTS_MAX 64u

/* hosts is a pool by host numbers: 10.1.0.<number>:80, each with a weight. */
struct hosts {
  uint32_t count;
  uint32_t number[HOSTS_MAX], weight[HOSTS_MAX];
};

static inline struct hosts hosts_range(uint32_t count) {
  struct hosts h = {.count = count};
  for (uint32_t i = 0; i < count; i++) {
    h.number[i] = i + 1;
    h.weight[i] = 1;
  }
  return h;
}

static inline void hosts_init(struct kit *k, const struct hosts *h, uint8_t balance) {
  memset(k, 0, sizeof *k);
  k->registry = registry_new(KIT_WORKERS);
  for (uint32_t w = 0; w < KIT_WORKERS; w++) upstream_init(&k->up[w], &k->loop, w, 64);
  struct pool *pool = k->pool = pool_new(k->registry, SPAN_LIT("app"));
  pool->state = pool_state_get(k->registry, SPAN_LIT("app"));
  pool->members = arena_zalloc(&pool->obj.arena, (h->count + 1) * sizeof *pool->members);
  assert_non_null(pool->members);
  pool->member_count = h->count;
  for (uint32_t i = 0; i < h->count; i++) {
    char text[32];
    struct buf b = buf_of(text, sizeof text);
    struct addr a;
    buf_printf(&b, "10.1.0.%u:80", h->number[i]);
    assert_true(addr_parse(buf_span(&b), &a));
    pool->members[i].endpoint = endpoint_get(k->registry, SPAN_LIT("app"), buf_span(&b), &a);
    pool->members[i].weight = h->weight[i];
  }
  pool->spread.overflow_percent = 70; /* no bound of load */
  kit_balance(k, balance);
}

/* number_of is the host number of a member. */
static inline uint32_t number_of(const struct pool_member *m) {
  return ntohl(m->endpoint->addr.in4.sin_addr.s_addr) & 0xff;
}

/* homes writes the host number of each key. */
static inline void homes(const struct hosts *h, uint8_t balance, uint32_t *out) {
  struct kit k;
  hosts_init(&k, h, balance);
  for (uint64_t key = 0; key < KEYS; key++) out[key] = number_of(kit_pick_key(&k, key, 0));
  kit_fini(&k);
}

/* order_does_not_matter: the same hosts in reverse and rotated. */
static inline void check_order(uint8_t balance) {
  static uint32_t want[KEYS], got[KEYS];
  struct hosts h = hosts_range(17);
  for (uint32_t i = 0; i < h.count; i++) h.weight[i] = 1 + i % 3;
  homes(&h, balance, want);
  for (uint32_t turn = 1; turn < 4; turn++) {
    struct hosts other = {.count = h.count};
    for (uint32_t i = 0; i < h.count; i++) {
      uint32_t from = turn % 2 ? h.count - 1 - i : (i + 5 * turn) % h.count;
      other.number[i] = h.number[from];
      other.weight[i] = h.weight[from];
    }
    homes(&other, balance, got);
    assert_memory_equal(got, want, sizeof want);
  }
}

/* check_removal takes each of n hosts out and puts it back in: keys of others that moved are at
 * most `strays` of KEYS, keys of its own all move, and to all the others. */
static inline void check_removal(uint8_t balance, uint32_t n, uint32_t strays) {
  static uint32_t before[KEYS], after[KEYS];
  struct hosts all = hosts_range(n);
  homes(&all, balance, before);
  uint32_t worst = 0, most = 0;
  for (uint32_t gone = 0; gone < n; gone++) {
    struct hosts less = {.count = 0};
    for (uint32_t i = 0; i < n; i++) {
      if (i == gone) continue;
      less.number[less.count] = all.number[i];
      less.weight[less.count++] = 1;
    }
    homes(&less, balance, after);
    uint32_t strayed = 0, moved = 0;
    for (uint32_t key = 0; key < KEYS; key++) {
      assert_true(after[key] != gone + 1);
      moved += before[key] == gone + 1;
      strayed += before[key] != gone + 1 && before[key] != after[key];
    }
    if (strayed > worst) worst = strayed;
    if (moved > most) most = moved;
  }
  print_message("%u hosts: one that leaves had at most %.2f %% of the keys (1/n is %.2f %%), "
                "others that moved: at most %.2f %%\n",
                n, 100.0 * most / KEYS, 100.0 / n, 100.0 * worst / KEYS);
  assert_true(worst <= strays);
}

/* check_ejection: while a host is out only its keys move, and they come back. */
static inline void check_ejection(uint8_t balance) {
  struct hosts h = hosts_range(10);
  struct kit k;
  hosts_init(&k, &h, balance);
  uint32_t moved[10] = {0};
  kit_eject(&k, 3, 100);
  for (uint64_t key = 0; key < KEYS; key++) {
    uint32_t in = kit_place(&k, kit_pick_key(&k, key, 100));
    uint32_t out = kit_place(&k, kit_pick_key(&k, key, 99));
    assert_true(in == 3 ? out != 3 : out == in);
    if (in == 3) moved[out]++;
  }
  for (uint32_t i = 0; i < 10; i++) assert_true(i == 3 || moved[i] > 50); /* spread over all */
  kit_fini(&k);
}

#endif
