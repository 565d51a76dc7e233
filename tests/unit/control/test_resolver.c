/* Tests of control/resolver.c and what stands behind it: the machine's hosts file, and a DNS
 * server of our own on loopback, on the same poller as the resolver. */
#include "control/resolver_priv.h"

#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cmocka.h>

#include "weir/base/mem.h"

/* ---- a DNS server (RFC 1035 section 4): what its zone does not have is NXDOMAIN ---- */

enum { TYPE_A = 1, TYPE_AAAA = 28, TYPE_SRV = 33 };

struct zone_name {
  const char *name;
  _Atomic int a, aaaa;             /* addresses: 192.0.2.(9 - i), 2001:db8::(9 - i) */
  _Atomic int srv;                 /* records: 0 1 8000+i h<i>.test */
  _Atomic int fails_a, fails_aaaa; /* response code in place of an answer; -1: silence */
};

enum { TWO, LATE, BOTH, ASKING, KEPT, HOST0, HOST1, SERVICE, NAMES };

struct dns_server {
  struct poll_watch watch;
  char servers[32];
  _Atomic bool silent; /* takes questions, says nothing */
  struct zone_name zone[NAMES];
  _Atomic uint32_t questions, of[NAMES];
};

/* question writes the name with dots; the length of the question section. */
static size_t question(const unsigned char *packet, size_t len, char *name) {
  size_t at = 12, to = 0;
  while (at < len && packet[at]) {
    size_t label = packet[at];
    for (size_t i = 1; i <= label; i++) {
      name[to++] = (char)packet[at + i];
    }
    name[to++] = '.';
    at += label + 1;
  }
  name[to ? to - 1 : 0] = 0;
  return at + 5 - 12;
}

static size_t record(unsigned char *to, int type, int i) {
  unsigned char head[] = {0xc0, 12, 0, (unsigned char)type, 0, 1, 0, 0, 0, 60, 0, 0};
  unsigned char data[32] = {0};
  unsigned char last = (unsigned char)(9 - i); /* descending: the resolver sorts */
  size_t len = 0;
  if (type == TYPE_A) {
    memcpy(data, (unsigned char[]){192, 0, 2, last}, len = 4);
  } else if (type == TYPE_AAAA) {
    memcpy(data, (unsigned char[]){0x20, 1, 0xd, 0xb8}, 4);
    data[15] = last;
    len = 16;
  } else {
    unsigned char host = (unsigned char)('0' + i);
    memcpy(data, (unsigned char[]){0, 0, 0, 1, 0x1f, (unsigned char)(0x40 + i), 2, 'h', host, 4},
           10);
    memcpy(data + 10, "test", 5);
    len = 15;
  }
  head[11] = (unsigned char)len;
  memcpy(to, head, sizeof head);
  memcpy(to + sizeof head, data, len);
  return sizeof head + len;
}

static size_t reply(struct zone_name *z, int type, unsigned char *packet, size_t len) {
  int count = !z ? 0 : type == TYPE_A ? z->a : type == TYPE_AAAA ? z->aaaa : z->srv;
  int code = !z || (!z->a && !z->aaaa && !z->srv) ? 3
             : type == TYPE_AAAA                  ? z->fails_aaaa
                                                  : z->fails_a;
  packet[2] = 0x81;
  packet[3] = (unsigned char)(0x80 | code);
  for (int i = 0; i < count && !code; i++) {
    len += record(packet + len, type, i);
    packet[7]++;
  }
  return code < 0 ? 0 : len;
}

static void on_question(struct poll_watch *watch, short revents) {
  struct dns_server *dns = container_of(watch, struct dns_server, watch);
  unsigned char packet[1024] = {0};
  char name[256];
  struct sockaddr_in from;
  socklen_t from_len = sizeof from;
  (void)revents;
  ssize_t got = recvfrom(watch->fd, packet, 512, 0, (struct sockaddr *)&from, &from_len);
  dns->questions++;
  if (got < 17 || dns->silent) {
    return;
  }
  size_t qlen = question(packet, (size_t)got, name);
  struct zone_name *found = NULL;
  for (int i = 0; i < NAMES && !found; i++) {
    if (strcasecmp(dns->zone[i].name, name) == 0) {
      found = &dns->zone[i];
      dns->of[i]++;
    }
  }
  size_t len = reply(found, packet[12 + qlen - 3], packet, 12 + qlen);
  if (len) {
    (void)sendto(watch->fd, packet, len, 0, (struct sockaddr *)&from, from_len);
  }
}

