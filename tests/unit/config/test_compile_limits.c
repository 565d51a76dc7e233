/* test_compile_limits.c: rates, networks and connections per client from text to model/limits.h;
 * which changes of a policy keep its table; tables that find no memory. */
#include "config_kit.h"

#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

static struct snapshot *compile_with(const struct conf_hooks *hooks, struct registry *registry,
                                     const char *listener, const char *policy,
                                     struct conf_faults *faults) {
  static const char form[] =
      "process = { max_connections = 10000000; };\n"
      "listeners = { web = { bind = \"127.0.0.1:8080\"; %s }; };\n%s"
      "policies = { p = { %s }; };\n"
      "routes = ( { name = \"r\"; pool = \"app\"; policies = \"p\"; } );\n";
  char *text = mem_printf(form, listener, KIT_APP, policy);
  struct conf *conf = kit_good(text);
  struct snapshot *s = conf_compile(conf, hooks, registry, NULL, faults);
  conf_free(conf);
  mem_free(text);
  return s;
}

static struct snapshot *compile(struct registry *registry, const char *listener,
                                const char *policy, const struct snapshot *before) {
  static const char form[] =
      "listeners = { web = { bind = \"127.0.0.1:8080\"; %s }; };\n%s"
      "policies = { p = { %s }; q = { }; };\n"
      "routes = ( { name = \"r\"; pool = \"app\"; policies = [ \"q\", \"p\" ]; },\n"
      "  { name = \"s\"; prefix = \"/s\"; pool = \"app\"; policies = \"q\"; } );\n";
  char *text = mem_printf(form, listener, KIT_APP, policy);
  struct conf *conf = kit_good(text);
  struct conf_faults *faults = conf_faults_new();
  const struct conf_hooks hooks = {.resolve = NULL};
  struct snapshot *s = conf_compile(conf, &hooks, registry, before, faults);
  assert_non_null(s);
  conf_faults_free(faults);
  conf_free(conf);
  mem_free(text);
  return s;
}

static const struct policy *policy(const struct snapshot *s) {
  const struct policy *p = snapshot_find_policy(s, SPAN_LIT("p"));
  assert_non_null(p);
  return p;
}

static bool allows(const struct netset *set, const char *ip) {
  struct addr a;
  assert_true(addr_from_ip(span_str(ip), 80, &a));
  return netset_allows(set, &a);
}

static void test_rate(void **state) {
  (void)state;
  struct registry *r = registry_new(1);
  struct snapshot *s = compile(
      r, "", "rate = { key = [ \"client_ip\", \"header:X-A\" ]; limit = \"60/m\"; burst = 90; "
             "prefix4 = 24; entries = 1000; status = 503; };", NULL);
  const struct policy_rate *rate = &policy(s)->rate;
  assert_int_equal(rate->gcra.interval_ns, 1000000000);
  assert_int_equal(rate->gcra.burst_ns, UINT64_C(90000000000));
  assert_int_equal(rate->part_count, 2);
  assert_int_equal(rate->parts[0].source, RATE_CLIENT_IP);
  kit_assert_text(rate->parts[1].name, "X-A");
  assert_int_equal(rate->prefix4, 24);
  assert_int_equal(rate->prefix6, 64);
  assert_int_equal(rate->status, 503);
  assert_true(rate->headers && !rate->dry_run);
  kit_assert_text(rate->told, "\"p\";q=90;w=90");
  assert_int_equal(rate->state->tally.set_count, 250);
  assert_true(snapshot_find_route(s, SPAN_LIT("r"))->limited);
  assert_false(snapshot_find_route(s, SPAN_LIT("s"))->limited);
  assert_null(snapshot_find_policy(s, SPAN_LIT("q"))->rate.state);
  snapshot_free(s);
  assert_int_equal(object_reap(r), 0);
  registry_free(r);
}

static void test_defaults(void **state) {
  (void)state;
  struct registry *r = registry_new(1);
  struct snapshot *s = compile(r, "", "rate = { limit = \"100/s\"; };", NULL);
  const struct policy_rate *rate = &policy(s)->rate;
  assert_true(rate->burst == 100 && rate->status == 429 && rate->part_count == 1);
  assert_int_equal(rate->parts[0].source, RATE_CLIENT_IP);
  kit_assert_text(rate->told, "\"p\";q=100;w=1");
  assert_int_equal(tally_bytes(&rate->state->tally), 100000 * 32);
  const struct listener *web = s->listeners[0].listener;
  assert_true(!web->peers && !web->client_max && !web->state->clients);
  assert_null(policy(s)->clients);
  snapshot_free(s);
  s = compile(r, "", "rate = { limit = \"1/h\"; dry_run = true; };", NULL);
  assert_true(policy(s)->rate.dry_run && !policy(s)->rate.headers); /* it does not limit */
  snapshot_free(s);
  assert_int_equal(object_reap(r), 0);
  registry_free(r);
}

