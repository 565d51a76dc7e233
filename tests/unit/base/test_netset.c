/* test_netset.c: allow and deny lists, by example and against a linear search for the longest
 * network with random lists and addresses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "weir/base/hash.h"
#include "weir/base/netset.h"

enum { MOST = 24 };

/* lists is an allow and a deny list; NULL ends one that is written out. */
struct lists {
  struct addr_net allow[MOST], deny[MOST];
  uint32_t allow_count, deny_count;
};

static void parse(const char *const *texts, struct addr_net *nets, uint32_t *count) {
  for (*count = 0; texts[*count]; (*count)++)
    assert_true(addr_net_parse(span_str(texts[*count]), &nets[*count]));
}

static struct addr address(const char *text) {
  struct addr a;
  if (!addr_from_ip(span_str(text), 80, &a)) assert_true(addr_parse(span_str(text), &a));
  return a;
}

static void expect(const char *const *allow, const char *const *deny, const char *yes,
                   const char *no) {
  struct arena arena;
  struct lists l;
  arena_init(&arena, NULL, 0);
  parse(allow, l.allow, &l.allow_count);
  parse(deny, l.deny, &l.deny_count);
  const struct netset *set =
      netset_new(&arena, l.allow, l.allow_count, l.deny, l.deny_count);
  assert_non_null(set);
  const char *texts[] = {yes, no};
  for (int i = 0; i < 2; i++) {
    struct span rest = span_str(texts[i]), word;
    while (span_next_token(&rest, ' ', &word)) {
      char text[64] = "";
      memcpy(text, word.ptr, word.len);
      struct addr a = address(text);
      if (netset_allows(set, &a) != (i == 0)) print_error("%s\n", text);
      assert_int_equal(netset_allows(set, &a), i == 0);
    }
  }
  arena_reset(&arena);
}

#define LIST(...) (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL}