static void dns_start(struct dns_server *dns, struct poller *p, uint16_t port) {
  static const char *const names[NAMES] = {"two.test",  "late.test", "both.test", "asking.test",
                                           "kept.test", "h0.test",   "h1.test",   "_s._tcp.test"};
  struct sockaddr_in addr = {.sin_family = AF_INET,
                             .sin_port = htons(port),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t len = sizeof addr;
  for (int i = 0; i < NAMES; i++) {
    dns->zone[i].name = names[i];
  }
  dns->zone[TWO].a = 2;
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(fd, (struct sockaddr *)&addr, len), 0);
  assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
  dns->watch = (struct poll_watch){.fd = fd, .events = POLLIN, .ready = on_question};
  (void)snprintf(dns->servers, sizeof dns->servers, "127.0.0.1:%u", ntohs(addr.sin_port));
  assert_true(poller_add(p, &dns->watch));
}

/* ---- a control thread ---- */

struct world {
  struct poller poller;
  struct dns_server dns;
  struct resolver *resolver;
  struct arena arena;
  struct poll_watch wake;
  _Atomic int changed, quit;
  _Atomic int said;
  char last[1024];
  pthread_t thread;
};

static void ring(void *ctx) {
  uint64_t one = 1;
  assert_int_equal(write(((struct world *)ctx)->wake.fd, &one, sizeof one), sizeof one);
}

static void on_wake(struct poll_watch *watch, short revents) {
  struct world *w = container_of(watch, struct world, wake);
  uint64_t count;
  (void)revents;
  assert_int_equal(read(watch->fd, &count, sizeof count), sizeof count);
  resolver_pump(w->resolver);
}

static void on_changed(void *ctx) { ((struct world *)ctx)->changed++; }

static void on_say(void *ctx, enum end_level level, const char *sentence) {
  struct world *w = (struct world *)ctx;
  (void)level;
  (void)snprintf(w->last, sizeof w->last, "%s", sentence);
  w->said++;
}

static void *turn(void *arg) {
  struct world *w = (struct world *)arg;
  while (!w->quit) {
    poller_turn(&w->poller, UINT64_MAX);
  }
  return NULL;
}

static int setup_port(void **state, uint16_t port) {
  struct world *w = (struct world *)mem_alloc(sizeof *w);
  poller_init(&w->poller);
  dns_start(&w->dns, &w->poller, port);
  arena_init(&w->arena, NULL, 0);
  w->wake = (struct poll_watch){.fd = eventfd(0, EFD_CLOEXEC), .events = POLLIN, .ready = on_wake};
  assert_true(poller_add(&w->poller, &w->wake));
  const struct resolver_config config = {.poller = &w->poller,
                                         .seed = 1,
                                         .wake = ring,
                                         .changed = on_changed,
                                         .say = on_say,
                                         .ctx = w};
  w->resolver = resolver_new(&config);
  *state = w;
  return pthread_create(&w->thread, NULL, turn, w);
}

static int setup(void **state) { return setup_port(state, 0); }

static int teardown(void **state) {
  struct world *w = (struct world *)*state;
  w->quit = 1;
  ring(w);
  pthread_join(w->thread, NULL);
  resolver_free(w->resolver);
  arena_reset(&w->arena);
  close(w->dns.watch.fd);
  close(w->wake.fd);
  mem_free(w);
  return 0;
}

static struct name_query query(struct world *w, const char *name) {
  return (struct name_query){.name = span_str(name),
                             .servers = span_str(w->dns.servers),
                             .timeout_ms = 200,
                             .attempts = 2,
                             .min_ttl_ms = 20,
                             .max_ttl_ms = 20,
                             .retry_ms = 20,
                             .max_retry_ms = 20};
}

static struct name_answers get(struct world *w, const struct name_query *q) {
  struct name_answers answers;
  resolver_get(w->resolver, q, &w->arena, &answers);
  return answers;
}

static struct name_answers ask(struct world *w, const struct name_query *q) {
  resolver_want(w->resolver, q);
  resolver_wait(w->resolver, 10000);
  return get(w, q);
}

static void expect_addr(const struct name_answers *answers, uint32_t i, const char *text) {
  char bytes[64];
  struct buf b = buf_of(bytes, sizeof bytes - 1);
  assert_true(i < answers->count);
  addr_write(&answers->rows[i].addr, &b);
  bytes[b.len] = 0;
  assert_string_equal(bytes, text);
}