static void test_tables_over_reloads(void **state) {
  (void)state;
  static const struct {
    const char *text;
    bool same;
  } rows[] = {
      {"rate = { limit = \"10/s\"; burst = 10; };", true},
      {"rate = { limit = \"10/s\"; status = 503; dry_run = true; };", true},
      {"rate = { limit = \"10/s\"; }; timeouts = { request = \"3s\"; };", true},
      {"rate = { limit = \"11/s\"; burst = 10; };", false},
      {"rate = { limit = \"10/s\"; burst = 11; };", false},
      {"rate = { limit = \"10/s\"; key = \"route\"; };", false},
      {"rate = { limit = \"10/s\"; prefix6 = 48; };", false},
      {"rate = { limit = \"10/s\"; entries = 99999; };", false},
  };
  for (size_t i = 0; i < array_count(rows); i++) {
    struct registry *r = registry_new(1);
    struct snapshot *a = compile(r, "", "rate = { limit = \"10/s\"; };", NULL);
    struct snapshot *b = compile(r, "", rows[i].text, a);
    if ((policy(a)->rate.state == policy(b)->rate.state) != rows[i].same)
      print_error("%s\n", rows[i].text);
    assert_int_equal(policy(a)->rate.state == policy(b)->rate.state, rows[i].same);
    snapshot_free(a);
    assert_int_equal(object_reap(r), 0);
    assert_int_equal(registry_count(r, OBJECT_RATE_STATE), 1);
    snapshot_free(b);
    assert_int_equal(object_reap(r), 0);
    registry_free(r);
  }
}

static void test_networks(void **state) {
  (void)state;
  struct registry *r = registry_new(1);
  struct snapshot *s = compile(r, "allow = [ \"10.0.0.0/8\", \"::1\" ]; deny = \"10.1.0.0/16\";",
                               "deny = \"192.0.2.0/24\";", NULL);
  const struct netset *peers = s->listeners[0].listener->peers, *clients = policy(s)->clients;
  assert_true(allows(peers, "10.0.0.1") && allows(peers, "::1"));
  assert_false(allows(peers, "10.1.0.1") || allows(peers, "192.0.2.1"));
  assert_true(allows(clients, "10.1.0.1") && !allows(clients, "192.0.2.1"));
  const struct route *route = snapshot_find_route(s, SPAN_LIT("r"));
  struct addr a;
  assert_true(addr_from_ip(SPAN_LIT("192.0.2.1"), 80, &a));
  assert_true(route->limited && !policies_allow(route->policies, route->policy_count, &a));
  struct snapshot *t = compile(r, "allow = \"10.0.0.0/8\";", "allow = \"10.0.0.0/8\";", s);
  assert_ptr_not_equal(t->listeners[0].listener, s->listeners[0].listener);
  assert_ptr_not_equal(policy(t), policy(s));
  struct text told = {0};
  assert_int_equal(snapshot_diff(s, t, &told, false), 2);
  kit_assert_text(text_span(&told), "~ listener web: allow and deny\n~ policy p: settings\n");
  text_fini(&told);
  snapshot_free(s);
  snapshot_free(t);
  assert_int_equal(object_reap(r), 0);
  registry_free(r);
}

static struct snapshot *compile_raw(struct registry *registry, const char *named,
                                    const char *policies, const struct snapshot *before) {
  static const char form[] =
      "listeners = { raw = { bind = \"127.0.0.1:1\"; protocol = \"tcp\"; pool = \"app\"; %s }; };"
      "\n%spolicies = { %s };\n";
  char *text = mem_printf(form, named, KIT_APP, policies);
  struct conf *conf = kit_good(text);
  struct conf_faults *faults = conf_faults_new();
  const struct conf_hooks hooks = {.resolve = NULL};
  struct snapshot *s = conf_compile(conf, &hooks, registry, before, faults);
  assert_non_null(s);
  conf_faults_free(faults);
  conf_free(conf);
  mem_free(text);
  return s;
}

/* A listener is another one when its policies are; the table of a rate is not. */
static void test_policies_of_a_listener(void **state) {
  (void)state;
  static const struct {
    const char *named, *policies, *told;
  } rows[] = {
      {"policies = [ \"p\", \"q\" ];", "p = { rate = { limit = \"1/s\"; }; }; q = { };", ""},
      {"policies = [ \"p\", \"q\" ];",
       "p = { rate = { limit = \"1/s\"; dry_run = true; }; }; q = { };", "~ policy p: settings\n"},
      {"policies = [ \"q\", \"p\" ];", "p = { rate = { limit = \"1/s\"; }; }; q = { };",
       "~ listener raw: policies\n"},
      {"", "p = { rate = { limit = \"1/s\"; }; }; q = { };", "~ listener raw: policies\n"},
  };
  for (size_t i = 0; i < array_count(rows); i++) {
    struct registry *r = registry_new(1);
    struct snapshot *a = compile_raw(r, rows[0].named, rows[0].policies, NULL);
    struct snapshot *b = compile_raw(r, rows[i].named, rows[i].policies, a);
    const struct listener *was = a->listeners[0].listener, *now = b->listeners[0].listener;
    assert_int_equal(was->policy_count, 2);
    kit_assert_text(was->policies[0]->obj.name, "p");
    assert_int_equal(now->policy_count, rows[i].named[0] ? 2 : 0);
    assert_int_equal(was == now, i == 0);
    assert_ptr_equal(policy(a)->rate.state, policy(b)->rate.state);
    struct text told = {0};
    assert_int_equal(snapshot_diff(a, b, &told, false), rows[i].told[0] ? 1 : 0);
    kit_assert_text(text_span(&told), rows[i].told);
    text_fini(&told);
    snapshot_free(a);
    snapshot_free(b);
    assert_int_equal(object_reap(r), 0);
    assert_int_equal(registry_count(r, OBJECT_POLICY), 0);
    registry_free(r);
  }
}

