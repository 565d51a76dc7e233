/* test_addr.c: addresses and networks, as written and as matched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "weir/base/addr.h"

static void check_split(const char *text, enum addr_kind kind, const char *host, unsigned port) {
  struct span got = SPAN_EMPTY;
  uint16_t got_port = 0;
  assert_int_equal(addr_split(span_str(text), &got, &got_port), kind);
  if (kind == ADDR_BAD) return;
  assert_true(span_eq(got, span_str(host)));
  assert_int_equal(got_port, port);
}

static void splits(void **state) {
  (void)state;
  check_split("127.0.0.1:80", ADDR_IP, "127.0.0.1", 80);
  check_split("[::1]:443", ADDR_IP, "::1", 443);
  check_split("example.com:65535", ADDR_NAME, "example.com", 65535);
  check_split("a_b.example.:1", ADDR_NAME, "a_b.example.", 1);
  check_split("unix:/run/x.sock", ADDR_UNIX, "/run/x.sock", 0);
  check_split("fd:http", ADDR_FD, "http", 0);
  const char *bad[] = {
      "",        "host",        ":80",         "host:",        "host:0",      "host:65536",
      "host:+1", "host:000080", "1.2.3:80",    "1.2.3.256:80", "::1:80",      "[::1]",
      "[::1]80", "[1.2.3.4]:1", "[::1%lo]:80", "a..b:80",      "-a.b:80",     "a b:80",
      "unix:",   "fd:",         "[::1:80",     "a.b-:80",      "1.2.3.4:80 ", "*:80"};
  for (size_t i = 0; i < array_count(bad); i++) check_split(bad[i], ADDR_BAD, "", 0);
  char label[80] = {0};
  memset(label, 'a', 64);
  memcpy(label + 64, ":80", 3);
  check_split(label, ADDR_BAD, "", 0);
  check_split(label + 1, ADDR_NAME,
              "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 80);
  char path[160] = "unix:/";
  memset(path + 6, 'p', 106);
  assert_int_equal(addr_split(span_str(path), &(struct span){0}, &(uint16_t){0}), ADDR_UNIX);
  path[112] = 'p';
  assert_int_equal(addr_split(span_str(path), &(struct span){0}, &(uint16_t){0}), ADDR_BAD);
}

static void check_write(const char *text, const char *want, const char *want_ip) {
  struct addr a;
  assert_true(addr_parse(span_str(text), &a));
  char room[128];
  struct buf b = buf_of(room, sizeof(room));
  addr_write(&a, &b);
  assert_true(span_eq(buf_span(&b), span_str(want)));
  b = buf_of(room, sizeof(room));
  addr_write_ip(&a, &b);
  assert_true(span_eq(buf_span(&b), span_str(want_ip)));
}

static void writes(void **state) {
  (void)state;
  check_write("10.1.2.3:80", "10.1.2.3:80", "10.1.2.3");
  check_write("[2001:DB8:0:0::1]:443", "[2001:db8::1]:443", "2001:db8::1");
  check_write("[::ffff:1.2.3.4]:9", "1.2.3.4:9", "1.2.3.4");
  check_write("unix:/run/a.sock", "unix:/run/a.sock", "unix:");
  struct addr a;
  assert_false(addr_parse(SPAN_LIT("localhost:80"), &a));
  assert_false(addr_from_ip(SPAN_LIT("[::1]"), 1, &a));
}

static void compares(void **state) {
  (void)state;
  struct addr a, b, c;
  assert_true(addr_parse(SPAN_LIT("[::1]:80"), &a));
  addr_from_sockaddr(&a.sa, a.len, &b);
  assert_true(addr_eq(&a, &b));
  assert_int_equal(addr_port(&b), 80);
  assert_true(addr_parse(SPAN_LIT("[::1]:81"), &b));
  assert_false(addr_eq(&a, &b));
  assert_true(addr_parse(SPAN_LIT("unix:/a"), &b));
  assert_true(addr_parse(SPAN_LIT("unix:/ab"), &c));
  assert_false(addr_eq(&b, &c));
  assert_false(addr_eq(&a, &b));
  assert_true(addr_eq(&(struct addr){0}, &(struct addr){0}));
  assert_false(addr_eq(&(struct addr){0}, &a));
}

static bool net_has(const char *net, const char *address) {
  struct addr_net n;
  struct addr a;
  assert_true(addr_net_parse(span_str(net), &n));
  assert_true(addr_parse(span_str(address), &a));
  return addr_net_has(&n, &a);
}

static void networks(void **state) {
  (void)state;
  assert_true(net_has("10.0.0.0/8", "10.255.1.2:1"));
  assert_false(net_has("10.0.0.0/8", "11.0.0.0:1"));
  assert_true(net_has("10.0.0.0/8", "[::ffff:10.0.0.1]:1"));
  assert_true(net_has("0.0.0.0/0", "1.2.3.4:1"));
  assert_false(net_has("0.0.0.0/0", "[::1]:1"));
  assert_false(net_has("0.0.0.0/0", "unix:/x"));
  assert_true(net_has("192.168.1.128/25", "192.168.1.255:1"));
  assert_false(net_has("192.168.1.128/25", "192.168.1.127:1"));
  assert_true(net_has("2001:db8::/33", "[2001:db8:7fff::]:1"));
  assert_false(net_has("2001:db8::/33", "[2001:db8:8000::]:1"));
  assert_true(net_has("1.2.3.4", "1.2.3.4:5"));
  assert_false(net_has("1.2.3.4", "1.2.3.5:5"));
  struct addr_net n;
  const char *bad[] = {"",       "10.0.0.0/33", "10.0.0.1/8",  "10.0.0.0/",    "10/8",
                       "::/129", "x/8",         "10.0.0.0/-1", "10.0.0.0/8/8", "::1/64"};
  for (size_t i = 0; i < array_count(bad); i++) assert_false(addr_net_parse(span_str(bad[i]), &n));
}

/* An address is judged as IPv4 where it is mapped; so a network that is written so must be one. */
static void mapped_networks(void **state) {
  (void)state;
  struct addr_net a, b;
  static const char *const alike[][2] = {{"::ffff:127.0.0.0/104", "127.0.0.0/8"},
                                         {"::ffff:10.1.2.3", "10.1.2.3"},
                                         {"::ffff:10.1.2.2/127", "10.1.2.2/31"},
                                         {"::ffff:0:0/96", "0.0.0.0/0"}};
  for (size_t i = 0; i < array_count(alike); i++) {
    assert_true(addr_net_parse(span_str(alike[i][0]), &a));
    assert_true(addr_net_parse(span_str(alike[i][1]), &b));
    assert_memory_equal(&a, &b, sizeof a);
  }
  assert_true(net_has("::ffff:127.0.0.0/104", "127.0.0.1:1"));
  assert_true(net_has("::ffff:127.0.0.0/104", "[::ffff:127.0.0.1]:1"));
  assert_false(addr_net_parse(SPAN_LIT("::ffff:127.0.0.1/104"), &a)); /* bits behind the mask */
  assert_true(addr_net_parse(SPAN_LIT("::/95"), &a) && a.family == AF_INET6);
  assert_true(addr_net_parse(SPAN_LIT("::1"), &a) && a.family == AF_INET6);
  assert_false(net_has("::/0", "[::ffff:127.0.0.1]:1"));
}