/* until waits for a number of addresses. */
static struct name_answers until(struct world *w, const struct name_query *q, uint32_t count) {
  struct name_answers answers = get(w, q);
  while (answers.count != count) {
    usleep(1000);
    arena_reset(&w->arena);
    answers = get(w, q);
  }
  return answers;
}

static void wait_questions(struct world *w, int name, uint32_t more) {
  uint32_t wanted = w->dns.of[name] + more;
  while (w->dns.of[name] < wanted) {
    usleep(1000);
  }
}

/* The first name of the hosts file that stands for an IPv4 address, and that address. */
static bool hosts_entry(char *ip, char *name) {
  char line[512];
  FILE *f = fopen("/etc/hosts", "r");
  bool found = false;
  while (f && !found && fgets(line, sizeof line, f)) {
    found = sscanf(line, "%63[0-9.] %127s", ip, name) == 2;
  }
  if (f) {
    fclose(f);
  }
  return found;
}

/* ---- addresses ---- */

static void test_hosts_file(void **state) {
  struct world *w = (struct world *)*state;
  char ip[64], name[128], want[128];
  if (!hosts_entry(ip, name)) {
    skip();
  }
  struct name_query q = query(w, name);
  struct name_answers answers = ask(w, &q);
  assert_true(answers.count > 0);
  bool seen = false;
  (void)snprintf(want, sizeof want, "%s:0", ip);
  for (uint32_t i = 0; i < answers.count; i++) {
    char bytes[64];
    struct buf b = buf_of(bytes, sizeof bytes - 1);
    addr_write(&answers.rows[i].addr, &b);
    seen |= span_eq(buf_span(&b), span_str(want));
  }
  assert_true(seen);
  assert_int_equal(w->dns.questions, 0); /* nobody was asked */
}

static void test_localhost_needs_no_server(void **state) {
  struct world *w = (struct world *)*state;
  struct name_query q = query(w, "app.localhost");
  struct name_answers answers = ask(w, &q);
  assert_int_equal(answers.count, 2);
  expect_addr(&answers, 0, "127.0.0.1:0");
  expect_addr(&answers, 1, "[::1]:0");
  q.family = NAME_V6;
  answers = ask(w, &q);
  assert_int_equal(answers.count, 1);
  assert_int_equal(w->dns.questions, 0);
}

static void test_sorted(void **state) {
  struct world *w = (struct world *)*state;
  struct name_query q = query(w, "two.test");
  struct name_answers answers = ask(w, &q);
  assert_int_equal(answers.count, 2);
  expect_addr(&answers, 0, "192.0.2.8:0");
  expect_addr(&answers, 1, "192.0.2.9:0");
  q.name = SPAN_LIT("TWO.test");
  assert_int_equal(get(w, &q).count, 2); /* the same name */
  wait_questions(w, TWO, 20);
  assert_int_equal(w->changed, 1); /* asked for again and again: the same answer */
  assert_int_equal(w->said, 0);
}

static void test_one_question(void **state) {
  struct world *w = (struct world *)*state;
  struct name_query q = query(w, "two.test");
  q.min_ttl_ms = q.max_ttl_ms = 3600000;
  resolver_want(w->resolver, &q);
  resolver_want(w->resolver, &q);
  assert_int_equal(ask(w, &q).count, 2);
  assert_int_equal(w->dns.of[TWO], 2); /* A and AAAA */
  q.family = NAME_V4;
  assert_int_equal(ask(w, &q).count, 2);
  assert_int_equal(w->dns.of[TWO], 3); /* A, of another query */
}

static void test_unknown_is_asked_again(void **state) {
  struct world *w = (struct world *)*state;
  struct resolver_counts counts;
  struct name_query q = query(w, "late.test");
  assert_int_equal(ask(w, &q).count, 0);
  resolver_counts_get(w->resolver, &counts);
  assert_int_equal(counts.names, 1);
  assert_int_equal(counts.unresolved, 1);
  wait_questions(w, LATE, 12);
  assert_int_equal(w->said, 1); /* once, however often it failed */
  assert_non_null(strstr(w->last, "name late.test: the DNS says that it does not exist"));
  w->dns.zone[LATE].a = 1;
  (void)until(w, &q, 1);
  resolver_counts_get(w->resolver, &counts);
  assert_int_equal(counts.unresolved, 0);
  assert_true(counts.failures >= 6);
  assert_int_equal(counts.results[RESOLVE_NXDOMAIN], counts.failures);
  while (w->said < 2) {
    usleep(1000);
  }
  assert_non_null(strstr(w->last, "name late.test: resolved, after failing for "));
}

