/* test_pool.c: connections of one worker on a simulated loop: idle lists, permits, limits, what an
 * idle connection hears, what an installation closes. */
#include <errno.h>

#include "upstream_kit.h"

#include "weir/io/sim.h"

/* bed is a simulated world with two endpoints that are listened at. */
struct bed {
  struct sim *sim;
  struct registry *registry;
  struct loop *loop;
  struct upstream up;
  struct pool *pool;
  struct snapshot *snapshot;
  struct sim_peer *peers[64];
  uint32_t peer_count, closed, freed;
  struct upconn *opened[64];
  uint32_t opened_count, errors;
  _Atomic uint64_t conns, idle, connects, reused;
};

static struct bed *bed; /* the callbacks' */

static void peer_data(struct sim_peer *p, struct span bytes, void *ctx) {
  (void)p;
  (void)bytes;
  (void)ctx;
}

static void peer_close(struct sim_peer *p, bool reset, void *ctx) {
  (void)reset;
  (void)ctx;
  for (uint32_t i = 0; i < bed->peer_count; i++)
    if (bed->peers[i] == p) bed->peers[i] = NULL;
  bed->closed++;
  sim_peer_free(p);
}

static void peer_accept(struct sim_peer *p, void *ctx) {
  (void)ctx;
  bed->peers[bed->peer_count++] = p;
  sim_peer_on_data(p, peer_data, peer_close, NULL);
}

static void on_open(struct conn *c, int err) {
  struct upconn *u = c->owner;
  if (err) {
    bed->errors++;
    upconn_close(u, false);
    return;
  }
  bed->opened[bed->opened_count++] = u;
}
static size_t on_data(struct conn *c, struct span bytes) {
  (void)c;
  return bytes.len;
}
static void on_eof(struct conn *c) { (void)c; }
static void on_error(struct conn *c, int err) {
  (void)c;
  (void)err;
}
static const struct conn_events events = {.on_open = on_open,
                                          .on_data = on_data,
                                          .on_eof = on_eof,
                                          .on_error = on_error,
                                          .on_drained = on_eof,
                                          .on_timer = on_eof};

static void permit_freed(struct upstream *u, struct pool_state *state) {
  (void)u;
  assert_ptr_equal(state, bed->pool->state);
  bed->freed++;
}

static struct snapshot *snapshot_of(struct registry *r, struct pool *pool) {
  struct snapshot *s = snapshot_new(r);
  s->pools = arena_zalloc(&s->arena, sizeof *s->pools);
  assert_non_null(s->pools);
  s->pools[s->pool_count++] = pool;
  object_ref(r, &pool->obj);
  return s;
}

static void bed_init(struct bed *b, uint32_t members) {
  static const struct kit_member two[] = {{1, false, 0}, {1, false, 0}};
  memset(b, 0, sizeof *b);
  bed = b;
  b->sim = sim_new(7, NULL);
  b->registry = registry_new(1);
  struct loop_config config = {.conns_max = 256, .buffer_bytes = 4096, .seed = 1};
  b->loop = sim_loop_new(b->sim, &config);
  b->pool = kit_pool(b->registry, "app", two, members);
  b->pool->connections = (struct pool_connections){.keepalive_ms = 1000, .keepalive_max = 4};
  upstream_init(&b->up, b->loop, 0, 32);
  b->up.permit_freed = permit_freed;
  b->up.counters = (struct upstream_counters){
      .conns = &b->conns, .idle = &b->idle, .connects = &b->connects, .reused = &b->reused};
  b->snapshot = snapshot_of(b->registry, b->pool);
  upstream_install(&b->up, 1, NULL, b->snapshot);
  for (uint32_t i = 0; i < members; i++)
    sim_peer_listen(b->sim, &b->pool->members[i].endpoint->addr, peer_accept, NULL);
}

static void settle(struct bed *b) { (void)sim_run(b->sim, 60); }

static void bed_fini(struct bed *b) {
  upstream_install(&b->up, UINT64_MAX, b->snapshot, NULL);
  settle(b);
  assert_int_equal(b->conns, 0);
  assert_int_equal(b->idle, 0);
  for (uint32_t i = 0; i < b->pool->member_count; i++) {
    const struct endpoint *e = b->pool->members[i].endpoint;
    assert_int_equal(atomic_load(&e->permits), 0);
    assert_int_equal(e->rows[0].conns, 0);
    assert_int_equal(atomic_load(&e->obj.pin_rows[0].pins), 0);
  }
  upstream_fini(&b->up);
  loop_free(b->loop);
  assert_int_equal(sim_fds_open(b->sim), 0);
  sim_free(b->sim);
  object_unref(b->registry, &b->pool->obj);
  snapshot_free(b->snapshot);
  registry_free(b->registry);
}

