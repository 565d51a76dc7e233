/* sim_net.c: the simulated network: links with bytes on their way, FINs and resets with the
 * meaning TCP gives them (RFC 9293: a reset overtakes what is on its way, what has arrived can
 * still be read; data for a closed end is answered by a reset), ports, descriptors. */
#include <errno.h>

#include "io/sim_priv.h"
#include "weir/base/mem.h"

#define WINDOW_MIN 2048u
#define WINDOW_MAX 262144u

void sim_bytes_put(struct sim_bytes *b, struct span s) {
  if (s.len == 0) return;
  if (b->off + b->len + s.len > b->cap) {
    size_t cap = (b->len + s.len) * 2;
    char *ptr = mem_alloc(cap);
    if (b->len) memcpy(ptr, b->ptr + b->off, b->len);
    mem_free(b->ptr);
    *b = (struct sim_bytes){.ptr = ptr, .len = b->len, .cap = cap};
  }
  memcpy(b->ptr + b->off + b->len, s.ptr, s.len);
  b->len += s.len;
}

void sim_bytes_drop(struct sim_bytes *b, size_t len) {
  check(len <= b->len);
  b->off += len;
  b->len -= len;
  if (b->len > 0) return;
  mem_free(b->ptr);
  *b = (struct sim_bytes){0};
}

struct sim_fd *sim_fd_get(struct sim *sim, int fd) {
  check(fd >= SIM_FD_FIRST && fd < SIM_FD_FIRST + (int)SIM_FDS_MAX);
  struct sim_fd *entry = &sim->fds[fd - SIM_FD_FIRST];
  check(entry->kind != SIM_FD_FREE);
  return entry;
}

struct sim_end *sim_end_of(struct sim *sim, int fd) {
  struct sim_fd *entry = sim_fd_get(sim, fd);
  check(entry->kind == SIM_FD_END && entry->end != NULL);
  return entry->end;
}

/* Numbers are not used twice: a stale one is found out. */
int sim_fd_new(struct sim *sim, enum sim_fd_kind kind) {
  check(sim->fd_top < SIM_FDS_MAX);
  int fd = SIM_FD_FIRST + (int)sim->fd_top;
  sim->fds[sim->fd_top++] = (struct sim_fd){.kind = kind};
  if (kind == SIM_FD_PIPE)
    sim->pipes_open++;
  else
    sim->fds_open++;
  return fd;
}

void sim_pipe_new(struct sim *sim, int fds[2], size_t cap) {
  struct sim_pipe *pipe = mem_alloc(sizeof(*pipe));
  pipe->cap = cap;
  pipe->ends = 2;
  for (int i = 0; i < 2; i++) {
    fds[i] = sim_fd_new(sim, SIM_FD_PIPE);
    sim_fd_get(sim, fds[i])->pipe = pipe;
  }
}

static void pipe_close(struct sim *sim, struct sim_pipe *pipe) {
  sim->pipes_open--;
  if (--pipe->ends > 0) return;
  mem_free(pipe->bytes.ptr);
  mem_free(pipe);
}

static void port_close(struct sim_port *port) {
  list_remove(&port->link);
  for (uint32_t i = 0; i < port->queued; i++) sim_end_reset(port->queue[i]);
  mem_free(port);
}

void sim_fd_close(struct sim *sim, int fd) {
  struct sim_fd *entry = sim_fd_get(sim, fd);
  if (entry->kind == SIM_FD_END) sim_end_close(entry->end, entry->linger0);
  if (entry->kind == SIM_FD_PORT) port_close(entry->port);
  if (entry->kind == SIM_FD_UDP) sim_udp_fd_close(entry->dport);
  if (entry->kind == SIM_FD_PIPE)
    pipe_close(sim, entry->pipe);
  else
    sim->fds_open--;
  entry->kind = SIM_FD_FREE;
}

struct sim_port *sim_port_find(struct sim *sim, const struct addr *at) {
  for (struct list *l = sim->ports.next; l != &sim->ports; l = l->next) {
    struct sim_port *port = container_of(l, struct sim_port, link);
    if (addr_eq(&port->at, at)) return port;
  }
  return NULL;
}

int sim_port_take(struct sim *sim, struct sim_port *port) {
  struct sim_end *end = port->queue[0];
  port->queued--;
  memmove(port->queue, port->queue + 1, port->queued * sizeof(port->queue[0]));
  int fd = sim_fd_new(sim, SIM_FD_END);
  sim_fd_get(sim, fd)->end = end;
  return fd;
}

struct sim_link *sim_link_new(struct sim *sim, const struct addr *to) {
  struct sim_link *link = mem_alloc(sizeof(*link));
  link->sim = sim;
  link->window = WINDOW_MIN + sim_draw(sim, WINDOW_MAX - WINDOW_MIN);
  link->ends[0].link = link->ends[1].link = link;
  check(addr_parse(SPAN_LIT("192.0.2.1:1"), &link->ends[0].self));
  link->ends[0].self.in4.sin_port = htons(sim->next_port++);
  link->ends[1].self = *to;
  list_push_tail(&sim->links, &link->link);
  return link;
}

void sim_link_free(struct sim_link *link) {
  list_remove(&link->link);
  for (int i = 0; i < 2; i++) {
    mem_free(link->ends[i].net.ptr);
    mem_free(link->ends[i].rcv.ptr);
  }
  mem_free(link);
}