static void examples(void **state) {
  (void)state;
  expect(LIST("10.0.0.0/8"), LIST(), "10.0.0.0 10.255.255.255 ::ffff:10.1.1.1",
         "9.255.255.255 11.0.0.0 ::1 unix:/x");
  expect(LIST(), LIST("10.0.0.0/8"), "9.255.255.255 11.0.0.0 ::1 unix:/x", "10.0.0.0 10.9.9.9");
  expect(LIST("10.0.0.0/8"), LIST("10.1.0.0/16"), "10.0.255.255 10.2.0.0",
         "10.1.0.0 10.1.255.255");
  expect(LIST("10.1.2.0/24"), LIST("10.1.0.0/16"), "10.1.2.3", "10.1.1.1 10.1.3.0 8.8.8.8");
  expect(LIST("0.0.0.0/0"), LIST("::/0"), "1.2.3.4 255.255.255.255", "::1 ffff::1");
  expect(LIST("::/0"), LIST("2001:db8::/32", "0.0.0.0/0"), "2001:db9:: ::1 ffff::",
         "2001:db8::1 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff 1.2.3.4");
  expect(LIST("255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), LIST(),
         "255.255.255.255 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "255.255.255.254 ffff::");
  expect(LIST("10.0.0.0/8", "10.0.0.0/8"), LIST("10.0.0.0/8"), "", "10.0.0.1 1.1.1.1");
  expect(LIST("fe80::/64", "fe80::/65"), LIST("fe80::8000:0:0:0"), "fe80::1 fe80::7fff:0:0:0",
         "fe80::8000:0:0:0 fe80:0:0:1::");
}

static void nothing(void **state) {
  (void)state;
  struct arena arena;
  arena_init(&arena, NULL, 0);
  assert_null(netset_new(&arena, NULL, 0, NULL, 0));
  arena_reset(&arena);
}

static const struct netset *made(struct arena *arena, const char *const *allow,
                                 const char *const *deny) {
  struct lists l;
  parse(allow, l.allow, &l.allow_count);
  parse(deny, l.deny, &l.deny_count);
  return netset_new(arena, l.allow, l.allow_count, l.deny, l.deny_count);
}

static void compares(void **state) {
  (void)state;
  struct arena arena;
  arena_init(&arena, NULL, 0);
  const struct netset *a = made(&arena, LIST("10.0.0.0/8"), LIST("10.1.0.0/16", "::1"));
  assert_true(netset_same(a, made(&arena, LIST("10.0.0.0/8"), LIST("::1", "10.1.0.0/16"))));
  assert_true(netset_same(a, made(&arena, LIST("10.0.0.0/8", "10.2.0.0/16"),
                                  LIST("10.1.0.0/16"))));
  assert_false(netset_same(a, made(&arena, LIST("10.0.0.0/8"), LIST("10.2.0.0/16"))));
  assert_false(netset_same(a, made(&arena, LIST("10.0.0.0/8", "::1"), LIST("10.1.0.0/16"))));
  assert_false(netset_same(a, NULL));
  assert_true(netset_same(NULL, NULL));
  arena_reset(&arena);
}

/* ---- the slow twin ---- */

static int longest(const struct addr_net *nets, uint32_t count, const struct addr *a) {
  int best = -1;
  for (uint32_t i = 0; i < count; i++)
    if (addr_net_has(&nets[i], a) && nets[i].bits > best) best = nets[i].bits;
  return best;
}

static bool twin(const struct lists *l, const struct addr *a) {
  int yes = longest(l->allow, l->allow_count, a), no = longest(l->deny, l->deny_count, a);
  if (yes < 0 && no < 0) return l->allow_count == 0;
  return yes > no;
}

/* near_addr: few bits vary, so that networks nest and addresses fall on their edges. */
static struct addr near_addr(uint64_t *rng) {
  struct addr a = {0};
  uint64_t r = rng_next(rng);
  uint8_t *bytes;
  if (r & 1) {
    a.len = sizeof a.in4;
    a.in4.sin_family = AF_INET;
    bytes = (uint8_t *)&a.in4.sin_addr;
  } else {
    a.len = sizeof a.in6;
    a.in6.sin6_family = AF_INET6;
    bytes = a.in6.sin6_addr.s6_addr;
    bytes[7] = (uint8_t)(r & 2 ? 0xff : r >> 40 & 1);
    bytes[8] = (uint8_t)(r & 4 ? 0x80 : 0);
    bytes[15] = (uint8_t)(r >> 32 & 3);
  }
  bytes[0] = (uint8_t)(r & 8 ? 0xff : r >> 16 & 3);
  bytes[1] = (uint8_t)(r & 16 ? 0xff : 0);
  bytes[3] = (uint8_t)(r >> 24 & 3);
  return a;
}

static uint32_t random_nets(struct addr_net *nets, uint64_t *rng) {
  uint32_t count = (uint32_t)(rng_next(rng) % MOST);
  for (uint32_t i = 0; i < count; i++) {
    struct addr a = near_addr(rng);
    uint64_t r = rng_next(rng);
    assert_true(addr_prefix(&a, (uint8_t)(r % 33), (uint8_t)((r >> 8) % 129), &nets[i]));
  }
  return count;
}

static void same_as_linear(void **state) {
  (void)state;
  uint64_t rng = 11;
  for (int round = 0; round < 3000; round++) {
    struct arena arena;
    struct lists l;
    arena_init(&arena, NULL, 0);
    l.allow_count = random_nets(l.allow, &rng);
    l.deny_count = random_nets(l.deny, &rng);
    const struct netset *set =
        netset_new(&arena, l.allow, l.allow_count, l.deny, l.deny_count);
    for (int i = 0; set && i < 60; i++) {
      struct addr a = near_addr(&rng);
      assert_int_equal(netset_allows(set, &a), twin(&l, &a));
    }
    arena_reset(&arena);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(examples),
      cmocka_unit_test(nothing),
      cmocka_unit_test(compares),
      cmocka_unit_test(same_as_linear),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
