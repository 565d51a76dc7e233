/* test_match.c: single conditions at their edges; the tables of whole routes are in
 * match_cases.def (test_route_table.c). */
#include "match_kit.h"

struct ask {
  struct arena arena;
  struct kit_request request;
  struct match_rules rules;
  struct regex_scratch *scratch;
};

static enum match_answer ask(const char *rules, const char *line, const char *fields,
                             struct match_lost *lost) {
  struct ask a = {.scratch = regex_scratch_new()};
  arena_init(&a.arena, NULL, 0);
  kit_rules(&a.arena, &a.rules, rules);
  kit_query(&a.arena, &a.request, line, fields, "", a.scratch);
  struct match_lost why = {.value = NULL};
  enum match_answer got = match_rules_hold(&a.rules, &a.request.q.input, &why);
  if (lost) lost->part = why.part;
  if (lost) lost->value = why.value;
  if (lost && why.value) assert_true(why.value >= a.rules.values[why.part]);
  kit_rules_free(&a.rules);
  arena_reset(&a.arena);
  regex_scratch_free(a.scratch);
  return got;
}

static void nothing_asked(void **state) {
  (void)state;
  assert_int_equal(ask("", "GET a/", "", NULL), MATCH_YES);
  const struct match_rules none = {.source_count = 0};
  const struct match_input empty = {.fields = NULL};
  assert_int_equal(match_rules_hold(&none, &empty, NULL), MATCH_YES);
  assert_int_equal(match_source_rank(&none, NULL), 0);
}

/* Nothing known of the request: what is wanted is not there, what is not wanted is not either. */
static void nothing_known(void **state) {
  (void)state;
  struct arena arena;
  arena_init(&arena, NULL, 0);
  static const char *const wanted[] = {"h:a=1", "h:Cookie?", "h:Upgrade?", "q:a?", "c:a^1"};
  static const char *const unwanted[] = {"h:!a", "h:!Cookie", "h:!Upgrade", "q:!a", "c:!a"};
  const struct match_input empty = {.fields = NULL};
  for (size_t i = 0; i < array_count(wanted); i++) {
    struct match_rules yes = {.source_count = 0}, no = {.source_count = 0};
    kit_rules(&arena, &yes, unwanted[i]);
    kit_rules(&arena, &no, wanted[i]);
    assert_int_equal(match_rules_hold(&yes, &empty, NULL), MATCH_YES);
    assert_int_equal(match_rules_hold(&no, &empty, NULL), MATCH_NO);
  }
  arena_reset(&arena);
}

/* lost names the first condition that failed, by part. */
static void first_that_failed(void **state) {
  (void)state;
  struct match_lost lost;
  const char *rules = "h:a=1 q:b=2 c:c=3";
  assert_int_equal(ask(rules, "GET a/?b=2", "a: 2\nCookie: c=3", &lost), MATCH_NO);
  assert_true(lost.part == MATCH_HEADER && lost.value);
  assert_int_equal(ask(rules, "GET a/?b=3", "a: 1\nCookie: c=4", &lost), MATCH_NO);
  assert_true(lost.part == MATCH_QUERY && lost.value);
  assert_int_equal(ask(rules, "GET a/?b=2", "a: 1\nCookie: c=4", &lost), MATCH_NO);
  assert_true(lost.part == MATCH_COOKIE && lost.value);
  assert_int_equal(ask(rules, "GET a/?b=2", "a: 1\nCookie: c=3", &lost), MATCH_YES);
  assert_null(lost.value);
}

static void decoded_value_needs_room(void **state) {
  (void)state;
  for (size_t over = 0; over < 2; over++) {
    struct text line = {0};
    text_lit(&line, "GET a/?v=");
    for (size_t i = 0; i < REGEX_ROOM + over; i++) text_put(&line, SPAN_LIT("%61"));
    text_put(&line, span_of("", 1));
    enum match_answer got = ask("q:v~^a+$", line.ptr, "", NULL);
    assert_int_equal(got, over ? MATCH_LIMIT : MATCH_YES);
    text_fini(&line);
  }
}

static void broken_escapes(void **state) {
  (void)state;
  assert_int_equal(ask("q:v=%", "GET a/?v=%", "", NULL), MATCH_YES);
  assert_int_equal(ask("q:v=%2", "GET a/?v=%2", "", NULL), MATCH_YES);
  assert_int_equal(ask("q:v=%zz", "GET a/?v=%zz", "", NULL), MATCH_YES);
  assert_int_equal(ask("q:v=%zz", "GET a/?v=%25zz", "", NULL), MATCH_YES);
  assert_int_equal(ask("q:v=a", "GET a/?v=%6", "", NULL), MATCH_NO);
  assert_int_equal(ask("q:v^a", "GET a/?v", "", NULL), MATCH_NO);
  assert_int_equal(ask("q:v=", "GET a/?v", "", NULL), MATCH_YES);
  assert_int_equal(ask("q:v=a=b", "GET a/?v=a=b", "", NULL), MATCH_YES);
}