/* One family is not answered: it keeps what it had; the other changes. */
static void test_families_fail_apart(void **state) {
  struct world *w = (struct world *)*state;
  struct name_query q = query(w, "both.test");
  w->dns.zone[BOTH].a = 1;
  w->dns.zone[BOTH].aaaa = 2;
  struct name_answers answers = ask(w, &q);
  assert_int_equal(answers.count, 3);
  expect_addr(&answers, 1, "[2001:db8::8]:0");
  w->dns.zone[BOTH].fails_aaaa = 2; /* SERVFAIL */
  wait_questions(w, BOTH, 12);
  assert_int_equal(get(w, &q).count, 3);
  assert_int_equal(w->said, 1); /* once */
  assert_string_equal(w->last, "name both.test: IPv6 (AAAA): the DNS servers failed (SERVFAIL); "
                               "what is known of it stays in use (2 addresses)");
  struct resolver_view *view;
  assert_int_equal(resolver_views(w->resolver, &w->arena, 9, &view), 1);
  assert_int_equal(view->failing, RESOLVE_OK);
  assert_int_equal(view->half, RESOLVE_SERVFAIL);
  assert_true(view->half_v6);
  w->dns.zone[BOTH].a = 3;
  (void)until(w, &q, 5);
  w->dns.zone[BOTH].fails_aaaa = 0;
  w->dns.zone[BOTH].aaaa = 0; /* no such record: that is an answer */
  answers = until(w, &q, 3);
  expect_addr(&answers, 2, "192.0.2.9:0");
  wait_questions(w, BOTH, 12);
  assert_int_equal(w->said, 2);
  assert_non_null(strstr(w->last, "IPv6 (AAAA): answered again, after failing for "));
  w->dns.zone[BOTH].fails_a = w->dns.zone[BOTH].fails_aaaa = 5; /* REFUSED: all is kept */
  wait_questions(w, BOTH, 12);
  assert_int_equal(get(w, &q).count, 3);
  assert_non_null(strstr(w->last, "refuse the question (REFUSED); the last answer stays in use"));
}

/* ---- waiting ---- */

static void test_silence_holds_up_nobody(void **state) {
  struct world *w = (struct world *)*state;
  struct name_query q = query(w, "two.test"), other = query(w, "kept.test");
  struct resolver_counts counts;
  w->dns.silent = true;
  q.timeout_ms = other.timeout_ms = 50;
  q.retry_ms = q.max_retry_ms = 3600000;
  resolver_want(w->resolver, &q);
  resolver_wait(w->resolver, 20);
  assert_int_equal(get(w, &q).count, 0);
  do {
    resolver_counts_get(w->resolver, &counts);
  } while (!counts.results[RESOLVE_TIMEOUT]);
  other.retry_ms = other.max_retry_ms = 3600000;
  resolver_want(w->resolver, &other); /* of the same server: not worth waiting for */
  resolver_wait(w->resolver, 3600000);
  assert_int_equal(get(w, &other).count, 0);
}

/* A name whose questions are dropped says nothing about the server, which answered others. */
static void test_dropped_name_is_not_a_dead_server(void **state) {
  struct world *w = (struct world *)*state;
  struct resolver_counts counts;
  struct name_query two = query(w, "two.test"), asking = query(w, "asking.test"),
                    kept = query(w, "kept.test");
  two.min_ttl_ms = two.max_ttl_ms = 3600000;
  asking.retry_ms = asking.max_retry_ms = 3600000;
  w->dns.zone[KEPT].a = 1;
  w->dns.zone[ASKING].a = 1;
  w->dns.zone[ASKING].fails_a = w->dns.zone[ASKING].fails_aaaa = -1;
  assert_int_equal(ask(w, &two).count, 2);
  (void)ask(w, &asking);
  resolver_counts_get(w->resolver, &counts);
  assert_int_equal(counts.results[RESOLVE_TIMEOUT], 1);
  assert_int_equal(ask(w, &kept).count, 1); /* worth waiting for */
}

