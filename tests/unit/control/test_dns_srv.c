/* test_dns_srv.c: SRV replies: what is taken of good ones, in which order and with which shares;
 * every way in which a message can be broken; that no cut of one is read past its end. */
#include "control/dns_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "weir/base/mem.h"

/* ---- messages ---- */

struct packet {
  unsigned char *bytes;
  size_t len;
};

static void put(struct packet *p, const void *bytes, size_t len) {
  memcpy(p->bytes + p->len, bytes, len);
  p->len += len;
}

static void put_u16(struct packet *p, unsigned v) {
  const unsigned char bytes[] = {(unsigned char)(v >> 8), (unsigned char)v};
  put(p, bytes, 2);
}

static void put_name(struct packet *p, const char *name) {
  while (*name) {
    size_t len = strcspn(name, ".");
    unsigned char n = (unsigned char)len;
    put(p, &n, 1);
    put(p, name, len);
    name += len + (name[len] == '.');
  }
  put(p, "", 1);
}

/* A reply to a question for _h._tcp.x.test, to which records are added. */
static struct packet begin(void) {
  struct packet p = {(unsigned char *)mem_alloc(1 << 17), 0};
  put(&p, "\x12\x34\x81\x80\0\1\0\0\0\0\0\0", 12);
  put_name(&p, "_h._tcp.X.test");
  put(&p, "\0\x21\0\1", 4);
  return p;
}

static void count_up(struct packet *p) {
  unsigned n = (unsigned)(p->bytes[6] << 8 | p->bytes[7]) + 1;
  p->bytes[6] = (unsigned char)(n >> 8);
  p->bytes[7] = (unsigned char)n;
}

static size_t begin_record(struct packet *p, const char *owner, unsigned type, uint32_t ttl) {
  count_up(p);
  if (owner) {
    put_name(p, owner);
  } else {
    put(p, "\xc0\x0c", 2);
  }
  put_u16(p, type);
  put_u16(p, 1);
  put_u16(p, ttl >> 16);
  put_u16(p, ttl & 0xffff);
  put_u16(p, 0);
  return p->len;
}

static void end_record(struct packet *p, size_t data) {
  p->bytes[data - 2] = (unsigned char)((p->len - data) >> 8);
  p->bytes[data - 1] = (unsigned char)(p->len - data);
}

struct row {
  unsigned priority, weight, port;
  const char *target;
};

static void put_srv(struct packet *p, const char *owner, uint32_t ttl, struct row row) {
  size_t data = begin_record(p, owner, 33, ttl);
  put_u16(p, row.priority);
  put_u16(p, row.weight);
  put_u16(p, row.port);
  put_name(p, row.target);
  end_record(p, data);
}

static void put_alias(struct packet *p, const char *owner, uint32_t ttl, const char *target) {
  size_t data = begin_record(p, owner, 5, ttl);
  put_name(p, target);
  end_record(p, data);
}

static struct span whole(const struct packet *p) {
  return span_of((const char *)p->bytes, p->len);
}

static struct srv_reply expect_ok(struct packet *p, uint32_t count) {
  struct srv_reply r;
  assert_int_equal(srv_parse(whole(p), &r), RESOLVE_OK);
  assert_int_equal(r.count, count);
  mem_free(p->bytes);
  return r;
}

static void expect(struct packet *p, enum resolve_result result) {
  struct srv_reply r;
  assert_int_equal(srv_parse(whole(p), &r), result);
  mem_free(p->bytes);
}

static void expect_row(const struct srv_record *r, unsigned rank, unsigned share, unsigned port,
                       const char *target) {
  assert_string_equal(r->target, target);
  assert_int_equal(r->rank, rank);
  assert_int_equal(r->share, share);
  assert_int_equal(r->port, port);
}

/* ---- what is taken ---- */

static void test_order(void **state) {
  (void)state;
  static const struct row rows[] = {{20, 7, 80, "c.test"},
                                    {10, 3, 8080, "B.test"},
                                    {10, 1, 80, "a.test"},
                                    {10, 3, 80, "b.test"}};
  for (size_t turn = 0; turn < array_count(rows); turn++) { /* however the server turns them */
    struct packet p = begin();
    for (size_t i = 0; i < array_count(rows); i++) {
      put_srv(&p, NULL, 60 + (uint32_t)i, rows[(turn + i) % array_count(rows)]);
    }
    struct srv_reply r = expect_ok(&p, 4);
    expect_row(&r.rows[0], 0, 1, 80, "a.test");
    expect_row(&r.rows[1], 0, 3, 80, "b.test");
    expect_row(&r.rows[2], 0, 3, 8080, "b.test");
    expect_row(&r.rows[3], 1, 7, 80, "c.test");
    assert_int_equal(r.ttl_s, 60);
    srv_reply_fini(&r);
  }
}

