/* udp_session.c: the life of a session of UDP: an endpoint is chosen for its first datagram (or
 * for each), a connected socket of its own hears the answers, and it ends when nothing came for
 * its idle time, when each datagram has had its answers, by an error that ICMP told of, or to make
 * room. Keeps no settings but its port's, and no datagram: what cannot be passed on is lost, as on
 * any network. Called by front_udp.c and by the loop. */
#include <errno.h>

#include "proxy/udp_priv.h"

static const struct udp_events leg_events;

static uint32_t me(const struct udp_session *s) { return udp_worker(s->port)->config.index; }

/* pool_of is the pool of the listener now; NULL: it was removed. */
static const struct pool *pool_of(const struct udp_session *s) {
  const struct snapshot_listener *current = s->port->serving->current;
  return current ? current->listener->pool : NULL;
}

void udp_client(const struct udp_session *s, struct addr *out) {
  struct peer p = {.family = s->key.client_family, .port = s->key.client_port};
  memcpy(p.ip, s->key.client_ip, sizeof p.ip);
  peer_addr(&p, out);
}

void udp_peer(const struct udp_session *s, struct addr *out) {
  struct peer p = {.family = s->key.proxy_family, .port = s->key.proxy_port};
  if (!p.family) {
    udp_client(s, out);
    return;
  }
  memcpy(p.ip, s->key.proxy_ip, sizeof p.ip);
  peer_addr(&p, out);
}

static void touch(struct udp_session *s) {
  struct worker *w = udp_worker(s->port);
  timer_set(&w->loop->wheel, &s->timer, now_ms(w) + s->port->idle_ms);
}

/* ---- endpoints ---- */

/* outcome tells passive health. A pool that has left learns nothing more. */
static void outcome(const struct udp_session *s, struct endpoint *e, enum end end) {
  struct worker *w = udp_worker(s->port);
  const struct pool *pool = pool_of(s);
  if (end != END_OK) stat_add(&e->rows[me(s)].failures, 1);
  if (!pool || pool->state != e->pool_state) return;
  if (endpoint_outcome(&w->upstream, pool, e, end, end == END_OK ? 200 : 0, now_ms(w)))
    attempt_ejected(w, pool, e, end);
}

static const struct pool_member *pick(const struct udp_session *s, const struct pool *pool) {
  static const struct http_request no_request;
  struct worker *w = udp_worker(s->port);
  struct pool_want want = {.now_ms = now_ms(w), .sticky = PLACE_NONE};
  char text[64];
  struct buf b = buf_of(text, sizeof text);
  struct addr client;
  if (balance_hashed(pool->balance)) {
    udp_client(s, &client);
    addr_write_ip(&client, &b);
    want.hashed = hash_key_find(&pool->spread.hash, &no_request, buf_span(&b), &want.hash);
  }
  return pool_pick(&w->upstream, pool, &want);
}

/* ours: what keeps a socket from being made is this machine's. */
static bool ours(int err) {
  return err == -EAGAIN || err == -EADDRNOTAVAIL || err == -EMFILE || err == -ENFILE ||
         own_trouble(err);
}

/* connect_error: of errors that are ours, -EAGAIN is that no port is left (connect(2)). */
static enum end connect_error(int err) {
  return err == -EAGAIN || err == -EADDRNOTAVAIL ? END_LIMIT_DESCRIPTORS : connect_end(err);
}

/* dial leaves the descriptors alone that clients of HTTP and TCP may come to need: anybody can
 * make sessions. */
static struct udp *dial(struct udp_leg *leg, const struct endpoint *e, int *err) {
  struct worker *w = udp_worker(leg->session->port);
  w->loop->fds_most = w->config.fds_further;
  return udp_connect(w->loop, &e->addr, &leg_events, leg, err);
}

/* leg_open gives one with a socket to e, or NULL and *err. Where this machine has no socket left,
 * another session makes room. */
static struct udp_leg *leg_open(struct udp_session *s, const struct endpoint *e, int *err) {
  struct worker *w = udp_worker(s->port);
  struct udp_leg *leg = slab_new(&w->udp->legs);
  *err = -ENOMEM;
  if (!leg) return NULL;
  leg->session = s;
  leg->udp = dial(leg, e, err);
  if (!leg->udp && ours(*err) && udp_make_room(s->port, s)) {
    udp_settle(w->loop);
    leg->udp = dial(leg, e, err);
  }
  if (leg->udp) return leg;
  slab_free(&w->udp->legs, leg);
  return NULL;
}