static void test_connections_per_client(void **state) {
  (void)state;
  struct registry *r = registry_new(1);
  struct snapshot *a = compile(r, "connections_per_client = 5; client_prefix6 = 56;", "", NULL);
  const struct listener *web = a->listeners[0].listener;
  assert_true(web->client_max == 5 && web->client_prefix4 == 32 && web->client_prefix6 == 56);
  struct tally *clients = web->state->clients;
  assert_non_null(clients);
  struct snapshot *b = compile(r, "connections_per_client = 6;", "", a);
  assert_int_equal(b->listeners[0].listener->client_max, 6);
  assert_ptr_equal(b->listeners[0].listener->state->clients, clients);
  struct text told = {0};
  assert_int_equal(snapshot_diff(a, b, &told, false), 1);
  kit_assert_text(text_span(&told), "~ listener web: connections per client\n");
  text_fini(&told);
  snapshot_free(a);
  snapshot_free(b);
  assert_int_equal(object_reap(r), 0);
  registry_free(r);
}

/* address_space_limit lets the process have so much more than it has now; SIZE_MAX: all. */
static void address_space_limit(size_t more) {
  struct rlimit limit;
  unsigned long pages = 0;
  FILE *statm = fopen("/proc/self/statm", "re");
  assert_true(statm && fscanf(statm, "%lu", &pages) == 1 && fclose(statm) == 0);
  assert_int_equal(getrlimit(RLIMIT_AS, &limit), 0);
  size_t now = pages * (size_t)sysconf(_SC_PAGESIZE);
  limit.rlim_cur = more == SIZE_MAX ? limit.rlim_max : now + more;
  assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
}

/* Each says which line wants too much, and leaves nothing behind. */
static void test_no_memory(void **state) {
  (void)state;
  static const char *const cases[][2] = {
      {"", "rate = { limit = \"1/s\"; entries = 4000000; };"}, /* 128 MB */
      {"connections_per_client = 5;", ""},                     /* 640 MB */
  };
  for (size_t i = 0; i < array_count(cases); i++) {
    struct registry *r = registry_new(1);
    struct conf_faults *faults = conf_faults_new();
    const struct conf_hooks run = {.resolve = NULL}, trial = {.trial = true};
    address_space_limit(64u << 20);
    struct snapshot *s = compile_with(&run, r, cases[i][0], cases[i][1], faults);
    assert_null(s);
    assert_true(faults_has(faults, FAULT_NO_MEMORY));
    assert_int_equal(object_reap(r), 0);
    conf_faults_free(faults);
    faults = conf_faults_new();
    s = compile_with(&trial, r, cases[i][0], cases[i][1], faults); /* nobody will count */
    address_space_limit(SIZE_MAX);
    assert_non_null(s);
    snapshot_free(s);
    assert_int_equal(object_reap(r), 0);
    conf_faults_free(faults);
    registry_free(r);
  }
}

static void test_clients_by_what_may_connect(void **state) {
  (void)state;
  struct registry *r = registry_new(1);
  struct conf_faults *faults = conf_faults_new();
  const struct conf_hooks run = {.connections_max = 20000};
  struct snapshot *s = compile_with(&run, r, "connections_per_client = 5;", "", faults);
  assert_non_null(s);
  assert_int_equal(s->max_connections, 20000);
  assert_int_equal(tally_bytes(s->listeners[0].listener->state->clients), 2 * 20000 * 32);
  assert_int_equal(conf_faults_warnings(faults), 0);
  snapshot_free(s);
  assert_int_equal(object_reap(r), 0);
  conf_faults_free(faults);
  registry_free(r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_rate),
      cmocka_unit_test(test_defaults),
      cmocka_unit_test(test_tables_over_reloads),
      cmocka_unit_test(test_networks),
      cmocka_unit_test(test_policies_of_a_listener),
      cmocka_unit_test(test_connections_per_client),
      cmocka_unit_test(test_no_memory),
      cmocka_unit_test(test_clients_by_what_may_connect),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
