/* sim_udp.c: datagrams of the simulated world: sockets with a short receive queue, a network that
 * brings datagrams in any order, loses some (faults.reset) and answers with ICMP where nobody
 * listens (and now and then where somebody does: faults.refuse). What a receive gives is on the
 * heap until it was sent, so that whoever keeps it is found out. Submissions are looked at from
 * the next turn on. */
#include <errno.h>

#include "io/io_priv.h"
#include "io/sim_priv.h"
#include "weir/base/mem.h"

/* QUEUE_MAX datagrams wait at a socket, and the loop has so many buffers. */
#define QUEUE_MAX 64u
#define BUFFERS 16u
#define RECEIVES 32u

enum sim_udp_kind { SIM_UDP_RECV, SIM_UDP_SEND, SIM_UDP_CANCEL, SIM_UDP_CLOSE };

/* sim_dgram is one datagram: on its way, in a queue, or lent to a loop. */
struct sim_dgram {
  struct list link;
  struct addr from, to;
  size_t len;
  char bytes[];
};

struct sim_dport {
  struct list link; /* sim->dports */
  struct addr at, peer; /* peer.len 0: from anybody */
  bool weirs, retired;
  void (*on_datagram)(struct sim *sim, const struct addr *from, struct span bytes, void *ctx);
  void *ctx;
  struct list queue;
  uint32_t queued;
  int err; /* to be told once */
};

struct sim_udp_op {
  struct list link; /* sim_loop.udp_ops */
  enum sim_udp_kind kind;
  uint32_t slot, generation;
  int fd;
  uint32_t delay;
  bool cancelled;
  struct sim_dgram *dgram; /* of a send */
};

/* ---- the network ---- */

static bool hears(const struct sim_dport *p, const struct sim_dgram *d) {
  return !p->retired && addr_eq(&p->at, &d->to) && (!p->peer.len || addr_eq(&p->peer, &d->from));
}

static struct sim_dport *find(struct sim *sim, const struct sim_dgram *d) {
  for (struct list *l = sim->dports.next; l != &sim->dports; l = l->next) {
    struct sim_dport *p = container_of(l, struct sim_dport, link);
    if (hears(p, d)) return p;
  }
  return NULL;
}

static struct sim_dport *dport_new(struct sim *sim, const struct addr *at) {
  struct sim_dport *p = mem_alloc(sizeof *p);
  p->at = *at;
  list_init(&p->queue);
  list_push_tail(&sim->dports, &p->link);
  return p;
}

static void dport_free(struct sim_dport *p) {
  for (struct list *l = list_pop_head(&p->queue); l; l = list_pop_head(&p->queue))
    mem_free(container_of(l, struct sim_dgram, link));
  list_remove(&p->link);
  mem_free(p);
}

static void put(struct sim *sim, const struct addr *from, const struct addr *to,
                struct span bytes) {
  struct sim_dgram *d = mem_alloc(sizeof *d + bytes.len);
  d->from = *from;
  d->to = *to;
  d->len = bytes.len;
  if (bytes.len) memcpy(d->bytes, bytes.ptr, bytes.len);
  list_push_tail(&sim->dgrams, &d->link);
  sim->dgram_count++;
}

/* refuse answers the sender with ICMP's port unreachable; only connected sockets are told. */
static void refuse(struct sim *sim, const struct sim_dgram *d) {
  for (struct list *l = sim->dports.next; l != &sim->dports; l = l->next) {
    struct sim_dport *p = container_of(l, struct sim_dport, link);
    if (p->peer.len && addr_eq(&p->at, &d->from) && addr_eq(&p->peer, &d->to))
      p->err = -ECONNREFUSED;
  }
}

static void arrive(struct sim *sim, struct sim_dgram *d) {
  struct sim_dport *p = find(sim, d);
  if (!p) refuse(sim, d);
  if (p && !p->weirs && sim_hit(sim, sim->faults.refuse)) {
    refuse(sim, d);
    p = NULL;
  }
  if (!p || sim_hit(sim, sim->faults.reset) || p->queued == QUEUE_MAX) {
    mem_free(d);
    return;
  }
  if (!p->weirs) {
    p->on_datagram(sim, &d->from, span_of(d->bytes, d->len), p->ctx);
    mem_free(d);
    return;
  }
  list_push_tail(&p->queue, &d->link);
  p->queued++;
}