/* leg_new: NULL and *why: there is none. */
static struct udp_leg *leg_new(struct udp_session *s, struct endpoint *e, enum end *why) {
  int err;
  struct udp_leg *leg = leg_open(s, e, &err);
  if (!leg) {
    *why = connect_error(err);
    if (!ours(err)) outcome(s, e, *why);
    return NULL;
  }
  leg->endpoint = e;
  object_pin(&e->obj, me(s));
  endpoint_begin(e, me(s));
  stat_add(&e->pool_state->rows[me(s)].requests, 1);
  list_push_tail(&s->legs, &leg->link);
  if (!s->port->settings.responses) udp_coalesce(leg->udp, true); /* DNS comes one by one */
  return leg;
}

static void leg_close(struct udp_leg *leg) {
  struct udp_session *s = leg->session;
  udp_close(leg->udp);
  endpoint_end(leg->endpoint, me(s));
  object_unpin(&leg->endpoint->obj, me(s));
  list_remove(&leg->link);
  slab_free(&udp_worker(s->port)->udp->legs, leg);
}

static struct udp_leg *leg_to(const struct udp_session *s, const struct endpoint *e) {
  for (struct list *l = s->legs.next; l != &s->legs; l = l->next) {
    struct udp_leg *leg = container_of(l, struct udp_leg, link);
    if (leg->endpoint == e) return leg;
  }
  return NULL;
}

/* leg_chosen is where the next datagram goes; NULL and *why: nowhere. */
static struct udp_leg *leg_chosen(struct udp_session *s, enum end *why) {
  const struct pool *pool = pool_of(s);
  bool each = s->port->settings.balance == UDP_BY_DATAGRAM && pool;
  if (!each && !list_empty(&s->legs)) return container_of(s->legs.next, struct udp_leg, link);
  *why = END_DRAIN;
  if (!pool) return NULL;
  const struct pool_member *m = pick(s, pool);
  *why = pool->unresolved && !pool->member_count ? END_RESOLVE_FAILED : END_NONE_HEALTHY;
  if (!m) return NULL;
  struct udp_leg *leg = leg_to(s, m->endpoint);
  return leg ? leg : leg_new(s, m->endpoint, why);
}

bool udp_session_stays(const struct udp_session *s) {
  const struct worker *w = udp_worker(s->port);
  const struct pool *pool = pool_of(s);
  const struct endpoint *e = s->endpoint;
  if (!pool || s->port->settings.balance == UDP_BY_DATAGRAM) return true;
  if (e->pool_state != pool->state || e->rows[me(s)].seen != w->upstream.seq) return false;
  return endpoint_in_service(e, now_ms(w)) || !pool_in_service(pool, now_ms(w));
}

/* ---- the end ---- */

static void forget(struct udp_session *s) {
  struct udp_port *p = s->port;
  struct worker *w = udp_worker(p);
  timer_stop(&w->loop->wheel, &s->timer);
  while (!list_empty(&s->legs)) leg_close(container_of(s->legs.next, struct udp_leg, link));
  if (s->endpoint) object_unpin(&s->endpoint->obj, me(s));
  if (s->watched) object_unpin(&s->watched->obj, me(s));
  if (s->header) slab_free(&w->udp->headers, s->header);
  list_remove(&s->link);
  slab_free(&w->udp->sessions, s);
}

void udp_session_end(struct udp_session *s, enum end end) {
  struct udp_port *p = s->port;
  struct worker *w = udp_worker(p);
  struct listener_state *state = p->serving->state;
  if (end == END_OK && s->trouble != END_OK) end = s->trouble;
  access_session(s, end);
  udp_table_remove(&w->udp->table, s);
  if (s->counted) tally_leave(s->counted);
  forget(s);
  stat_sub(&w->stats.udp_sessions, 1);
  atomic_fetch_sub_explicit(&state->rows[w->config.index].conns, 1, memory_order_relaxed);
  atomic_fetch_sub_explicit(&state->sessions, 1, memory_order_relaxed);
  udp_port_session_gone(p);
}

/* on_idle: where answers are owed an endpoint that gave none has failed. */
static void on_idle(struct timer *timer, uint64_t now) {
  (void)now;
  struct udp_session *s = container_of(timer, struct udp_session, timer);
  uint64_t owed = s->in * s->port->settings.responses;
  if (s->out >= owed) {
    udp_session_end(s, END_OK);
    return;
  }
  for (struct list *l = s->legs.next; l != &s->legs; l = l->next) {
    const struct udp_leg *leg = container_of(l, struct udp_leg, link);
    if (!leg->answered) outcome(s, leg->endpoint, END_UPSTREAM_NO_ANSWER);
  }
  udp_session_end(s, END_UPSTREAM_NO_ANSWER);
}

