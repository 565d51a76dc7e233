/* test_rate.c: rates and keys as written, whom a request is counted with, and when a table is the
 * same over a reload. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "weir/http/h1.h"
#include "weir/model/model.h"

static void rates(void **state) {
  (void)state;
  static const struct {
    const char *text;
    uint32_t limit;
    uint64_t seconds; /* 0: refused */
  } rows[] = {{"100/s", 100, 1},   {"60/m", 60, 60}, {"1/h", 1, 3600}, {"1000000/s", 1000000, 1},
              {"1000001/s", 0, 0}, {"0/s", 0, 0},    {"01/s", 0, 0},   {"1/d", 0, 0},
              {"1/ms", 0, 0},      {"1", 0, 0},      {"1/", 0, 0},     {"/s", 0, 0},
              {"-1/s", 0, 0},      {"+1/s", 0, 0},   {"1.5/s", 0, 0},  {" 1/s", 0, 0},
              {"1/s ", 0, 0},      {"1 /s", 0, 0},   {"1/S", 0, 0},    {"", 0, 0},
              {"18446744073709551617/s", 0, 0}};
  for (size_t i = 0; i < array_count(rows); i++) {
    uint32_t limit = 7;
    uint64_t period = 7;
    bool good = rate_parse(span_str(rows[i].text), &limit, &period);
    if (good != (rows[i].seconds != 0)) print_error("%s\n", rows[i].text);
    assert_int_equal(good, rows[i].seconds != 0);
    assert_int_equal(limit, good ? rows[i].limit : 7);
    assert_int_equal(period, good ? rows[i].seconds * 1000000000u : 7);
  }
}

static void parts(void **state) {
  (void)state;
  struct rate_part p;
  assert_true(rate_part_parse(SPAN_LIT("client_ip"), &p) && p.source == RATE_CLIENT_IP);
  assert_true(rate_part_parse(SPAN_LIT("route"), &p) && p.source == RATE_ROUTE);
  assert_true(rate_part_parse(SPAN_LIT("none"), &p) && p.source == RATE_NONE);
  assert_true(rate_part_parse(SPAN_LIT("header:X-A"), &p) && p.source == RATE_HEADER);
  assert_true(span_eq(p.name, SPAN_LIT("X-A")));
  assert_true(rate_part_parse(SPAN_LIT("cookie:a"), &p) && p.source == RATE_COOKIE);
  static const char *const bad[] = {
      "",      "client_ips", "ip",   "header",   "header:", "header:a b", "cookie:", "cookie:a=b",
      "none:", "route ",     "path", "Header:a",
      /* spelled in many ways (a.example., A.example:80), or gone before a backend sees it */
      "header:Host", "header:host", "header:Content-Length", "header:Connection", "header:TE",
      "header:Upgrade", "header:Proxy-Authorization",
  };
  for (size_t i = 0; i < array_count(bad); i++)
    assert_false(rate_part_parse(span_str(bad[i]), &p));
}

/* ---- keys ---- */

struct subject {
  struct arena arena;
  struct http_request request;
  struct addr client;
};

static void subject_init(struct subject *s, const char *fields, const char *client) {
  struct h1_limits limits = {65536, 100, 8192};
  struct h1_scan scan = {0};
  enum end why = END_OK;
  *s = (struct subject){0};
  arena_init(&s->arena, NULL, 0);
  struct span head =
      arena_printf(&s->arena, "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", fields);
  assert_int_equal(h1_parse_request(&scan, head, &limits, &s->arena, &s->request, &why),
                   HTTP_DONE);
  if (client[0]) assert_true(addr_from_ip(span_str(client), 80, &s->client));
}

static uint64_t key(const char *parts_text, const char *fields, const char *client,
                    const char *route) {
  struct rate_part list[RATE_PARTS_MAX];
  struct policy_rate rate = {.parts = list, .prefix4 = 24, .prefix6 = 64};
  struct span rest = span_str(parts_text), word;
  while (span_next_token(&rest, ' ', &word))
    assert_true(rate_part_parse(word, &list[rate.part_count++]));
  struct subject s;
  subject_init(&s, fields, client);
  struct rate_subject who = {&s.request, &s.client, span_str(route)};
  uint64_t made = rate_key(&rate, &who);
  arena_reset(&s.arena);
  return made;
}