static void test_sweep_forgets(void **state) {
  struct world *w = (struct world *)*state;
  struct resolver_counts counts;
  struct name_query two = query(w, "two.test"), kept = query(w, "kept.test"),
                    asking = query(w, "asking.test");
  w->dns.zone[KEPT].a = 1;
  w->dns.zone[ASKING].a = 1;
  w->dns.zone[ASKING].fails_a = w->dns.zone[ASKING].fails_aaaa = -1;
  assert_int_equal(ask(w, &two).count, 2);
  resolver_want(w->resolver, &asking); /* swept while it is being asked for */
  wait_questions(w, ASKING, 1);
  resolver_mark(w->resolver);
  resolver_want(w->resolver, &kept);
  resolver_sweep(w->resolver);
  assert_int_equal(get(w, &two).count, 0);
  resolver_counts_get(w->resolver, &counts);
  assert_int_equal(counts.names, 1);
  assert_int_equal(until(w, &kept, 1).count, 1);
  uint32_t before = w->dns.of[TWO];
  wait_questions(w, KEPT, 12);
  assert_int_equal(w->dns.of[TWO], before); /* nobody asks for it any more */
  assert_int_equal(ask(w, &two).count, 2);  /* new again */
}

/* ---- a name asked for in another way ---- */

/* What was known under other times or servers stays in use until the first answer, here of a
 * server that says nothing any more. */
static void test_other_times_keep_the_answer(void **state) {
  struct world *w = (struct world *)*state;
  struct name_query q = query(w, "two.test"), family = q;
  assert_int_equal(ask(w, &q).count, 2);
  w->dns.silent = true;
  resolver_mark(w->resolver);
  q.max_retry_ms++;
  resolver_want(w->resolver, &q);
  resolver_wait(w->resolver, 20);
  assert_int_equal(get(w, &q).count, 2);
  resolver_sweep(w->resolver);
  q.name = SPAN_LIT("TWO.test");
  q.timeout_ms++;
  resolver_want(w->resolver, &q);
  resolver_wait(w->resolver, 20);
  struct name_answers answers = get(w, &q);
  assert_int_equal(answers.count, 2);
  expect_addr(&answers, 0, "192.0.2.8:0");
  family.family = NAME_V6; /* another question: nothing is known */
  resolver_want(w->resolver, &family);
  assert_int_equal(get(w, &family).count, 0);
  w->dns.zone[TWO].a = 1;
  w->dns.silent = false;
  (void)until(w, &q, 1);
}

static void test_srv_other_times_keep_the_answer(void **state) {
  struct world *w = (struct world *)*state;
  struct name_query q = query(w, "_s._tcp.test");
  q.srv = true;
  q.family = NAME_V4;
  w->dns.zone[SERVICE].srv = 1;
  w->dns.zone[HOST0].a = 2;
  assert_int_equal(ask(w, &q).count, 2);
  w->dns.silent = true;
  resolver_mark(w->resolver);
  q.retry_ms++;
  resolver_want(w->resolver, &q);
  resolver_wait(w->resolver, 20);
  resolver_sweep(w->resolver);
  struct name_answers answers = get(w, &q);
  assert_int_equal(answers.count, 2);
  expect_addr(&answers, 0, "192.0.2.8:8000");
  struct resolver_counts counts;
  do { /* the service and its host as they were before are forgotten */
    resolver_counts_get(w->resolver, &counts);
  } while (counts.names != 2);
  w->dns.zone[HOST0].a = 1;
  w->dns.silent = false;
  (void)until(w, &q, 1);
}

/* ---- SRV ---- */

static void test_srv(void **state) {
  struct world *w = (struct world *)*state;
  struct name_query q = query(w, "_s._tcp.test");
  q.srv = true;
  q.family = NAME_V4;
  w->dns.zone[SERVICE].srv = 1;
  w->dns.zone[HOST0].a = 2;
  struct name_answers answers = ask(w, &q);
  assert_int_equal(answers.count, 2);
  expect_addr(&answers, 0, "192.0.2.8:8000");
  assert_true(span_eq(answers.rows[0].target, SPAN_LIT("h0.test")));
  /* The second record's host does not answer yet: the first's addresses stay meanwhile. */
  w->dns.zone[HOST1].a = 1;
  w->dns.zone[HOST1].fails_a = -1;
  w->dns.zone[SERVICE].srv = 2;
  wait_questions(w, HOST1, 1);
  assert_int_equal(get(w, &q).count, 2);
  w->dns.zone[HOST1].fails_a = 0;
  answers = until(w, &q, 3);
  expect_addr(&answers, 2, "192.0.2.9:8001");
  w->dns.zone[SERVICE].srv = 1;
  (void)until(w, &q, 2);
  struct resolver_counts counts;
  do {
    resolver_counts_get(w->resolver, &counts);
  } while (counts.names != 2); /* the service and its one host */
}

