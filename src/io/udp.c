/* udp.c: the life of a datagram socket: made, armed, closed, freed when the kernel has let go of
 * it. Knows neither the ring nor who talks to whom (proxy/front_udp.c). A receive that found no
 * buffer is armed again at the end of the turn, when those that were lent are on their way back;
 * one that failed for another reason than a peer's after UDP_RETRY_MS. */
#include "io/udp_priv.h"

#include <errno.h>

#include "io/io_priv.h"

#define UDP_CHUNK 64u
#define UDP_RETRY_MS 100u

static void arm(struct udp *u) {
  if (u->flags & (UDP_ARMED | UDP_GONE)) return;
  u->flags |= UDP_ARMED;
  u->pending++;
  u->loop->ops->udp->recv(u->loop, u);
}

static void retry(struct timer *timer, uint64_t now_ms) {
  (void)now_ms;
  arm(container_of(timer, struct udp, timer));
}

static struct udp *udp_new(struct loop *loop, int fd, const struct udp_events *events,
                           void *owner) {
  struct udp *u = slab_new(&loop->udps);
  if (u == NULL) return NULL;
  u->fd = fd;
  u->loop = loop;
  u->events = events;
  u->owner = owner;
  list_init(&u->link);
  timer_init(&u->timer, retry);
  return u;
}

static bool is_any(const struct addr *a) {
  static const struct in6_addr any6 = IN6ADDR_ANY_INIT;
  if (a->sa.sa_family == AF_INET) return a->in4.sin_addr.s_addr == INADDR_ANY;
  return memcmp(&a->in6.sin6_addr, &any6, sizeof any6) == 0;
}

struct udp *udp_listen(struct loop *loop, int fd, const struct udp_events *events, void *owner) {
  struct udp *u = udp_new(loop, fd, events, owner);
  struct addr own;
  if (u == NULL) return NULL;
  u->flags = UDP_LISTENS;
  if (udp_local_addr(u, &own) && is_any(&own)) u->flags |= UDP_ANY;
  loop->ops->udp->listen(loop, fd, u->flags & UDP_ANY);
  arm(u);
  return u;
}

struct udp *udp_connect(struct loop *loop, const struct addr *to, const struct udp_events *events,
                        void *owner, int *err) {
  int fd = loop->ops->udp->connect(loop, to);
  if (fd < 0) {
    *err = fd;
    return NULL;
  }
  bool many = loop->fds_most && (uint32_t)fd >= loop->fds_most; /* as conn_connect */
  struct udp *u = many ? NULL : udp_new(loop, fd, events, owner);
  if (u == NULL) {
    loop->ops->close_fd(loop, fd);
    *err = many ? -EMFILE : -ENOMEM;
    return NULL;
  }
  arm(u);
  return u;
}

void udp_pass(struct udp *u, struct udp_datagram *d, const struct addr *to,
              const struct udp_local *from) {
  check(!d->passed && !(u->flags & UDP_GONE));
  check(!(u->flags & UDP_LISTENS) == !to);
  d->passed = true;
  u->loop->ops->udp->send(u->loop, u, d, to, from);
}

void udp_coalesce(struct udp *u, bool on) { u->loop->ops->udp->coalesce(u->loop, u, on); }

bool udp_local_addr(const struct udp *u, struct addr *out) {
  return u->loop->ops->udp->address(u->loop, u, out);
}

bool udp_retire(struct udp *u) {
  check(u->flags & UDP_LISTENS);
  return u->loop->ops->udp->retire(u->loop, u);
}

bool udp_empty(const struct udp *u) { return u->loop->ops->udp->empty(u->loop, u); }

bool udp_is_here(struct loop *loop, const struct addr *a) {
  return loop->ops->udp->is_here(loop, a);
}

void udp_close(struct udp *u) {
  struct loop *loop = u->loop;
  check(!(u->flags & UDP_GONE));
  u->flags |= UDP_GONE;
  list_remove(&u->link);
  timer_stop(&loop->wheel, &u->timer);
  if (u->flags & UDP_ARMED) {
    u->pending++;
    loop->ops->udp->cancel(loop, u);
  }
  u->pending++;
  loop->ops->udp->close(loop, u);
}

static void ended(struct udp *u) {
  check(u->pending > 0);
  if (--u->pending == 0 && u->flags & UDP_GONE) slab_free(&u->loop->udps, u);
}

void udp_ended(struct loop *loop, uint32_t slot, uint32_t generation) {
  struct udp *u = slab_find(&loop->udps, slot, generation);
  check(u != NULL && u->flags & UDP_GONE);
  ended(u);
}

void udp_send_failed(struct loop *loop, uint32_t slot, uint32_t generation, int err) {
  struct udp *u = slab_find(&loop->udps, slot, generation);
  if (u && !(u->flags & UDP_GONE)) u->events->on_error(u, err);
}

/* peers_fault: an error of what was sent to one address, which the receive is told instead. */
static bool peers_fault(int err) {
  switch (-err) {
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN:
    case ENETDOWN:
    case EMSGSIZE:
    case ENOPROTOOPT:
    case EPROTO:
    case EINTR:
    case EAGAIN: return true;
    default: return false;
  }
}

/* again: the receive ended, and u still is. */
static void again(struct udp *u, int32_t res) {
  struct loop *loop = u->loop;
  if (u->flags & (UDP_GONE | UDP_ARMED)) return;
  if (res == -ENOBUFS) list_push_tail(&loop->udp_starved, &u->link);
  else if (res >= 0 || peers_fault(res)) arm(u);
  else timer_set(&loop->wheel, &u->timer, loop->now_ms + UDP_RETRY_MS);
}

bool udp_received(struct loop *loop, uint32_t slot, uint32_t generation,
                  const struct udp_done *done) {
  struct udp *u = slab_find(&loop->udps, slot, generation);
  check(u != NULL);
  if (!done->more) u->flags &= (uint8_t)~UDP_ARMED;
  if (!(u->flags & UDP_GONE)) {
    if (done->res >= 0) u->events->on_datagram(u, done->datagram);
    else if (done->res == -ENOBUFS) loop_stat_add(&loop->stats.enobufs, 1);
    else u->events->on_error(u, done->res);
  }
  bool passed = done->datagram && done->datagram->passed;
  if (done->more) return passed;
  again(u, done->res);
  ended(u);
  return passed;
}

void udp_settle(struct loop *loop) { loop->ops->udp->settle(loop); }

/* ---- the loop ---- */

void udp_init(struct loop *loop, uint32_t limit) {
  slab_init(&loop->udps, sizeof(struct udp), UDP_CHUNK, limit);
  list_init(&loop->udp_starved);
}

void udp_rearm(struct loop *loop) {
  for (struct list *l = list_pop_head(&loop->udp_starved); l;
       l = list_pop_head(&loop->udp_starved))
    arm(container_of(l, struct udp, link));
}

void udp_abandon(struct loop *loop) {
  struct slab *udps = &loop->udps;
  for (uint32_t chunk = 0; chunk < udps->chunk_count; chunk++) {
    for (uint32_t i = 0; i < udps->chunk_objects; i++) {
      struct udp *u = (void *)(udps->chunks[chunk] + i * udps->object_size);
      if ((u->head.generation & 1) == 0) continue;
      list_remove(&u->link);
      timer_stop(&loop->wheel, &u->timer);
      if (u->fd >= 0) loop->ops->close_fd(loop, u->fd);
      slab_free(udps, u);
    }
  }
}

void udp_fini(struct loop *loop) {
  udp_abandon(loop);
  slab_fini(&loop->udps);
}