static void keys_of_clients(void **state) {
  (void)state;
  uint64_t one = key("client_ip", "", "192.0.2.1", "r");
  assert_int_equal(one, key("client_ip", "X: y\r\n", "192.0.2.255", "other"));
  assert_int_equal(one, key("client_ip", "", "::ffff:192.0.2.7", "r"));
  assert_int_not_equal(one, key("client_ip", "", "192.0.3.1", "r"));
  assert_int_not_equal(one, key("client_ip", "", "", "r"));
  assert_int_equal(key("client_ip", "", "2001:db8::1", "r"),
                   key("client_ip", "", "2001:db8::ffff:0:0:1", "r"));
  assert_int_not_equal(key("client_ip", "", "2001:db8::1", "r"),
                       key("client_ip", "", "2001:db8:0:1::1", "r"));
  assert_int_equal(key("none", "", "192.0.2.1", "r"), key("none", "X: y\r\n", "", "s"));
  assert_int_equal(key("route", "", "192.0.2.1", "r"), key("route", "X: y\r\n", "", "r"));
  assert_int_not_equal(key("route", "", "", "r"), key("route", "", "", "s"));
}

/* Those of a listener: the route is the listener, and no route that has its name. */
static void keys_of_connections(void **state) {
  (void)state;
  static const struct rate_part client = {.source = RATE_CLIENT_IP};
  static const struct rate_part route = {.source = RATE_ROUTE};
  struct policy_rate rate = {.parts = &client, .part_count = 1, .prefix4 = 24, .prefix6 = 64};
  struct rate_subject who = {.route = SPAN_LIT("r")};
  struct addr a;
  who.client = &a;
  assert_true(addr_from_ip(SPAN_LIT("192.0.2.9"), 80, &a));
  assert_int_equal(rate_key(&rate, &who), key("client_ip", "", "192.0.2.1", "x"));
  rate.parts = &route;
  uint64_t of_r = rate_key(&rate, &who);
  assert_int_not_equal(of_r, key("route", "", "", "r"));
  who.route = SPAN_LIT("s");
  assert_int_not_equal(of_r, rate_key(&rate, &who));
}

static void keys_of_fields(void **state) {
  (void)state;
  uint64_t a = key("header:X-A", "X-A: v\r\n", "", "r");
  assert_int_equal(a, key("header:X-A", "x-a:v \r\nX-A: w\r\n", "", "r"));
  assert_int_not_equal(a, key("header:X-A", "X-A: w\r\nX-A: v\r\n", "", "r"));
  assert_int_equal(key("cookie:c", "Cookie: b=1; c=2\r\n", "", "r"),
                   key("cookie:c", "Cookie: c=2\r\n", "", "r"));
  uint64_t none = key("header:X-A", "", "", "r");
  static const char *const lacking[] = {"X-A:\r\n", "X_A: v\r\n",
                                        "Connection: x-a\r\nX-A: v\r\n", "X-AB: v\r\n"};
  for (size_t i = 0; i < array_count(lacking); i++)
    assert_int_equal(none, key("header:X-A", lacking[i], "", "r"));
  /* A client's own X-Forwarded-For is not passed on: it is no key. */
  assert_int_equal(key("header:X-Forwarded-For", "X-Forwarded-For: 1.1.1.1\r\n", "", "r"),
                   key("header:X-Forwarded-For", "", "", "r"));
}

/* Parts are kept apart: what moves from one to the other is another key. */
static void keys_of_several_parts(void **state) {
  (void)state;
  uint64_t ab = key("header:A header:B", "A: x\r\nB: y\r\n", "", "r");
  assert_int_equal(ab, key("header:A header:B", "B: y\r\nA: x\r\n", "", "r"));
  assert_int_not_equal(ab, key("header:A header:B", "A: y\r\nB: x\r\n", "", "r"));
  assert_int_not_equal(ab, key("header:A header:B", "A: xy\r\n", "", "r"));
  assert_int_not_equal(ab, key("header:B header:A", "A: x\r\nB: y\r\n", "", "r"));
  assert_int_not_equal(key("client_ip route", "", "192.0.2.1", "r"),
                       key("client_ip route", "", "192.0.2.1", "s"));
}

