/* sim.c: the simulated world: its clock, its dice, and the choice of what happens next. Knows
 * neither conns nor protocols. Called by tests. */
#include "weir/io/sim.h"

#include "io/sim_priv.h"
#include "weir/base/hash.h"
#include "weir/base/mem.h"

#define START_US 1000000000u
#define JUMP_MAX_MS 5000u

uint64_t sim_draw(struct sim *sim, uint64_t below) {
  check(below > 0);
  return rng_next(&sim->rng) % below;
}

bool sim_hit(struct sim *sim, uint16_t per_mille) {
  return per_mille != 0 && sim_draw(sim, 1000) < per_mille;
}

struct sim *sim_new(uint64_t seed, const struct sim_faults *faults) {
  struct sim *sim = mem_alloc(sizeof(*sim));
  sim->rng = seed;
  (void)rng_next(&sim->rng);
  if (faults) sim->faults = *faults;
  sim->now_us = START_US;
  sim->fds = mem_array(SIM_FDS_MAX, sizeof(*sim->fds));
  sim->next_port = 10000;
  list_init(&sim->links);
  list_init(&sim->peers);
  list_init(&sim->ports);
  sim_udp_init(sim);
  return sim;
}

void sim_free(struct sim *sim) {
  check(sim->loop_count == 0);
  check(sim->pipes_open == 0);
  while (!list_empty(&sim->peers))
    sim_peer_free(container_of(sim->peers.next, struct sim_peer, link));
  while (!list_empty(&sim->links))
    sim_link_free(container_of(sim->links.next, struct sim_link, link));
  for (struct list *l = list_pop_head(&sim->ports); l; l = list_pop_head(&sim->ports))
    mem_free(container_of(l, struct sim_port, link));
  sim_udp_free(sim);
  mem_free(sim->fds);
  mem_free(sim);
}

uint64_t sim_now_ms(const struct sim *sim) { return sim->now_us / 1000; }
void sim_advance(struct sim *sim, uint64_t ms) { sim->now_us += ms * 1000; }
uint32_t sim_fds_open(const struct sim *sim) { return sim->fds_open; }

static bool run_loop(struct sim_loop *l) {
  int rc = l->turn ? l->turn(l->turn_ctx) : loop_run_turn(&l->loop, 0);
  check(rc == 0);
  (void)sim_quiet_submit(l); /* before it waits */
  return true;
}

/* step_loop runs one of the loops that have something to do. */
static bool step_loop(struct sim *sim) {
  struct sim_loop *due[SIM_LOOPS_MAX];
  uint32_t count = 0;
  for (uint32_t i = 0; i < sim->loop_count; i++)
    if (sim_loop_due(sim->loops[i])) due[count++] = sim->loops[i];
  return count > 0 && run_loop(due[sim_draw(sim, count)]);
}

/* step_clock moves the clock to the next timer of any loop. */
static bool step_clock(struct sim *sim) {
  uint64_t next = WHEEL_NEVER;
  for (uint32_t i = 0; i < sim->loop_count; i++) {
    uint64_t at = wheel_next_ms(&sim->loops[i]->loop.wheel);
    if (at < next) next = at;
  }
  if (next == WHEEL_NEVER) return false;
  if (next * 1000 > sim->now_us) sim->now_us = next * 1000;
  return step_loop(sim);
}

bool sim_step(struct sim *sim) {
  sim->now_us += sim_draw(sim, 50);
  if (sim_hit(sim, sim->faults.time_jump)) sim_advance(sim, sim_draw(sim, JUMP_MAX_MS));
  bool net_first = sim_draw(sim, 2) == 0;
  if (net_first && sim_net_step(sim)) return true;
  if (step_loop(sim)) return true;
  if (!net_first && sim_net_step(sim)) return true;
  return step_clock(sim);
}

uint64_t sim_run(struct sim *sim, uint64_t max_steps) {
  uint64_t steps = 0;
  while (steps < max_steps && sim_step(sim)) steps++;
  return steps;
}