/* Names and records that come and go while questions are under way: nothing is left behind, which
 * ASan and the checks at the end see. */
static void test_churn(void **state) {
  struct world *w = (struct world *)*state;
  struct name_query srv = query(w, "_s._tcp.test"), two = query(w, "two.test");
  srv.srv = true;
  w->dns.zone[HOST0].a = w->dns.zone[HOST1].a = 1;
  for (int i = 0; i < 200; i++) {
    w->dns.zone[SERVICE].srv = 1 + i % 2;
    w->dns.zone[HOST1].fails_a = i % 5 == 0 ? 2 : 0;
    resolver_mark(w->resolver);
    resolver_want(w->resolver, i % 3 ? &srv : &two);
    if (i % 7 == 0) {
      resolver_want(w->resolver, &two);
    }
    resolver_sweep(w->resolver);
    if (i % 4 == 0) {
      resolver_wait(w->resolver, 1000);
    }
    (void)get(w, &srv);
    arena_reset(&w->arena);
  }
}

/* ---- the machine's settings; last: the process does not come back from its namespaces ---- */

static struct machine {
  int file;   /* is /etc/resolv.conf in here; -1: no namespaces can be made */
  int silent; /* 127.0.0.2:53, which takes questions and says nothing */
} machine = {-1, -1};

static void nameserver(const char *ip) {
  char line[64];
  int len = snprintf(line, sizeof line, "nameserver %s\n", ip);
  assert_int_equal(ftruncate(machine.file, 0), 0);
  assert_int_equal(pwrite(machine.file, line, (size_t)len, 0), len);
}

static bool namespaces(const char *path) {
  struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
  struct sockaddr_in addr = {.sin_family = AF_INET,
                             .sin_port = htons(53),
                             .sin_addr = {htonl(INADDR_LOOPBACK + 1)}};
  if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET) < 0 ||
      mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
      mount(path, "/etc/resolv.conf", NULL, MS_BIND, NULL) < 0) {
    return false;
  }
  machine.silent = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  return ioctl(machine.silent, SIOCSIFFLAGS, &lo) == 0 &&
         bind(machine.silent, (struct sockaddr *)&addr, sizeof addr) == 0;
}

static int setup_machine(void **state) {
  char path[] = "/tmp/weir-resolv-XXXXXX";
  machine.file = mkstemp(path);
  assert_true(machine.file >= 0);
  bool ok = namespaces(path);
  (void)unlink(path);
  if (!ok) {
    close(machine.file);
    machine.file = -1;
    return setup(state);
  }
  return setup_port(state, 53);
}

static int teardown_machine(void **state) {
  close(machine.file);
  close(machine.silent);
  return teardown(state);
}

/* Another resolv.conf counts at once, also for what the servers of before leave unanswered. */
static void test_resolv_conf_changes(void **state) {
  struct world *w = (struct world *)*state;
  if (machine.file < 0) {
    skip();
  }
  struct name_query q = query(w, "two.test"), kept = query(w, "kept.test");
  q.servers = kept.servers = SPAN_EMPTY;
  q.timeout_ms = kept.timeout_ms = 600000; /* under way until the test ends */
  w->dns.zone[KEPT].a = 1;
  nameserver("127.0.0.2");
  resolver_want(w->resolver, &q);
  resolver_wait(w->resolver, 50);
  assert_int_equal(get(w, &q).count, 0);
  nameserver("127.0.0.1");
  resolver_want(w->resolver, &kept);
  (void)until(w, &kept, 1);
  (void)until(w, &q, 2);
  assert_int_equal(w->said, 0);
}

#define WITH_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      WITH_WORLD(test_hosts_file),
      WITH_WORLD(test_localhost_needs_no_server),
      WITH_WORLD(test_sorted),
      WITH_WORLD(test_one_question),
      WITH_WORLD(test_unknown_is_asked_again),
      WITH_WORLD(test_families_fail_apart),
      WITH_WORLD(test_silence_holds_up_nobody),
      WITH_WORLD(test_dropped_name_is_not_a_dead_server),
      WITH_WORLD(test_sweep_forgets),
      WITH_WORLD(test_other_times_keep_the_answer),
      WITH_WORLD(test_srv_other_times_keep_the_answer),
      WITH_WORLD(test_srv),
      WITH_WORLD(test_churn),
      cmocka_unit_test_setup_teardown(test_resolv_conf_changes, setup_machine, teardown_machine),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