size_t sim_end_room(const struct sim_end *e) {
  const struct sim_end *other = sim_other(e);
  if (e->dead || e->fin_sent || e->closed) return 0;
  size_t used = other->net.len + other->rcv.len;
  return used < e->link->window ? e->link->window - used : 0;
}

void sim_end_send(struct sim_end *e, struct span bytes) {
  if (e->dead || e->closed || e->fin_sent) return;
  sim_bytes_put(&sim_other(e)->net, bytes);
}

int sim_end_refuses(struct sim_end *e) {
  int err = e->err;
  e->err = 0;
  if (err) return err;
  return e->dead || e->fin_sent ? -EPIPE : 0;
}

/* read_len is how much of len a read gives. */
static size_t read_len(struct sim *sim, size_t len) {
  return sim_hit(sim, sim->faults.short_read) ? 1 + sim_draw(sim, len) : len;
}

ssize_t sim_end_read(struct sim *sim, struct sim_end *e, char *into, size_t cap) {
  if (e->rcv.len > 0) {
    size_t n = read_len(sim, e->rcv.len < cap ? e->rcv.len : cap);
    memcpy(into, e->rcv.ptr + e->rcv.off, n);
    sim_bytes_drop(&e->rcv, n);
    e->taken += n;
    return (ssize_t)n;
  }
  if (e->err) {
    int err = e->err;
    e->err = 0;
    return err;
  }
  return e->fin || e->dead ? 0 : -EAGAIN;
}

void sim_end_finish(struct sim_end *e) {
  if (e->fin_sent || e->dead) return;
  e->fin_sent = true;
  sim_other(e)->net_fin = true;
}

void sim_end_reset(struct sim_end *e) {
  struct sim_end *other = sim_other(e);
  e->dead = true;
  if (!other->dead && !other->closed) other->net_rst = true;
}

/* Closing with unread bytes resets, as Linux does (RFC 2525, section 2.17). */
void sim_end_close(struct sim_end *e, bool hard) {
  if (e->closed) return;
  if (hard || e->rcv.len > 0)
    sim_end_reset(e);
  else
    sim_end_finish(e);
  e->closed = true;
  e->peer = NULL;
  sim_bytes_drop(&e->rcv, e->rcv.len);
}

/* --- events --- */

/* arrives tells whether something is on its way to e that can arrive now. */
static bool arrives(const struct sim_end *e) {
  if (e->net_rst) return true;
  if (e->dead) return false;
  return e->net.len > 0 || (e->net_fin && !e->fin);
}

static void reset_arrives(struct sim_end *e) {
  e->net_rst = false;
  e->dead = true;
  e->err = -ECONNRESET;
  sim_bytes_drop(&e->net, e->net.len);
}

static void arrive(struct sim *sim, struct sim_end *e) {
  if (e->net_rst) {
    reset_arrives(e);
  } else if (e->net.len == 0) {
    e->fin = true;
  } else if (e->closed) {
    sim_bytes_drop(&e->net, e->net.len);
    sim_end_reset(e);
  } else {
    size_t n = 1 + sim_draw(sim, e->net.len);
    if (sim_draw(sim, 3) == 0) n = e->net.len;
    sim_bytes_put(&e->rcv, span_sub(sim_bytes_span(&e->net), 0, n));
    sim_bytes_drop(&e->net, n);
  }
}

static bool link_over(const struct sim_link *link) {
  const struct sim_end *e = link->ends;
  return e[0].closed && e[1].closed && !arrives(&e[0]) && !arrives(&e[1]);
}

static void sweep(struct sim *sim) {
  for (struct list *l = sim->links.next; l != &sim->links;) {
    struct sim_link *link = container_of(l, struct sim_link, link);
    l = l->next;
    if (link_over(link)) sim_link_free(link);
  }
}

/* pick walks all events; the one with number `which` is run. Returns how many there are. */
static uint64_t pick(struct sim *sim, uint64_t which, bool run) {
  uint64_t count = 0;
  for (struct list *l = sim->links.next; l != &sim->links; l = l->next) {
    struct sim_link *link = container_of(l, struct sim_link, link);
    for (int i = 0; i < 2; i++) {
      if (!arrives(&link->ends[i]) || count++ != which || !run) continue;
      arrive(sim, &link->ends[i]);
      return count;
    }
  }
  for (struct list *l = sim->peers.next; l != &sim->peers; l = l->next) {
    struct sim_peer *p = container_of(l, struct sim_peer, link);
    if (!sim_peer_due(p) || count++ != which || !run) continue;
    sim_peer_run(p);
    return count;
  }
  return count;
}

/* break_one resets a random link from both sides, as a network does that loses one. */
static void break_one(struct sim *sim) {
  uint64_t count = 0;
  for (struct list *l = sim->links.next; l != &sim->links; l = l->next) count++;
  if (count == 0) return;
  uint64_t which = sim_draw(sim, count);
  struct list *l = sim->links.next;
  while (which-- > 0) l = l->next;
  struct sim_link *link = container_of(l, struct sim_link, link);
  for (int i = 0; i < 2; i++)
    if (!link->ends[i].closed && !link->ends[i].dead) link->ends[i].net_rst = true;
}

bool sim_net_step(struct sim *sim) {
  sweep(sim);
  if (sim_hit(sim, sim->faults.reset)) break_one(sim);
  uint64_t count = pick(sim, 0, false);
  if (count + sim->dgram_count == 0) return false;
  uint64_t which = sim_draw(sim, count + sim->dgram_count);
  if (which < count) (void)pick(sim, which, true);
  else sim_udp_step(sim, which - count);
  return true;
}