/* ---- the beginning ---- */

void udp_session_watch(struct udp_session *s, struct rate_state *rate) {
  if (s->watched || !rate) return;
  s->watched = rate;
  object_pin(&rate->obj, me(s));
}

struct udp_session *udp_session_begin(struct udp_port *p, const struct udp_key *key,
                                      const struct guest *guest, enum end *why) {
  struct worker *w = udp_worker(p);
  struct udp_session *s = slab_new(&w->udp->sessions);
  *why = END_LIMIT_MEMORY;
  if (!s) return NULL;
  s->port = p;
  s->key = *key;
  s->begun_ns = now_ns(w);
  list_init(&s->legs);
  list_init(&s->link);
  timer_init(&s->timer, on_idle);
  s->chosen = leg_chosen(s, why);
  if (!s->chosen) {
    forget(s);
    return NULL;
  }
  s->endpoint = s->chosen->endpoint;
  s->counted = guest->counted;
  udp_session_watch(s, guest->limited.rate);
  object_pin(&s->endpoint->obj, me(s));
  list_push_tail(&p->fresh, &s->link);
  udp_table_add(&w->udp->table, s);
  touch(s);
  return s;
}

/* ---- datagrams ---- */

static void drop(struct udp_session *s, enum end why) {
  struct worker *w = udp_worker(s->port);
  stat_add(why == END_LIMIT_DATAGRAM ? &w->stats.udp_unsent : &w->stats.udp_refused, 1);
  s->trouble = why;
}

/* hear moves who goes on after an answer behind all others. */
static void hear(struct udp_session *s) {
  if (!s->out) return;
  s->steady = true;
  s->heard_ms = now_ms(udp_worker(s->port));
  list_remove(&s->link);
  list_push_tail(&s->port->steady, &s->link);
}

void udp_session_up(struct udp_session *s, struct udp_datagram *d, const struct udp_told *told) {
  struct worker *w = udp_worker(s->port);
  enum end why = END_OK;
  struct udp_leg *leg = s->chosen ? s->chosen : leg_chosen(s, &why);
  s->chosen = NULL;
  touch(s);
  if (!leg) {
    drop(s, why);
    return;
  }
  if (!udp_tell(s, pool_of(s), d, told)) {
    drop(s, END_LIMIT_DATAGRAM);
    return;
  }
  hear(s);
  s->in += udp_count(d);
  s->bytes_in += d->bytes.len;
  stat_add(&w->stats.udp_in, udp_count(d));
  stat_add(&w->stats.udp_bytes_in, d->bytes.len);
  udp_pass(leg->udp, d, NULL, NULL);
}

static void on_answer(struct udp *u, struct udp_datagram *d) {
  struct udp_leg *leg = u->owner;
  struct udp_session *s = leg->session;
  struct worker *w = udp_worker(s->port);
  struct addr peer;
  struct udp_local local = {.family = s->key.local_family, .interface = s->key.interface};
  memcpy(local.ip, s->key.local_ip, sizeof local.ip);
  udp_peer(s, &peer);
  s->trouble = END_OK; /* it is over */
  s->out += udp_count(d);
  s->bytes_out += d->bytes.len;
  stat_add(&w->stats.udp_out, udp_count(d));
  stat_add(&w->stats.udp_bytes_out, d->bytes.len);
  udp_pass(s->port->udp, d, &peer, &local);
  touch(s);
  if (!leg->answered) outcome(s, leg->endpoint, END_OK);
  leg->answered = true;
  uint64_t each = s->port->settings.responses;
  if (each && s->out >= s->in * each) udp_session_end(s, END_OK);
}

/* one_lost: it is about one datagram, and not the endpoint. */
static bool one_lost(int err) {
  return err == -EAGAIN || err == -EMSGSIZE || err == -EPERM || err == -EINVAL || own_trouble(err);
}

static void on_leg_error(struct udp *u, int err) {
  struct udp_leg *leg = u->owner;
  struct udp_session *s = leg->session;
  if (one_lost(err)) {
    stat_add(&udp_worker(s->port)->stats.udp_unsent, 1);
    return;
  }
  enum end end = connect_end(err);
  outcome(s, leg->endpoint, end);
  if (s->port->settings.balance == UDP_BY_SESSION) {
    udp_session_end(s, end);
    return;
  }
  s->trouble = end; /* the next datagram chooses anew, among those that are left */
  leg_close(leg);
}

static const struct udp_events leg_events = {.on_datagram = on_answer, .on_error = on_leg_error};