static void check_prefix(const char *address, uint8_t bits4, uint8_t bits6, const char *net) {
  struct addr a;
  struct addr_net want, got;
  assert_true(addr_parse(span_str(address), &a));
  assert_true(addr_net_parse(span_str(net), &want));
  assert_true(addr_prefix(&a, bits4, bits6, &got));
  assert_memory_equal(&got, &want, sizeof got);
}

static void prefixes(void **state) {
  (void)state;
  check_prefix("10.1.2.3:80", 32, 64, "10.1.2.3");
  check_prefix("10.1.2.3:80", 24, 64, "10.1.2.0/24");
  check_prefix("10.1.2.255:80", 31, 64, "10.1.2.254/31");
  check_prefix("10.1.2.3:80", 0, 64, "0.0.0.0/0");
  check_prefix("[::ffff:10.1.2.3]:80", 24, 64, "10.1.2.0/24");
  check_prefix("[2001:db8:1:2:3:4:5:6]:80", 32, 64, "2001:db8:1:2::/64");
  check_prefix("[2001:db8:ffff::1]:80", 32, 33, "2001:db8:8000::/33");
  check_prefix("[2001:db8::1]:80", 32, 128, "2001:db8::1");
  struct addr a;
  struct addr_net net;
  assert_true(addr_parse(SPAN_LIT("unix:/x"), &a));
  assert_false(addr_prefix(&a, 32, 64, &net));
  assert_false(addr_prefix(&(struct addr){0}, 32, 64, &net));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(splits),
      cmocka_unit_test(writes),
      cmocka_unit_test(compares),
      cmocka_unit_test(networks),
      cmocka_unit_test(mapped_networks),
      cmocka_unit_test(prefixes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