void sim_udp_step(struct sim *sim, uint64_t which) {
  struct list *l = sim->dgrams.next;
  while (which-- > 0) l = l->next;
  list_remove(l);
  sim->dgram_count--;
  arrive(sim, container_of(l, struct sim_dgram, link));
}

/* ---- peers ---- */

int sim_udp_fd(struct sim *sim, const struct addr *at) {
  int fd = sim_fd_new(sim, SIM_FD_UDP);
  struct sim_dport *p = dport_new(sim, at);
  p->weirs = true;
  sim_fd_get(sim, fd)->dport = p;
  return fd;
}

void sim_udp_peer(struct sim *sim, const struct addr *at,
                  void (*on_datagram)(struct sim *sim, const struct addr *from,
                                      struct span bytes, void *ctx),
                  void *ctx) {
  struct sim_dport *p = dport_new(sim, at);
  p->on_datagram = on_datagram;
  p->ctx = ctx;
}

void sim_udp_leave(struct sim *sim, const struct addr *at) {
  const struct sim_dgram any = {.to = *at};
  struct sim_dport *p = find(sim, &any);
  check(p && !p->weirs);
  dport_free(p);
}

void sim_udp_send(struct sim *sim, const struct addr *from, const struct addr *to,
                  struct span bytes) {
  put(sim, from, to, bytes);
}

/* ---- a loop's sockets ---- */

static struct sim_loop *of(struct loop *loop) { return container_of(loop, struct sim_loop, loop); }

static struct sim_dport *dport_of(struct sim *sim, int fd) {
  struct sim_fd *entry = sim_fd_get(sim, fd);
  check(entry->kind == SIM_FD_UDP);
  return entry->dport;
}

void sim_udp_fd_close(struct sim_dport *p) { dport_free(p); }

static int connect_to(struct loop *loop, const struct addr *to) {
  struct sim *sim = of(loop)->sim;
  struct addr own;
  if (sim_hit(sim, sim->faults.enobufs)) return -EMFILE;
  check(addr_parse(SPAN_LIT("192.0.2.2:1"), &own));
  own.in4.sin_port = htons(sim->next_port++);
  int fd = sim_udp_fd(sim, &own);
  dport_of(sim, fd)->peer = *to;
  return fd;
}

static void listen_on(struct loop *loop, int fd, bool any) {
  (void)loop, (void)fd, (void)any;
}

static struct sim_udp_op *submit(struct loop *loop, struct udp *u, enum sim_udp_kind kind) {
  struct sim_loop *l = of(loop);
  struct sim_udp_op *o = mem_alloc(sizeof *o);
  *o = (struct sim_udp_op){
      .kind = kind, .slot = u->head.slot, .generation = u->head.generation, .fd = u->fd};
  if (sim_hit(l->sim, l->sim->faults.delay)) o->delay = 1 + (uint32_t)sim_draw(l->sim, 4);
  list_push_tail(&l->udp_ops, &o->link);
  return o;
}

static void recv_from(struct loop *loop, struct udp *u) { (void)submit(loop, u, SIM_UDP_RECV); }
static void cancel(struct loop *loop, struct udp *u) { (void)submit(loop, u, SIM_UDP_CANCEL); }
static void close_it(struct loop *loop, struct udp *u) {
  (void)submit(loop, u, SIM_UDP_CLOSE);
  u->fd = -1;
}

/* The datagram that is lent is the one that the loop gave up last; what is sent is a copy, with
 * what goes in front. */