static void test_shares(void **state) {
  (void)state;
  static const struct {
    unsigned weights[3], shares[3];
  } cases[] = {
      {{0, 0, 0}, {1, 1, 1}},       {{1, 2, 1000}, {1, 2, 1000}},
      {{0, 5, 10}, {1, 500, 1000}}, /* 0 beside others: a very small chance */
      {{0, 0, 1}, {1, 1, 1000}},    {{65535, 1, 32768}, {1000, 1, 500}},
  };
  for (size_t i = 0; i < array_count(cases); i++) {
    struct packet p = begin();
    for (unsigned k = 0; k < 3; k++) {
      put_srv(&p, NULL, 1, (struct row){0, cases[i].weights[k], 80 + k, "a.test"});
    }
    struct srv_reply r = expect_ok(&p, 3);
    for (unsigned k = 0; k < 3; k++) {
      assert_int_equal(r.rows[k].share, cases[i].shares[k]);
    }
    srv_reply_fini(&r);
  }
}

/* Priorities of a pool are 0 to 7: those beyond share the last. */
static void test_ranks(void **state) {
  (void)state;
  struct packet p = begin();
  for (unsigned i = 0; i < 12; i++) {
    put_srv(&p, NULL, 1, (struct row){i * 100, 1, 80, "a.test"});
  }
  struct srv_reply r = expect_ok(&p, 12);
  for (unsigned i = 0; i < 12; i++) {
    assert_int_equal(r.rows[i].rank, i < 7 ? i : 7);
  }
  srv_reply_fini(&r);
}

static void test_doubles_and_odd_ones(void **state) {
  (void)state;
  struct packet p = begin();
  put_srv(&p, NULL, 9, (struct row){0, 1, 80, "a.test"});
  put_srv(&p, NULL, 9, (struct row){0, 5, 80, "A.TEST"});
  put_srv(&p, NULL, 9, (struct row){0, 1, 0, "b.test"});
  put_srv(&p, NULL, 9, (struct row){0, 1, 80, "b c.test"});
  put_srv(&p, "other.test", 1, (struct row){0, 1, 80, "x.test"}); /* not what was asked for */
  size_t data = begin_record(&p, NULL, 1, 1);                     /* A: not looked at */
  put(&p, "\x7f\0\0\1", 4);
  end_record(&p, data);
  struct srv_reply r = expect_ok(&p, 1);
  expect_row(&r.rows[0], 0, 5, 80, "a.test");
  assert_int_equal(r.skipped, 2);
  assert_int_equal(r.ttl_s, 9);
  srv_reply_fini(&r);
}

static void test_limit(void **state) {
  (void)state;
  for (unsigned turn = 0; turn < 2; turn++) {
    struct packet p = begin();
    for (unsigned i = 0; i < 1000; i++) {
      put_srv(&p, NULL, 1, (struct row){0, 1, turn ? 1000 - i : i + 1, "a.test"});
    }
    struct srv_reply r = expect_ok(&p, NAME_ANSWERS_MAX);
    assert_int_equal(r.left_out, 1000 - NAME_ANSWERS_MAX);
    for (unsigned i = 0; i < NAME_ANSWERS_MAX; i++) {
      assert_int_equal(r.rows[i].port, i + 1); /* the same ones, whatever the order */
    }
    srv_reply_fini(&r);
  }
}

static void test_ttl(void **state) {
  (void)state;
  struct packet p = begin();
  put_srv(&p, NULL, 30, (struct row){0, 1, 80, "a.test"});
  put_srv(&p, NULL, 0x80000000u, (struct row){0, 1, 81, "a.test"});
  struct srv_reply r = expect_ok(&p, 2);
  assert_int_equal(r.ttl_s, 0); /* RFC 2181 section 8 */
  srv_reply_fini(&r);
}

static void test_aliases(void **state) {
  (void)state;
  struct packet p = begin();
  put_srv(&p, "z.test", 50, (struct row){0, 1, 80, "a.test"}); /* before its alias */
  put_alias(&p, "y.test", 20, "z.test");
  put_alias(&p, NULL, 40, "Y.test");
  struct srv_reply r = expect_ok(&p, 1);
  expect_row(&r.rows[0], 0, 1, 80, "a.test");
  assert_int_equal(r.ttl_s, 20);
  srv_reply_fini(&r);
  p = begin();
  put_alias(&p, NULL, 40, "y.test");
  put_alias(&p, "y.test", 40, "_h._tcp.x.test"); /* round and round */
  expect(&p, RESOLVE_BAD);
  p = begin();
  put_alias(&p, NULL, 40, "y.test");
  expect(&p, RESOLVE_EMPTY);
}

static void test_empty(void **state) {
  (void)state;
  struct packet p = begin();
  expect(&p, RESOLVE_EMPTY);
  p = begin();
  put_srv(&p, NULL, 1, (struct row){0, 0, 0, ""}); /* ".": not to be had */
  expect(&p, RESOLVE_EMPTY);
}

/* ---- what is refused ---- */

