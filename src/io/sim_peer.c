/* sim_peer.c: scripted peers of the simulation: clients and servers that are not weir. Their bytes
 * are queued without limit; what they read can be bounded. Called by tests. */
#include "io/sim_priv.h"
#include "weir/base/mem.h"

struct sim_peer *sim_peer_new(struct sim *sim, struct sim_end *end) {
  struct sim_peer *p = mem_alloc(sizeof(*p));
  p->sim = sim;
  p->end = end;
  p->window = SIZE_MAX;
  if (end) end->peer = p;
  list_push_tail(&sim->peers, &p->link);
  return p;
}

struct sim_peer *sim_peer_connect(struct sim *sim, const struct addr *to) {
  struct sim_port *port = sim_port_find(sim, to);
  if (port == NULL || !port->weirs || port->deaf || port->queued == array_count(port->queue))
    return sim_peer_new(sim, NULL);
  struct sim_link *link = sim_link_new(sim, to);
  port->queue[port->queued++] = &link->ends[1];
  return sim_peer_new(sim, &link->ends[0]);
}

static struct sim_port *add_port(struct sim *sim, const struct addr *at) {
  check(sim_port_find(sim, at) == NULL);
  struct sim_port *port = mem_alloc(sizeof(*port));
  port->at = *at;
  list_push_tail(&sim->ports, &port->link);
  return port;
}

void sim_peer_listen(struct sim *sim, const struct addr *at,
                     void (*on_accept)(struct sim_peer *p, void *ctx), void *ctx) {
  struct sim_port *port = add_port(sim, at);
  port->on_accept = on_accept;
  port->ctx = ctx;
}

void sim_peer_blackhole(struct sim *sim, const struct addr *at) {
  add_port(sim, at)->blackhole = true;
}

void sim_peer_unlisten(struct sim *sim, const struct addr *at) {
  struct sim_port *port = sim_port_find(sim, at);
  check(port != NULL && !port->weirs);
  list_remove(&port->link);
  mem_free(port);
}

int sim_listen_fd(struct sim *sim, const struct addr *at) {
  int fd = sim_fd_new(sim, SIM_FD_PORT);
  struct sim_port *port = add_port(sim, at);
  port->weirs = true;
  sim_fd_get(sim, fd)->port = port;
  return fd;
}

void sim_peer_on_data(struct sim_peer *p,
                      void (*on_data)(struct sim_peer *p, struct span bytes, void *ctx),
                      void (*on_close)(struct sim_peer *p, bool reset, void *ctx), void *ctx) {
  p->on_data = on_data;
  p->on_close = on_close;
  p->ctx = ctx;
}

void sim_peer_write(struct sim_peer *p, struct span bytes) {
  if (p->end) sim_end_send(p->end, bytes);
}

void sim_peer_shutdown(struct sim_peer *p) {
  if (p->end) sim_end_finish(p->end);
}

void sim_peer_reset(struct sim_peer *p) {
  if (p->end == NULL || p->end->dead) return;
  sim_end_reset(p->end);
  p->told = true;
}

void sim_peer_window(struct sim_peer *p, size_t bytes) { p->window = bytes; }

void sim_peer_free(struct sim_peer *p) {
  if (p->end) sim_end_close(p->end, false);
  list_remove(&p->link);
  mem_free(p);
}

static bool end_due(const struct sim_peer *p) {
  if (p->told || p->on_close == NULL) return false;
  if (p->end == NULL) return true;
  return p->end->rcv.len == 0 && (p->end->fin || p->end->err);
}

bool sim_peer_due(const struct sim_peer *p) {
  if (p->end && p->end->rcv.len > 0 && p->on_data && p->window > 0 && !p->told) return true;
  return end_due(p);
}

void sim_peer_run(struct sim_peer *p) {
  if (end_due(p)) {
    p->told = true;
    p->on_close(p, p->end == NULL || p->end->err != 0, p->ctx);
    return;
  }
  struct sim_bytes *rcv = &p->end->rcv;
  size_t n = 1 + sim_draw(p->sim, rcv->len);
  if (n > p->window) n = p->window;
  if (p->window != SIZE_MAX) p->window -= n;
  char *copy = mem_alloc(n); /* short-lived: whoever keeps the span is found out */
  memcpy(copy, rcv->ptr + rcv->off, n);
  sim_bytes_drop(rcv, n);
  p->end->taken += n;
  p->on_data(p, span_of(copy, n), p->ctx);
  mem_free(copy);
}