static void clients(void **state) {
  (void)state;
  struct addr a;
  uint64_t x = 0, y = 0;
  assert_true(addr_from_ip(SPAN_LIT("192.0.2.1"), 80, &a));
  assert_true(client_key(&a, 32, 64, &x));
  assert_true(addr_from_ip(SPAN_LIT("192.0.2.1"), 81, &a));
  assert_true(client_key(&a, 32, 64, &y));
  assert_int_equal(x, y);
  assert_true(client_key(&a, 31, 64, &y));
  assert_int_not_equal(x, y);
  assert_false(client_key(&(struct addr){0}, 32, 64, &y));
}

/* ---- tables ---- */

static uint64_t identity(uint32_t limit, uint32_t burst, uint8_t prefix4, const char *part,
                         uint32_t entries) {
  struct rate_part p;
  assert_true(rate_part_parse(span_str(part), &p));
  struct policy_rate rate = {.gcra = gcra_of(limit, 1000000000u, burst),
                             .parts = &p,
                             .part_count = 1,
                             .prefix4 = prefix4};
  return rate_identity(&rate, entries);
}

static void tables_live_by_what_they_count(void **state) {
  (void)state;
  uint64_t ids[] = {identity(10, 5, 32, "client_ip", 100), identity(11, 5, 32, "client_ip", 100),
                    identity(10, 6, 32, "client_ip", 100), identity(10, 5, 24, "client_ip", 100),
                    identity(10, 5, 32, "header:a", 100),  identity(10, 5, 32, "header:b", 100),
                    identity(10, 5, 32, "cookie:a", 100),  identity(10, 5, 32, "client_ip", 101)};
  for (size_t i = 0; i < array_count(ids); i++)
    for (size_t k = 0; k < i; k++) assert_int_not_equal(ids[i], ids[k]);
  assert_int_equal(ids[0], identity(10, 5, 32, "client_ip", 100));
  struct registry *r = registry_new(2);
  struct rate_state *a = rate_state_get(r, SPAN_LIT("p"), ids[0], 100);
  assert_null(a->tally.sets);
  assert_true(rate_state_count(a));
  struct tally_set *first = a->tally.sets;
  assert_true(rate_state_count(a) && a->tally.sets == first);
  assert_int_equal(a->tally.set_count, 25);
  assert_ptr_equal(a, rate_state_get(r, SPAN_LIT("p"), ids[0], 100));
  struct rate_state *b = rate_state_get(r, SPAN_LIT("p"), ids[1], 100);
  struct rate_state *c = rate_state_get(r, SPAN_LIT("q"), ids[0], 100);
  assert_ptr_not_equal(a, b);
  assert_ptr_not_equal(a, c);
  struct rate_state *all[] = {a, a, b, c};
  for (size_t i = 0; i < array_count(all); i++) object_unref(r, &all[i]->obj);
  assert_int_equal(object_reap(r), 0);
  registry_free(r);
}

static void tables_of_clients_stay(void **state) {
  (void)state;
  struct registry *r = registry_new(1);
  struct listener_state *l = listener_state_get(r, SPAN_LIT("web"));
  assert_null(l->clients);
  assert_true(listener_state_count(l, 100));
  struct tally *first = l->clients;
  assert_non_null(first);
  assert_true(first->set_count * TALLY_KEYS_PER_SET >= 2 * 16384);
  assert_true(listener_state_count(l, 1000000));
  assert_ptr_equal(l->clients, first);
  object_unref(r, &l->obj);
  assert_int_equal(object_reap(r), 0);
  registry_free(r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rates),
      cmocka_unit_test(parts),
      cmocka_unit_test(keys_of_clients),
      cmocka_unit_test(keys_of_connections),
      cmocka_unit_test(keys_of_fields),
      cmocka_unit_test(keys_of_several_parts),
      cmocka_unit_test(clients),
      cmocka_unit_test(tables_live_by_what_they_count),
      cmocka_unit_test(tables_of_clients_stay),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