static void send_to(struct loop *loop, struct udp *u, const struct udp_datagram *d,
                    const struct addr *to, const struct udp_local *from) {
  (void)from;
  struct sim_loop *l = of(loop);
  const struct sim_dport *p = dport_of(l->sim, u->fd);
  struct sim_dgram *lent = l->udp_lent;
  const char *end = d->bytes.ptr + d->bytes.len;
  check(lent && d->bytes.ptr >= lent->bytes && end == lent->bytes + lent->len);
  struct sim_dgram *out = mem_alloc(sizeof *out + d->front.len + d->bytes.len);
  struct buf b = buf_of(out->bytes, d->front.len + d->bytes.len);
  out->from = p->at;
  out->to = to ? *to : p->peer;
  out->len = b.cap;
  buf_put(&b, d->front);
  buf_put(&b, d->bytes);
  submit(loop, u, SIM_UDP_SEND)->dgram = out;
  l->udp_out++;
}

static void settle(struct loop *loop) { (void)loop; }
static void coalesce(struct loop *loop, struct udp *u, bool on) { (void)loop, (void)u, (void)on; }

static bool address(const struct loop *loop, const struct udp *u, struct addr *out) {
  const struct sim_loop *l = (const struct sim_loop *)(const void *)loop;
  *out = dport_of(l->sim, u->fd)->at;
  return true;
}

static bool retire(struct loop *loop, struct udp *u) {
  dport_of(of(loop)->sim, u->fd)->retired = true;
  return true;
}

static bool empty(const struct loop *loop, const struct udp *u) {
  const struct sim_loop *l = (const struct sim_loop *)(const void *)loop;
  return dport_of(l->sim, u->fd)->queued == 0;
}

/* Only who is bound to all addresses has to ask, and nobody is. */
static bool is_here(const struct loop *loop, const struct addr *a) {
  (void)loop, (void)a;
  return false;
}

const struct udp_ops sim_udp_ops = {
    .connect = connect_to,
    .listen = listen_on,
    .coalesce = coalesce,
    .recv = recv_from,
    .send = send_to,
    .cancel = cancel,
    .close = close_it,
    .settle = settle,
    .address = address,
    .retire = retire,
    .empty = empty,
    .is_here = is_here,
};

/* ---- ending ops ---- */

static void drop(struct sim_udp_op *o) {
  list_remove(&o->link);
  mem_free(o);
}

static bool ready(const struct sim_loop *l, const struct sim_udp_op *o) {
  if (o->cancelled || o->kind != SIM_UDP_RECV) return true;
  const struct sim_dport *p = dport_of(l->sim, o->fd);
  return p->err != 0 || p->queued > 0;
}

static void finish_recv(struct sim_loop *l, struct sim_udp_op *o, const struct udp_done *done) {
  uint32_t slot = o->slot, generation = o->generation;
  if (!done->more) drop(o);
  loop_stat_add(&l->loop.stats.completions, 1);
  l->udp_lent = done->datagram
                    ? container_of(done->datagram->bytes.ptr, struct sim_dgram, bytes)
                    : NULL;
  struct sim_dgram *lent = l->udp_lent;
  (void)udp_received(&l->loop, slot, generation, done);
  l->udp_lent = NULL;
  mem_free(lent);
}

static void fail_recv(struct sim_loop *l, struct sim_udp_op *o, int err) {
  finish_recv(l, o, &(struct udp_done){.res = err});
}

/* end_recv gives one result; true: it stays armed. */
static bool end_recv(struct sim_loop *l, struct sim_udp_op *o) {
  struct sim *sim = l->sim;
  if (o->cancelled) {
    fail_recv(l, o, -ECANCELED);
    return false;
  }
  struct sim_dport *p = dport_of(sim, o->fd);
  if (p->err) {
    int err = p->err;
    p->err = 0;
    fail_recv(l, o, err);
    return false;
  }
  bool trouble = sim_hit(sim, sim->faults.enobufs);
  if (l->udp_out >= BUFFERS || (trouble && sim_draw(sim, 2) == 0)) {
    fail_recv(l, o, -ENOBUFS);
    return false;
  }
  struct list *first = list_pop_head(&p->queue);
  check(first != NULL); /* ready */
  struct sim_dgram *g = container_of(first, struct sim_dgram, link);
  p->queued--;
  struct udp_datagram d = {.bytes = span_of(g->bytes, g->len)};
  if (!p->peer.len) d.from = g->from;
  struct udp_done done = {.more = !trouble && g->len > 0, .datagram = &d};
  bool more = done.more;
  finish_recv(l, o, &done);
  return more;
}

