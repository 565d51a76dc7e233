/* sim_proxy_proxied.c: PROXY headers in front of clients' requests, under every kind of delay and
 * cut that loses nothing: each client gets its responses; bad and unfinished headers end their own
 * connection and no other. */
#include "proxy_world.h"
#include "weir/http/proxy_header.h"

static const struct sim_faults soft = {.short_read = 400,
                                       .short_write = 200,
                                       .delay = 150,
                                       .reorder = 300,
                                       .enobufs = 50,
                                       .cancel_race = 300};

/* bad_header is one that ends its connection with a cause. */
struct bad_header {
  struct span bytes;
  enum end end;
};

#define V2 "\r\n\r\n\0\r\nQUIT\n"
static const struct bad_header bad_headers[] = {
    {{"GET / HTTP/1.1\r\n", 16}, END_PROXY_MISSING},
    {{"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", 30}, END_PROXY_LINE},
    {{"PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n", 32}, END_PROXY_FAMILY},
    {{"PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n", 30}, END_PROXY_ADDRESS},
    {{V2 "\x31\x11\0\0", 16}, END_PROXY_VERSION},
    {{V2 "\x21\x11\0\1x", 17}, END_PROXY_LENGTH},
    {{V2 "\x21\x11\0\x0f" "123456789012" "\1\0\1", 31}, END_PROXY_TLV},
    {{V2 "\x21\x11\0\x13" "123456789012" "\3\0\4wxyz", 35}, END_PROXY_CHECKSUM},
    {{"PROXY TCP4 1.2.3.4", 18}, END_PROXY_TIMEOUT},
    {{V2, 12}, END_PROXY_TIMEOUT},
    {{V2, 11}, END_PROXY_TRUNCATED},
};

#define TOLD "203.0.113.9"

/* header_of draws a good one, which tells of TOLD or (*local) of nobody else; room lives as long
 * as the world. */
static struct span header_of(struct world *w, struct buf *room, bool *local) {
  static char filler[1500];
  struct proxy_header h = {.version = (uint8_t)(1 + world_draw(w, 2)),
                           .local = world_draw(w, 4) == 0,
                           .checksum = world_draw(w, 2) == 0,
                           .netns = span_of(filler, (size_t)world_draw(w, 256))};
  *local = h.local;
  h.src = world_addr(TOLD ":5");
  h.dst = world_addr("[2001:db8::1]:443");
  size_t before = room->len;
  check(proxy_header_write(room, &h));
  return span_from(buf_span(room), before);
}

/* good_client has a header, unless none is needed. */
static void good_client(struct world *w, const struct world_conf *conf, struct buf *room) {
  struct client *c = client_new(w, (uint32_t)world_draw(w, w->workers));
  c->pipeline = world_draw(w, 2) == 0;
  bool local = true;
  if (conf->proxied == PROXIED_ALL || world_draw(w, 2) == 0)
    c->header = header_of(w, room, &local);
  for (uint32_t n = 1 + (uint32_t)world_draw(w, 4); n > 0; n--) {
    struct plan *p = plan_random(w);
    if (c->pipeline) p->expect = false;
    if (p->minor == 0) p->minor = 1;
    p->forwarded_for = local ? "6.6.6.6, 192.0.2.1" : TOLD; /* who connects is trusted */
    client_add(c, p);
  }
  client_start(c);
}

static void bad_client(struct world *w, const struct bad_header *bad) {
  struct client *c = client_new(w, (uint32_t)world_draw(w, w->workers));
  c->header = bad->bytes;
  c->keep = bad->end == END_PROXY_TIMEOUT; /* else it ends when it has said that */
  client_start(c);
}

static void check_plans(const struct world *w) {
  for (uint32_t i = 0; i < w->plan_count; i++) {
    const struct plan *p = &w->plans[i];
    if (p->outcome != OUT_OK || !p->ended || p->end != END_OK)
      fail_msg("seed %llu: plan %u: outcome %d, status %u %s", (unsigned long long)w->seed, i,
               (int)p->outcome, p->got_status, p->details);
  }
}

static void mix(uint64_t seed, const struct sim_faults *faults) {
  static char bytes[16384];
  struct buf room = buf_of(bytes, sizeof bytes);
  struct world_conf conf;
  world_conf_init(&conf);
  conf.proxied = seed % 3 ? PROXIED_ALL : PROXIED_SOME;
  struct world *w = world_new(seed, 1 + (uint32_t)(seed % SIM_WORKERS), faults, &conf);
  const struct bad_header *bad = &bad_headers[world_draw(w, array_count(bad_headers))];
  bool refused = bad->end != END_PROXY_MISSING || conf.proxied == PROXIED_ALL;
  for (uint32_t i = 1 + (uint32_t)world_draw(w, 4); i > 0; i--) good_client(w, &conf, &room);
  if (refused) bad_client(w, bad);
  world_run(w, world_clients_done, 400000);
  world_for(w, conf.timeouts.header_ms + 1000);
  check_plans(w);
  if (refused && w->other_ends[bad->end] != 1)
    fail_msg("seed %llu: %u times %s", (unsigned long long)seed, w->other_ends[bad->end],
             end_get(bad->end)->word.ptr);
  world_end(w);
}

static void headers(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 300);) mix(seed, seed % 4 ? &soft : NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(headers),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
