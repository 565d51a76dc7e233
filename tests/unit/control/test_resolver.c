/* Tests of control/resolver.c: the machine's hosts file, and a DNS server of our own on
 * loopback. */
#include "control/resolver_priv.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "weir/base/mem.h"

/* ---- a DNS server: answers A for names in its table, else NXDOMAIN (RFC 1035 section 4) ---- */

struct dns {
  struct poll_watch watch;
  char servers[32];
  _Atomic bool silent; /* takes questions, says nothing */
  _Atomic bool knows_late; /* late.test has an address now */
  _Atomic uint32_t questions;
};

/* name_of writes the question's name with dots; the length of the question section. */
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

static uint32_t lookup(const struct dns *dns, const char *name) {
  if (strcmp(name, "two.test") == 0) {
    return 2;
  }
  return strcmp(name, "late.test") == 0 && dns->knows_late ? 1 : 0;
}

static void on_question(struct poll_watch *watch, short revents) {
  struct dns *dns = container_of(watch, struct dns, watch);
  unsigned char packet[512];
  char name[256];
  struct sockaddr_in from;
  socklen_t from_len = sizeof from;
  (void)revents;
  ssize_t got = recvfrom(watch->fd, packet, sizeof packet, 0, (struct sockaddr *)&from, &from_len);
  dns->questions++;
  if (got < 17 || dns->silent) {
    return;
  }
  size_t qlen = question(packet, (size_t)got, name);
  bool is_a = packet[12 + qlen - 3] == 1;
  uint32_t count = lookup(dns, name), answers = is_a ? count : 0;
  unsigned char reply[512] = {packet[0], packet[1], 0x81, (unsigned char)(count ? 0x80 : 0x83),
                              0, 1, 0, (unsigned char)answers};
  memcpy(reply + 12, packet + 12, qlen);
  size_t at = 12 + qlen;
  for (uint32_t i = 0; i < answers; i++) {
    /* Descending: the resolver sorts. */
    const unsigned char rr[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2,
                                (unsigned char)(9 - i)};
    memcpy(reply + at, rr, sizeof rr);
    at += sizeof rr;
  }
  (void)sendto(watch->fd, reply, at, 0, (struct sockaddr *)&from, from_len);
}