static struct endpoint *ep(struct bed *b, uint32_t i) { return b->pool->members[i].endpoint; }

static struct upconn *dial(struct bed *b, uint32_t i, int *err) {
  const struct attempt_to to = {.events = &events, .owner = b};
  return upconn_connect(&b->up, b->pool, ep(b, i), &to, err);
}

/* open_one connects and waits until it is open. */
static struct upconn *open_one(struct bed *b, uint32_t i) {
  int err = 0;
  uint32_t before = b->opened_count;
  struct upconn *c = dial(b, i, &err);
  assert_non_null(c);
  /* Not a step further: with nothing to do the clock leaps to the next timeout. */
  for (int n = 0; n < 100 && b->opened_count == before; n++) assert_true(sim_step(b->sim));
  assert_int_equal(b->opened_count, before + 1);
  assert_ptr_equal(b->opened[before], c);
  return c;
}

static void release(struct bed *b, struct upconn *c) {
  upconn_release(c, &b->pool->connections);
}

static void the_newest_idle_one_first(void **state) {
  (void)state;
  struct bed b;
  bed_init(&b, 2);
  struct upconn *c[3] = {open_one(&b, 0), open_one(&b, 0), open_one(&b, 1)};
  for (int i = 0; i < 3; i++) release(&b, c[i]);
  assert_int_equal(b.idle, 3);
  assert_ptr_equal(upconn_checkout(&b.up, b.pool, ep(&b, 0), &b), c[1]);
  assert_ptr_equal(upconn_checkout(&b.up, b.pool, ep(&b, 0), &b), c[0]);
  assert_null(upconn_checkout(&b.up, b.pool, ep(&b, 0), &b));
  assert_ptr_equal(upconn_checkout(&b.up, b.pool, ep(&b, 1), &b), c[2]);
  assert_int_equal(b.idle, 0);
  assert_int_equal(b.reused, 3);
  assert_int_equal(b.connects, 3);
  assert_int_equal(c[1]->requests, 2);
  for (int i = 0; i < 3; i++) upconn_close(c[i], false);
  bed_fini(&b);
}

static void keepalive_limits(void **state) {
  (void)state;
  struct bed b;
  bed_init(&b, 1);
  struct upconn *c[6];
  for (int i = 0; i < 6; i++) c[i] = open_one(&b, 0);
  for (int i = 0; i < 6; i++) release(&b, c[i]);
  assert_int_equal(b.idle, 4); /* keepalive_max */
  assert_int_equal(b.conns, 4);
  assert_int_equal(upstream_close_idle(&b.up, ep(&b, 0), 3), 1);
  assert_int_equal(ep(&b, 0)->rows[0].idle_count, 3);
  sim_advance(b.sim, 1100); /* keepalive_ms */
  settle(&b);
  assert_int_equal(b.idle, 0);
  b.pool->connections.keepalive_ms = 0;
  release(&b, open_one(&b, 0));
  assert_int_equal(b.conns, 0);
  bed_fini(&b);
}

static void requests_per_connection(void **state) {
  (void)state;
  struct bed b;
  bed_init(&b, 1);
  b.pool->connections.requests = 2;
  struct upconn *c = open_one(&b, 0);
  release(&b, c);
  assert_ptr_equal(upconn_checkout(&b.up, b.pool, ep(&b, 0), &b), c);
  release(&b, c);
  assert_int_equal(b.conns, 0);
  bed_fini(&b);
}

/* An idle connection that ends, breaks or speaks is gone before anybody can take it. */
static void an_armed_receive_watches(void **state) {
  (void)state;
  for (int what = 0; what < 3; what++) {
    struct bed b;
    bed_init(&b, 1);
    release(&b, open_one(&b, 0));
    assert_int_equal(b.idle, 1);
    assert_non_null(b.peers[0]);
    if (what == 0) sim_peer_shutdown(b.peers[0]);
    if (what == 1) sim_peer_reset(b.peers[0]);
    if (what == 2) sim_peer_write(b.peers[0], SPAN_LIT("HTTP/1.1 200 OK\r\n\r\n"));
    settle(&b);
    assert_int_equal(b.idle, 0);
    assert_null(upconn_checkout(&b.up, b.pool, ep(&b, 0), &b));
    bed_fini(&b);
  }
}

/* What was said before the release is never the next response. */
static void held_bytes_are_not_kept(void **state) {
  (void)state;
  struct bed b;
  bed_init(&b, 1);
  struct upconn *c = open_one(&b, 0);
  conn_watch(c->conn);
  sim_peer_write(b.peers[0], SPAN_LIT("unasked"));
  settle(&b);
  assert_true(conn_held(c->conn) > 0);
  release(&b, c);
  assert_int_equal(b.conns, 0);
  bed_fini(&b);
}