static void source_ranks(void **state) {
  (void)state;
  struct arena arena;
  struct match_rules rules = {.source_count = 0};
  struct addr a;
  arena_init(&arena, NULL, 0);
  kit_rules(&arena, &rules, "s:10.0.0.0/8 s:10.1.0.0/16 s:0.0.0.0/0 s:2001:db8::/32");
  assert_int_equal(match_source_rank(&rules, NULL), MATCH_SOURCE_NONE);
  assert_true(addr_from_ip(SPAN_LIT("10.1.1.1"), 1, &a));
  assert_int_equal(match_source_rank(&rules, &a), 17);
  assert_true(addr_from_ip(SPAN_LIT("10.2.1.1"), 1, &a));
  assert_int_equal(match_source_rank(&rules, &a), 9);
  assert_true(addr_from_ip(SPAN_LIT("11.2.1.1"), 1, &a));
  assert_int_equal(match_source_rank(&rules, &a), 1);
  assert_true(addr_from_ip(SPAN_LIT("2001:db8::1"), 1, &a));
  assert_int_equal(match_source_rank(&rules, &a), 33);
  assert_true(addr_from_ip(SPAN_LIT("2001:db9::1"), 1, &a));
  assert_int_equal(match_source_rank(&rules, &a), MATCH_SOURCE_NONE);
  assert_true(addr_parse(SPAN_LIT("unix:/x"), &a)); /* no network holds it, not even 0.0.0.0/0 */
  assert_int_equal(match_source_rank(&rules, &a), MATCH_SOURCE_NONE);
  arena_reset(&arena);
}

static const uint8_t one[MATCH_DIGEST_BYTES] = {1}, two[MATCH_DIGEST_BYTES] = {2};
static const uint8_t wanted[2][MATCH_DIGEST_BYTES] = {{3}, {1}};

/* san_holds: does a certificate with these names, separated by spaces, fit what is wanted? */
static bool san_holds(const char *want, const char *names) {
  struct span spans[8], text = span_str(names), want_span = span_str(want);
  struct match_cert cert = {.fingerprint = one, .key = two, .sans = spans};
  struct match_cert_rule rule = {.sans = &want_span, .san_count = 1};
  while (span_next_token(&text, ' ', &spans[cert.san_count])) cert.san_count++;
  return match_cert_holds(&rule, &cert);
}

static void certificate_names(void **state) {
  (void)state;
  assert_true(san_holds("dns:a.b", "uri:x dns:a.b"));
  assert_false(san_holds("dns:a.b", "uri:a.b dns:a.b.c dns:xa.b"));
  assert_false(san_holds("dns:a.b", ""));
  assert_true(san_holds("dns:*.b", "dns:a.b"));
  assert_true(san_holds("dns:*.b", "dns:x.a.b"));
  assert_false(san_holds("dns:*.b", "dns:b dns:.b dns:ab dns:*.c uri:a.b email:a@x.b"));
  assert_true(san_holds("uri:spiffe://p/*", "uri:spiffe://p/web"));
  assert_true(san_holds("uri:spiffe://p/*", "uri:spiffe://p/"));
  assert_false(san_holds("uri:spiffe://p/*", "uri:spiffe://p uri:spiffe://prod/web dns:p"));
  assert_false(san_holds("uri:spiffe://p/*", "uri:SPIFFE://p/web"));
}

static void certificate_rules(void **state) {
  (void)state;
  const struct match_cert cert = {.fingerprint = one, .key = two};
  const struct match_cert_rule any = {.absent = false}, none = {.absent = true},
                               print = {.fingerprints = wanted, .fingerprint_count = 2},
                               key = {.keys = wanted, .key_count = 2};
  struct match_cert_rule both = print;
  struct span name = SPAN_LIT("dns:a");
  both.sans = &name;
  both.san_count = 1;
  assert_true(match_cert_holds(NULL, NULL) && match_cert_holds(NULL, &cert));
  assert_true(match_cert_holds(&any, &cert) && !match_cert_holds(&any, NULL));
  assert_true(match_cert_holds(&none, NULL) && !match_cert_holds(&none, &cert));
  assert_true(match_cert_holds(&print, &cert) && !match_cert_holds(&print, NULL));
  assert_false(match_cert_holds(&key, &cert));
  assert_false(match_cert_holds(&both, &cert)); /* each list has to fit */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(nothing_asked),  cmocka_unit_test(nothing_known),
      cmocka_unit_test(first_that_failed), cmocka_unit_test(decoded_value_needs_room),
      cmocka_unit_test(broken_escapes), cmocka_unit_test(source_ranks),
      cmocka_unit_test(certificate_names), cmocka_unit_test(certificate_rules),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