static void dns_start(struct dns *dns, struct poller *p) {
  struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t len = sizeof addr;
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
  struct dns dns;
  struct resolver *resolver;
  struct poll_watch wake;
  _Atomic int changed, quit;
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

static void *turn(void *arg) {
  struct world *w = (struct world *)arg;
  while (!w->quit) {
    poller_turn(&w->poller, UINT64_MAX);
  }
  return NULL;
}

static int setup(void **state) {
  struct world *w = (struct world *)mem_alloc(sizeof *w);
  poller_init(&w->poller);
  dns_start(&w->dns, &w->poller);
  w->wake = (struct poll_watch){
      .fd = eventfd(0, EFD_CLOEXEC), .events = POLLIN, .ready = on_wake};
  assert_true(poller_add(&w->poller, &w->wake));
  const struct resolver_config config = {.poller = &w->poller,
                                         .servers = w->dns.servers,
                                         .wake = ring,
                                         .changed = on_changed,
                                         .ctx = w};
  w->resolver = resolver_new(&config);
  *state = w;
  return pthread_create(&w->thread, NULL, turn, w);
}

static int teardown(void **state) {
  struct world *w = (struct world *)*state;
  w->quit = 1;
  ring(w);
  pthread_join(w->thread, NULL);
  resolver_free(w->resolver);
  close(w->dns.watch.fd);
  close(w->wake.fd);
  mem_free(w);
  return 0;
}

static uint32_t ask(struct world *w, const char *host, struct addr *out) {
  resolver_hold(w->resolver);
  resolver_want(w->resolver, span_str(host));
  resolver_wait(w->resolver, 10000);
  return resolver_get(w->resolver, span_str(host), 8080, out, RESOLVER_ADDRS_MAX);
}

static void expect_addr(const struct addr *a, const char *text) {
  char bytes[64];
  struct buf b = buf_of(bytes, sizeof bytes - 1);
  addr_write(a, &b);
  bytes[b.len] = 0;
  assert_string_equal(bytes, text);
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

static void test_hosts_file(void **state) {
  struct world *w = (struct world *)*state;
  struct addr addrs[RESOLVER_ADDRS_MAX];
  char ip[64], name[128], want[128];
  if (!hosts_entry(ip, name)) {
    skip();
  }
  uint32_t count = ask(w, name, addrs);
  assert_true(count > 0);
  bool seen = false;
  (void)snprintf(want, sizeof want, "%s:8080", ip);
  for (uint32_t i = 0; i < count; i++) {
    char bytes[64];
    struct buf b = buf_of(bytes, sizeof bytes - 1);
    addr_write(&addrs[i], &b);
    seen |= span_eq(buf_span(&b), span_str(want));
  }
  assert_true(seen);
  assert_int_equal(w->dns.questions, 0); /* nobody was asked */
}

static void test_dns_sorted_with_port(void **state) {
  struct world *w = (struct world *)*state;
  struct addr addrs[RESOLVER_ADDRS_MAX];
  assert_int_equal(ask(w, "two.test", addrs), 2);
  expect_addr(&addrs[0], "192.0.2.8:8080");
  expect_addr(&addrs[1], "192.0.2.9:8080");
  assert_int_equal(resolver_get(w->resolver, SPAN_LIT("TWO.test"), 1, addrs, 1), 1);
  expect_addr(&addrs[0], "192.0.2.8:1");
  assert_int_equal(w->changed, 0); /* somebody waited: nothing to publish again */
}

static void test_unknown_is_asked_again(void **state) {
  struct world *w = (struct world *)*state;
  struct addr addrs[RESOLVER_ADDRS_MAX];
  struct resolver_counts counts;
  assert_int_equal(ask(w, "late.test", addrs), 0);
  resolver_counts_get(w->resolver, &counts);
  assert_int_equal(counts.names, 1);
  assert_int_equal(counts.unresolved, 1);
  w->dns.knows_late = true;
  while (!w->changed) {
    usleep(1000); /* the retry comes after RESOLVER_BACKOFF_MIN_MS */
  }
  assert_int_equal(resolver_get(w->resolver, SPAN_LIT("late.test"), 80, addrs, 4), 1);
  resolver_counts_get(w->resolver, &counts);
  assert_int_equal(counts.unresolved, 0);
  assert_int_equal(counts.failures, 1);
}

static void test_silence_holds_up_nobody(void **state) {
  struct world *w = (struct world *)*state;
  struct addr addrs[4];
  w->dns.silent = true;
  resolver_hold(w->resolver);
  resolver_want(w->resolver, SPAN_LIT("two.test"));
  resolver_wait(w->resolver, 100);
  assert_int_equal(resolver_get(w->resolver, SPAN_LIT("two.test"), 80, addrs, 4), 0);
  w->dns.silent = false; /* c-ares asks again by itself; now nobody waits */
  while (!w->changed) {
    usleep(1000);
  }
  assert_int_equal(resolver_get(w->resolver, SPAN_LIT("two.test"), 80, addrs, 4), 2);
}

static void test_sweep_forgets(void **state) {
  struct world *w = (struct world *)*state;
  struct addr addrs[4];
  assert_int_equal(ask(w, "two.test", addrs), 2);
  w->dns.silent = true;
  resolver_want(w->resolver, SPAN_LIT("asking.test")); /* swept while it is being asked */
  resolver_mark(w->resolver);
  resolver_want(w->resolver, SPAN_LIT("kept.test"));
  resolver_sweep(w->resolver);
  assert_int_equal(resolver_get(w->resolver, SPAN_LIT("two.test"), 80, addrs, 4), 0);
  struct resolver_counts counts;
  resolver_counts_get(w->resolver, &counts);
  assert_true(counts.names == 1 || counts.names == 2); /* the asked one goes with its answer */
}

#define WITH_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      WITH_WORLD(test_hosts_file),
      WITH_WORLD(test_dns_sorted_with_port),
      WITH_WORLD(test_unknown_is_asked_again),
      WITH_WORLD(test_silence_holds_up_nobody),
      WITH_WORLD(test_sweep_forgets),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
