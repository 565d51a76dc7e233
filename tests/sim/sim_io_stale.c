/* sim_io_stale.c: endpoint connections that are over the moment a response is: behind it stands a
 * second response that nobody asked for, or a FIN, in the socket before the connection is given
 * back. Whatever is read when, no other request may meet it: no foreign bytes, no lost request,
 * safe method or not (promise 5). What comes later than the next request cannot be told from its
 * answer and is not tried here. */
#include "io/sim_priv.h"
#include "proxy_world.h"

/* No delays: a receive tells in the turn that arms it what has come, as the kernel does. */
static const struct sim_faults soft = {.short_read = 300,
                                       .short_write = 200,
                                       .reorder = 400,
                                       .enobufs = 150,
                                       .cancel_race = 300};

#define FAKE "HTTP/1.1 200 OK\r\nX-Nonce: 4000000000\r\nContent-Length: 6\r\n\r\npoison"

struct server {
  struct world *w;
  struct text in;
  bool over;
};

static struct server servers[4096];
static uint32_t server_count;

/* arrive puts bytes into weir's socket as one, with no time on the way. */
static void arrive(struct sim_peer *peer, struct span bytes, bool fin) {
  struct sim_end *weirs = sim_other(peer->end);
  if (weirs->dead || weirs->closed) return;
  check(weirs->net.len == 0);
  sim_bytes_put(&weirs->rcv, bytes);
  if (!fin) return;
  sim_peer_shutdown(peer);
  weirs->fin = true;
}

static void answer(struct server *s, struct sim_peer *peer, const struct plan *p) {
  struct text out = {0};
  uint64_t extra = world_draw(s->w, 6);
  plan_response(s->w, p, 0, &out);
  plan_body(s->w, p, false, false, &out);
  if (extra == 0) text_lit(&out, FAKE);
  arrive(peer, text_span(&out), extra == 1);
  s->over = extra <= 1;
  text_fini(&out);
}

static void on_data(struct sim_peer *peer, struct span bytes, void *ctx) {
  struct server *s = ctx;
  if (s->over) { /* a request on its way here when the end was told: weir has to try elsewhere */
    world_fault(s->w, "a request met a connection that was over");
    return;
  }
  text_put(&s->in, bytes);
  struct h1_limits limits = {1u << 20, 200, 1u << 16};
  struct h1_scan scan = {0};
  struct http_request r;
  struct arena arena;
  enum end why = END_OK;
  arena_init(&arena, NULL, 0);
  enum http_result result =
      h1_parse_request(&scan, text_span(&s->in), &limits, &arena, &r, &why);
  check(result != HTTP_BAD);
  struct plan *p = result == HTTP_DONE ? plan_find(s->w, r.path) : NULL;
  arena_reset(&arena);
  if (!p) return;
  s->in.len = 0;
  if (p->up_heads++) world_fault(s->w, "plan %u came twice", p->id);
  answer(s, peer, p);
}

static void on_close(struct sim_peer *peer, bool reset, void *ctx) {
  (void)reset;
  (void)ctx;
  sim_peer_free(peer);
}

static void on_accept(struct sim_peer *peer, void *ctx) {
  check(server_count < array_count(servers));
  struct server *s = &servers[server_count++];
  *s = (struct server){.w = ctx};
  sim_peer_on_data(peer, on_data, on_close, s);
}

static void nobody_meets_what_is_over(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 300);) {
    struct world_conf conf;
    world_conf_init(&conf);
    conf.pools[0].origins = 1;
    struct world *w = world_new(seed, 1, seed % 4 ? &soft : NULL, &conf);
    server_count = 0;
    origin_down(&w->origins[0], true);
    sim_peer_listen(w->sim, &w->origins[0].at, on_accept, w);
    for (uint32_t i = 0; i < 8; i++) {
      struct client *c = client_new(w, 0);
      c->pipeline = i % 2;
      for (uint32_t n = 0; n < 12; n++) {
        struct plan *p = plan_new(w);
        if (world_chance(w, 40)) p->method = "POST"; /* of no body; not to be sent twice */
        p->up_len = (uint32_t)world_draw(w, world_chance(w, 20) ? 60000 : 600);
        p->up_frame = (uint8_t)(FRAME_LENGTH + world_draw(w, 2));
        client_add(c, p);
      }
      client_start(c);
    }
    world_run(w, world_clients_done, 400000);
    for (uint32_t i = 0; i < w->plan_count; i++)
      if (w->plans[i].outcome != OUT_OK)
        fail_msg("seed %llu: plan %u: %s: outcome %d end %s", (unsigned long long)seed, i,
                 w->plans[i].method, (int)w->plans[i].outcome,
                 end_get(w->plans[i].end)->word.ptr);
    sim_peer_unlisten(w->sim, &w->origins[0].at);
    world_end(w);
    for (uint32_t i = 0; i < server_count; i++) text_fini(&servers[i].in);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(nobody_meets_what_is_over),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