static void end_send(struct sim_loop *l, struct sim_udp_op *o) {
  struct sim_dgram *g = o->dgram;
  uint32_t slot = o->slot, generation = o->generation;
  bool full = sim_hit(l->sim, l->sim->faults.short_write);
  if (!full) put(l->sim, &g->from, &g->to, span_of(g->bytes, g->len));
  mem_free(g);
  drop(o);
  l->udp_out--;
  if (full) udp_send_failed(&l->loop, slot, generation, -EAGAIN);
}

static void end_cancel(struct sim_loop *l, struct sim_udp_op *o) {
  for (struct list *i = l->udp_ops.next; i != &l->udp_ops; i = i->next) {
    struct sim_udp_op *t = container_of(i, struct sim_udp_op, link);
    if (t->kind == SIM_UDP_RECV && t->slot == o->slot && t->generation == o->generation)
      t->cancelled = true;
  }
  uint32_t slot = o->slot, generation = o->generation;
  drop(o);
  udp_ended(&l->loop, slot, generation);
}

/* A close comes after what was submitted before it: a send still goes out. */
static bool end_close(struct sim_loop *l, struct sim_udp_op *o) {
  for (struct list *i = l->udp_ops.next; i != &o->link; i = i->next)
    if (container_of(i, struct sim_udp_op, link)->fd == o->fd) return false;
  uint32_t slot = o->slot, generation = o->generation;
  sim_fd_close(l->sim, o->fd);
  drop(o);
  udp_ended(&l->loop, slot, generation);
  return true;
}

static void end_op(struct sim_loop *l, struct sim_udp_op *o) {
  switch (o->kind) {
    case SIM_UDP_RECV:
      for (unsigned n = 0; n < RECEIVES && ready(l, o) && end_recv(l, o); n++) {
      }
      return;
    case SIM_UDP_SEND: end_send(l, o); return;
    case SIM_UDP_CANCEL: end_cancel(l, o); return;
    case SIM_UDP_CLOSE: (void)end_close(l, o); return;
  }
}

/* What is submitted meanwhile stands behind `last`, and an op is dropped by its own end only. */
void sim_udp_turn(struct sim_loop *l) {
  if (list_empty(&l->udp_ops)) return;
  struct list *last = l->udp_ops.prev, *next;
  for (struct list *i = l->udp_ops.next;; i = next) {
    struct sim_udp_op *o = container_of(i, struct sim_udp_op, link);
    bool was_last = i == last;
    next = i->next;
    if (o->delay > 0) o->delay--;
    else if (ready(l, o)) end_op(l, o);
    if (was_last) return;
  }
}

bool sim_udp_due(struct sim_loop *l) {
  if (!list_empty(&l->loop.udp_starved)) return true;
  for (struct list *i = l->udp_ops.next; i != &l->udp_ops; i = i->next)
    if (ready(l, container_of(i, struct sim_udp_op, link))) return true;
  return false;
}

void sim_udp_loop_free(struct sim_loop *l) {
  while (!list_empty(&l->udp_ops)) {
    struct sim_udp_op *o = container_of(l->udp_ops.next, struct sim_udp_op, link);
    if (o->kind == SIM_UDP_CLOSE) sim_fd_close(l->sim, o->fd);
    if (o->kind == SIM_UDP_SEND) mem_free(o->dgram);
    drop(o);
  }
}

void sim_udp_init(struct sim *sim) {
  list_init(&sim->dports);
  list_init(&sim->dgrams);
}

void sim_udp_free(struct sim *sim) {
  for (struct list *l = list_pop_head(&sim->dgrams); l; l = list_pop_head(&sim->dgrams))
    mem_free(container_of(l, struct sim_dgram, link));
  while (!list_empty(&sim->dports))
    dport_free(container_of(sim->dports.next, struct sim_dport, link));
}