static void permits_are_exact(void **state) {
  (void)state;
  struct bed b;
  bed_init(&b, 2);
  b.pool->connections.max_per_endpoint = 2;
  struct upconn *one = open_one(&b, 0), *two = open_one(&b, 0);
  int err = 0;
  assert_null(dial(&b, 0, &err));
  assert_int_equal(err, -EAGAIN);
  assert_int_equal(atomic_load(&ep(&b, 0)->permits), 2);
  assert_true(conn_permits_out(b.pool, ep(&b, 0)) && !conn_permits_out(b.pool, ep(&b, 1)));
  struct upconn *other = open_one(&b, 1); /* another endpoint has its own */
  b.pool->connections.max = 3;
  assert_true(conn_permits_out(b.pool, ep(&b, 1))); /* but the pool's are out */
  assert_null(dial(&b, 1, &err));
  assert_int_equal(atomic_load(&b.pool->state->conns), 3);
  release(&b, one);
  assert_null(dial(&b, 0, &err)); /* idle ones hold theirs */
  upconn_close(two, true);
  assert_int_equal(b.freed, 0); /* nobody waits */
  assert_int_equal(atomic_load(&ep(&b, 0)->permits), 1);
  two = open_one(&b, 0);
  atomic_store(&b.pool->state->waiting, 1);
  assert_int_equal(upstream_close_idle(&b.up, ep(&b, 0), 0), 1);
  assert_int_equal(b.freed, 1);
  upconn_close(two, false);
  assert_int_equal(b.freed, 2);
  atomic_store(&b.pool->state->waiting, 0);
  upconn_close(other, false);
  bed_fini(&b);
}

static void refused_connects_give_permits_back(void **state) {
  (void)state;
  struct bed b;
  bed_init(&b, 1);
  b.pool->connections.max_per_endpoint = 1;
  sim_peer_unlisten(b.sim, &ep(&b, 0)->addr);
  for (uint32_t i = 0; i < 5; i++) {
    int err = 0;
    assert_non_null(dial(&b, 0, &err));
    settle(&b);
    assert_int_equal(b.errors, i + 1);
    assert_int_equal(atomic_load(&ep(&b, 0)->permits), 0);
  }
  bed_fini(&b);
}

static void slots_run_out(void **state) {
  (void)state;
  struct bed b;
  bed_init(&b, 1);
  struct upconn *c[32];
  int err = 0;
  for (int i = 0; i < 32; i++) {
    c[i] = dial(&b, 0, &err);
    assert_non_null(c[i]);
  }
  assert_null(dial(&b, 0, &err));
  assert_int_equal(err, -ENOMEM);
  assert_int_equal(atomic_load(&ep(&b, 0)->permits), 32);
  for (int i = 0; i < 32; i++) upconn_close(c[i], false);
  bed_fini(&b);
}

/* An installation without the endpoint closes its idle connections, and those in use when they are
 * released; the endpoints that stayed keep theirs. */
static void install_closes_what_left(void **state) {
  (void)state;
  struct bed b;
  bed_init(&b, 2);
  struct upconn *kept = open_one(&b, 0), *gone = open_one(&b, 1), *busy = open_one(&b, 1);
  release(&b, kept);
  release(&b, gone);
  static const struct kit_member one[] = {{1, false, 0}};
  struct pool *next_pool = kit_pool(b.registry, "app", one, 1);
  struct snapshot *next = snapshot_of(b.registry, next_pool);
  upstream_install(&b.up, 2, b.snapshot, next);
  assert_int_equal(ep(&b, 0)->rows[0].idle_count, 1);
  assert_int_equal(ep(&b, 1)->rows[0].idle_count, 0);
  release(&b, busy);
  assert_int_equal(ep(&b, 1)->rows[0].conns, 0);
  assert_ptr_equal(upconn_checkout(&b.up, b.pool, ep(&b, 0), &b), kept);
  release(&b, kept);
  assert_int_equal(ep(&b, 0)->rows[0].idle_count, 1);
  upstream_install(&b.up, 3, next, b.snapshot);
  assert_int_equal(ep(&b, 0)->rows[0].idle_count, 1);
  object_unref(b.registry, &next_pool->obj);
  snapshot_free(next);
  bed_fini(&b);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_newest_idle_one_first),
      cmocka_unit_test(keepalive_limits),
      cmocka_unit_test(requests_per_connection),
      cmocka_unit_test(an_armed_receive_watches),
      cmocka_unit_test(held_bytes_are_not_kept),
      cmocka_unit_test(permits_are_exact),
      cmocka_unit_test(refused_connects_give_permits_back),
      cmocka_unit_test(slots_run_out),
      cmocka_unit_test(install_closes_what_left),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