static void test_broken(void **state) {
  (void)state;
  static const struct {
    size_t at;
    unsigned char byte;
    const char *what;
  } changes[] = {
      {2, 0x01, "a question, not a reply"},  {5, 2, "two questions"},
      {7, 3, "more records than there are"}, {12, 0x40, "a label of another kind"},
      {12, 63, "a label past the end"},      {33, 0x0c, "a pointer to itself would be"},
  };
  for (size_t i = 0; i < array_count(changes); i++) {
    struct packet p = begin();
    put_srv(&p, NULL, 1, (struct row){0, 1, 80, "a.test"});
    put_srv(&p, NULL, 1, (struct row){0, 1, 81, "a.test"});
    if (i < 5) {
      p.bytes[changes[i].at] = changes[i].byte;
    } else { /* the first record's owner: a pointer to where it stands */
      size_t owner = 12 + 16 + 4;
      p.bytes[owner] = 0xc0;
      p.bytes[owner + 1] = (unsigned char)owner;
    }
    struct srv_reply r;
    if (srv_parse(whole(&p), &r) != RESOLVE_BAD) {
      fail_msg("%s was taken", changes[i].what);
    }
    mem_free(p.bytes);
  }
}

static void test_data_lengths(void **state) {
  (void)state;
  for (int by = -3; by <= 3; by++) {
    struct packet p = begin();
    size_t data = begin_record(&p, NULL, 33, 1);
    put(&p, "\0\0\0\1\0\x50\1a\4test\0", 14);
    end_record(&p, data);
    p.bytes[data - 1] = (unsigned char)(p.bytes[data - 1] + by);
    put(&p, "\0\0\0", 3);
    struct srv_reply r;
    enum resolve_result result = srv_parse(whole(&p), &r);
    assert_int_equal(result, by == 0 ? RESOLVE_OK : RESOLVE_BAD);
    if (result == RESOLVE_OK) {
      srv_reply_fini(&r);
    }
    mem_free(p.bytes);
  }
}

/* Pointers lead backwards only, and not often: reading a name costs little. */
static void test_pointers(void **state) {
  (void)state;
  struct packet p = begin();
  size_t hops = 0;
  size_t data = begin_record(&p, NULL, 16, 1);
  put_name(&p, "a.test");
  for (size_t to = data; hops < 1000; hops++) {
    size_t here = p.len;
    put_u16(&p, 0xc000u | (unsigned)to);
    to = here;
  }
  end_record(&p, data);
  size_t last = p.len - 2;
  data = begin_record(&p, NULL, 33, 1);
  put(&p, "\0\0\0\1\0\x50", 6);
  put_u16(&p, 0xc000u | (unsigned)last);
  end_record(&p, data);
  expect(&p, RESOLVE_BAD);
}

static void test_long_names(void **state) {
  (void)state;
  for (size_t len = 250; len <= 256; len++) {
    char name[300];
    struct packet p = begin();
    for (size_t i = 0; i < len; i++) {
      name[i] = i % 50 == 49 ? '.' : 'x';
    }
    name[len - 1] = 'x';
    name[len] = 0;
    put_srv(&p, NULL, 1, (struct row){0, 1, 80, name});
    if (len > 253) {
      expect(&p, RESOLVE_BAD);
      continue;
    }
    struct srv_reply r = expect_ok(&p, 1);
    assert_string_equal(r.rows[0].target, name);
    srv_reply_fini(&r);
  }
}

/* Each cut of a good message, in memory of just that size: ASan sees a read past it. */
static void test_every_cut(void **state) {
  (void)state;
  struct packet p = begin();
  put_alias(&p, NULL, 40, "y.test");
  put_srv(&p, "y.test", 1, (struct row){0, 1, 80, "a.test"});
  put_srv(&p, "y.test", 1, (struct row){1, 1, 81, "b.test"});
  for (size_t len = 0; len <= p.len; len++) {
    char *cut = (char *)mem_alloc(len);
    struct srv_reply r;
    memcpy(cut, p.bytes, len);
    enum resolve_result result = srv_parse(span_of(cut, len), &r);
    assert_int_equal(result, len == p.len ? RESOLVE_OK : RESOLVE_BAD);
    if (result == RESOLVE_OK) {
      srv_reply_fini(&r);
    }
    mem_free(cut);
  }
  mem_free(p.bytes);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_order),     cmocka_unit_test(test_shares),
      cmocka_unit_test(test_ranks),     cmocka_unit_test(test_doubles_and_odd_ones),
      cmocka_unit_test(test_limit),     cmocka_unit_test(test_ttl),
      cmocka_unit_test(test_aliases),   cmocka_unit_test(test_empty),
      cmocka_unit_test(test_broken),    cmocka_unit_test(test_data_lengths),
      cmocka_unit_test(test_pointers),  cmocka_unit_test(test_long_names),
      cmocka_unit_test(test_every_cut),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
