/* front_udp.c: ports of listeners with protocol = "udp": whose datagrams are taken, the sessions
 * that they belong to, and what becomes of a port when its listener leaves or weir drains: it
 * stays for the answers to its sessions, takes no new ones, and goes with the last. The kernel
 * gives each 4-tuple to one worker (SO_REUSEPORT). Called by serve.c and the loop. */
#include "proxy/udp_priv.h"
#include "weir/base/mem.h"

#define SESSION_CHUNK 16u
/* SILENT_MS without a word of its client, and a steady session may have to make room. */
#define SILENT_MS 5000u
/* LOOK_MS between looks whether a port that hears no more is empty. */
#define LOOK_MS 20u
#define QUIET_LOOKS 2u
#define LOOKS_MAX 250u

static const struct udp_events port_events;

/* ---- what a worker has for it ---- */

static void front_make(struct worker *w) {
  uint32_t most = w->loop->udps.limit;
  if (w->udp) return;
  w->udp = mem_alloc(sizeof *w->udp);
  udp_table_init(&w->udp->table, most);
  slab_init(&w->udp->sessions, sizeof(struct udp_session), SESSION_CHUNK, most);
  slab_init(&w->udp->legs, sizeof(struct udp_leg), SESSION_CHUNK, most);
  slab_init(&w->udp->headers, sizeof(struct udp_header), SESSION_CHUNK, most);
}

void front_udp_trim(struct worker *w) {
  if (!w->udp) return;
  slab_trim(&w->udp->sessions);
  slab_trim(&w->udp->legs);
  slab_trim(&w->udp->headers);
}

void front_udp_fini(struct worker *w) {
  if (!w->udp) return;
  udp_table_fini(&w->udp->table);
  slab_fini(&w->udp->sessions);
  slab_fini(&w->udp->legs);
  slab_fini(&w->udp->headers);
  mem_free(w->udp);
  w->udp = NULL;
}

/* ---- room ---- */

static struct udp_session *first_but(struct list *sessions, const struct udp_session *whose) {
  struct list *l = sessions->next;
  if (l != sessions && container_of(l, struct udp_session, link) == whose) l = l->next;
  return l == sessions ? NULL : container_of(l, struct udp_session, link);
}

/* silent_but: steady is no proof: who forges a source can send a second datagram blindly. */
static struct udp_session *silent_but(struct udp_port *p, const struct udp_session *whose) {
  struct udp_session *s = first_but(&p->steady, whose);
  return s && now_ms(udp_worker(p)) - s->heard_ms >= SILENT_MS ? s : NULL;
}

/* fresh_elsewhere is the oldest fresh one of all ports but p; the last one of a port that leaves
 * stays, for the port would go with it. */
static struct udp_session *fresh_elsewhere(const struct udp_port *p) {
  const struct worker *w = udp_worker(p);
  struct udp_session *oldest = NULL;
  for (struct list *l = w->servings.next; l != &w->servings; l = l->next) {
    struct udp_port *other = container_of(l, struct serving, link)->udp;
    if (!other || other == p || (other->leaving && other->session_count == 1)) continue;
    struct udp_session *s = first_but(&other->fresh, NULL);
    if (s && (!oldest || s->begun_ns < oldest->begun_ns)) oldest = s;
  }
  return oldest;
}

static bool evict(struct worker *w, struct udp_session *s) {
  if (!s) return false;
  stat_add(&w->stats.udp_evicted, 1);
  udp_session_end(s, END_LIMIT_SESSION_EVICTED);
  return true;
}

/* may_begin: nobody makes room for a session that finds no endpoint. */
static bool may_begin(const struct udp_port *p) {
  const struct snapshot_listener *current = p->serving->current;
  return current && pool_in_service(current->listener->pool, now_ms(udp_worker(p)));
}

/* make_own_room: of p's sessions alone, which limits.sessions bounds. */
static bool make_own_room(struct udp_port *p) {
  struct udp_session *s = first_but(&p->fresh, NULL);
  return evict(udp_worker(p), s ? s : silent_but(p, NULL));
}

bool udp_make_room(struct udp_port *p, const struct udp_session *whose) {
  struct udp_session *s = first_but(&p->fresh, whose);
  if (!s && may_begin(p)) s = fresh_elsewhere(p);
  return evict(udp_worker(p), s ? s : silent_but(p, whose));
}

static bool take_below(_Atomic uint32_t *count, uint32_t most) {
  uint32_t now = atomic_load_explicit(count, memory_order_relaxed);
  do {
    if (now >= most) return false;
  } while (!atomic_compare_exchange_weak_explicit(count, &now, now + 1, memory_order_relaxed,
                                                  memory_order_relaxed));
  return true;
}

/* full: sessions have what connections leave of process.max_connections. Connections do not ask
 * how many sessions there are: sources can be forged, and must keep no client of TCP out. */
static bool full(const struct worker *w) {
  return worker_conns(w) + loop_stat_get(&w->stats.udp_sessions) >= w->conns_share;
}

/* overloaded: END_OK, or what there is too much of. Where sessions are, one makes room. */
static enum end overloaded(struct udp_port *p) {
  struct worker *w = udp_worker(p);
  enum end end = overload_session(w, TCP_PRIORITY, loop_stat_get(&w->stats.udp_sessions));
  if (end != END_OVERLOAD_CONNECTIONS) return end;
  enum end alone = overload_session(w, TCP_PRIORITY, 0);
  if (alone != END_OK) return alone;
  return udp_make_room(p, NULL) ? END_OK : end;
}

static bool take_place(struct udp_port *p) {
  uint32_t most = p->serving->current->listener->limits.sessions;
  _Atomic uint32_t *count = &p->serving->state->sessions;
  return take_below(count, most) || (make_own_room(p) && take_below(count, most));
}

static void leave_place(struct udp_port *p) {
  atomic_fetch_sub_explicit(&p->serving->state->sessions, 1, memory_order_relaxed);
}

/* take_room: END_OK, or why there is none. The listener's own place comes first: others make no
 * room for what would not come in then. */
static enum end take_room(struct udp_port *p) {
  if (!take_place(p)) return END_LIMIT_SESSIONS;
  enum end end = overloaded(p);
  if (end == END_OK && full(udp_worker(p)) && !udp_make_room(p, NULL)) end = END_LIMIT_CONNECTIONS;
  if (end != END_OK) leave_place(p);
  return end;
}

/* ---- a client's datagram ---- */

/* put_proxy: answers go to who sent it. Two proxies may tell of one client, and one of many. A
 * client that sends to two addresses of its proxy has two sessions, as with two of weir's own. */
static void put_proxy(struct udp_key *key, const struct addr *from, const struct addr *to) {
  struct peer proxy, asked;
  peer_keep(&proxy, from);
  peer_keep(&asked, to);
  key->proxy_family = proxy.family;
  key->proxy_port = proxy.port;
  memcpy(key->proxy_ip, proxy.ip, sizeof key->proxy_ip);
  key->asked_family = asked.family;
  key->asked_port = asked.port;
  memcpy(key->asked_ip, asked.ip, sizeof key->asked_ip);
}

static void key_of(const struct udp_port *p, const struct udp_datagram *d,
                   const struct udp_told *told, struct udp_key *key) {
  struct peer client;
  peer_keep(&client, told->client.len ? &told->client : &d->from);
  *key = (struct udp_key){.port = p->number,
                          .client_port = client.port,
                          .client_family = client.family,
                          .local_family = d->to.family};
  memcpy(key->client_ip, client.ip, sizeof key->client_ip);
  memcpy(key->local_ip, d->to.ip, sizeof key->local_ip);
  bool link_local = d->to.family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&d->from.in6.sin6_addr);
  if (link_local) key->interface = d->to.interface;
  if (told->client.len) put_proxy(key, &d->from, &told->to);
}

static bool is_any(const struct peer *a) {
  static const uint8_t zero[sizeof a->ip];
  return memcmp(a->ip, zero, sizeof zero) == 0;
}

/* is_port: p hears what goes to a, which is an own address of this machine if p has them all. */
static bool is_port(const struct udp_port *p, const struct addr *a) {
  struct peer own, other;
  if (addr_eq(&p->own, a)) return true;
  peer_keep(&own, &p->own);
  peer_keep(&other, a);
  return is_any(&own) && own.family == other.family && own.port == other.port &&
         udp_is_here(udp_worker(p)->loop, a);
}

/* answers: d seems to come from who answers datagrams himself, an endpoint or a port of weir: the
 * answer to the answer would go round and round between them (CVE-2024-2169). */
static bool answers(const struct udp_port *p, const struct udp_datagram *d) {
  const struct worker *w = udp_worker(p);
  const struct pool *pool = p->serving->current->listener->pool;
  for (uint32_t i = 0; i < pool->member_count; i++)
    if (addr_eq(&pool->members[i].endpoint->addr, &d->from)) return true;
  for (struct list *l = w->servings.next; l != &w->servings; l = l->next) {
    const struct udp_port *other = container_of(l, struct serving, link)->udp;
    if (other && is_port(other, &d->from)) return true;
  }
  return false;
}

static const struct addr *client_of(const struct udp_datagram *d, const struct udp_told *told) {
  return told->client.len ? &told->client : &d->from;
}

static void refuse(struct udp_port *p, const struct udp_datagram *d, const struct udp_told *told,
                   enum end end) {
  struct access_from from = {.peer = &d->from,
                             .id = told->id,
                             .rate = rate_name(told->guest.limited.rate),
                             .reason = told->reason};
  if (told->client.len) from.client = &told->client;
  stat_add(&udp_worker(p)->stats.udp_refused, 1);
  gate_turn_away(p->serving, &from, end);
}

/* each_asks: where answers are counted each datagram is a question, and rates are asked about it;
 * else about sessions: how many datagrams these have is their own affair. */
static bool each_asks(const struct udp_port *p) {
  const struct snapshot_listener *current = p->serving->current;
  return p->settings.responses && current && current->listener->policy_count;
}

/* shorten leaves the first `count` of a train. */
static void shorten(struct udp_datagram *d, uint64_t count) {
  d->bytes.len = count * d->segment;
  if (count == 1) d->segment = 0;
}

/* ask_rates: END_OK, or that rates refuse d. Of a train of questions it leaves as many as they
 * grant, and refuses the others. */
static enum end ask_rates(struct udp_port *p, struct udp_datagram *d, struct udp_told *told) {
  const struct addr *client = client_of(d, told);
  uint64_t count = each_asks(p) ? udp_count(d) : 1, good = 0;
  struct limited refusing = {.rate = NULL}, watching = {.rate = NULL};
  for (uint64_t i = 0; i < count; i++) {
    struct limited one = {.rate = NULL};
    bool granted = limit_connection(p->serving, client, &one) == END_OK;
    good += granted;
    if (!granted) refusing = one;
    else if (one.rate) watching = one;
  }
  told->guest.limited = refusing;
  /* The last of a train of which none is left is the caller's to refuse. */
  for (uint64_t n = good ? good : 1; n < count; n++) refuse(p, d, told, END_LIMIT_RATE);
  if (!good) return END_LIMIT_RATE;
  told->guest.limited = watching;
  if (good < count) shorten(d, good);
  return END_OK;
}

/* may_come: END_OK, or why it gets no session. Who is denied costs no call of the kernel. again:
 * its session has just ended with its endpoint, and rates were asked when that one began. */
static enum end may_come(struct udp_port *p, struct udp_datagram *d, struct udp_told *told,
                         bool again) {
  struct guest *guest = &told->guest;
  enum end end = gate(p->serving, client_of(d, told), &guest->counted);
  if (end == END_OK && answers(p, d)) end = END_DENIED_PEER;
  if (end == END_OK && (!again || each_asks(p))) end = ask_rates(p, d, told);
  if (end != END_OK && guest->counted) tally_leave(guest->counted);
  return end;
}

/* may_go_on is s, or NULL and *why d, which is of s, is refused; s goes on either way. */
static struct udp_session *may_go_on(struct udp_session *s, struct udp_datagram *d,
                                     struct udp_told *told, enum end *why) {
  if (!each_asks(s->port)) return s;
  *why = ask_rates(s->port, d, told);
  if (*why != END_OK) return NULL;
  udp_session_watch(s, told->guest.limited.rate);
  return s;
}

static void count_begun(struct udp_port *p) {
  struct worker *w = udp_worker(p);
  struct listener_row *row = &p->serving->state->rows[w->config.index];
  p->session_count++;
  stat_add(&w->stats.udp_sessions, 1);
  stat_add(&w->stats.udp_sessions_total, 1);
  stat_add(&row->accepted, 1);
  atomic_fetch_add_explicit(&row->conns, 1, memory_order_relaxed);
  if (!timer_armed(&w->trim_timer))
    timer_set(&w->loop->wheel, &w->trim_timer, now_ms(w) + TRIM_MS);
}

/* begin: NULL and *why: the client, who was let in, gets no session. */
static struct udp_session *begin(struct udp_port *p, const struct udp_key *key,
                                 const struct guest *guest, enum end *why) {
  struct udp_session *s = NULL;
  *why = take_room(p);
  if (*why == END_OK) {
    s = udp_session_begin(p, key, guest, why);
    if (!s) leave_place(p);
  }
  if (s) count_begun(p);
  else if (guest->counted) tally_leave(guest->counted);
  return s;
}

/* as_asked gives d, which came to p, the own address that it was sent to. */
static void as_asked(const struct udp_port *p, struct udp_datagram *d) {
  struct peer own;
  if (d->to.family) return;
  peer_keep(&own, &p->own);
  d->to.family = own.family;
  if (own.family == AF_INET6) d->to.interface = p->own.in6.sin6_scope_id;
  memcpy(d->to.ip, own.ip, sizeof own.ip);
}

/* covers: what is sent to p's address, or to the one of p's that d was sent to, other gets too;
 * d NULL: to any of them. */
static bool covers(const struct udp_port *other, const struct udp_port *p,
                   const struct udp_datagram *d) {
  struct peer theirs, own;
  peer_keep(&theirs, &other->own);
  peer_keep(&own, &p->own);
  if (theirs.family != own.family || theirs.port != own.port) return false;
  if (is_any(&theirs)) return true;
  if (!is_any(&own)) return addr_eq(&other->own, &p->own);
  return !d || memcmp(theirs.ip, d->to.ip, sizeof theirs.ip) == 0;
}

/* successor is the port of another listener of this worker that has p's address now (that d was
 * sent to): as long as p is there the kernel gives it a share of the new clients, or all where the
 * other one is bound to all addresses. */
static struct udp_port *successor(const struct udp_port *p, const struct udp_datagram *d) {
  const struct worker *w = udp_worker(p);
  for (struct list *l = w->servings.next; l != &w->servings; l = l->next) {
    const struct serving *sv = container_of(l, struct serving, link);
    struct udp_port *other = sv->udp;
    if (other && !other->leaving && sv->current && covers(other, p, d)) return other;
  }
  return NULL;
}

/* session_of is the one of a datagram, begun with it or not; p is not leaving. */
static struct udp_session *session_of(struct udp_port *p, struct udp_datagram *d,
                                      struct udp_told *told, enum end *why) {
  struct udp_key key;
  key_of(p, d, told, &key);
  struct udp_session *s = udp_table_find(&udp_worker(p)->udp->table, &key);
  if (s && udp_session_stays(s)) return may_go_on(s, d, told, why);
  bool again = s != NULL;
  if (s) udp_session_end(s, END_UPSTREAM_LEFT);
  *why = may_come(p, d, told, again);
  return *why == END_OK ? begin(p, &key, &told->guest, why) : NULL;
}

/* handed_on is the session of a datagram that came to p, but is another port's now. */
static struct udp_session *handed_on(struct udp_port *p, struct udp_datagram *d,
                                     struct udp_told *told, enum end *why) {
  struct udp_port *other = successor(p, d);
  struct peer own;
  if (!other) return NULL;
  *why = udp_hear(other, other->serving->current->listener, d, told);
  if (*why != END_OK) return NULL;
  peer_keep(&own, &other->own);
  if (is_any(&own)) as_asked(p, d);
  else d->to = (struct udp_local){0}; /* it has but one */
  return session_of(other, d, told, why);
}

/* left_behind is the session of a datagram that came to a port that takes no new ones. */
static struct udp_session *left_behind(struct udp_port *p, struct udp_datagram *d,
                                       struct udp_told *told, enum end *why) {
  struct udp_session *s = NULL;
  struct span whole = d->bytes;
  struct udp_key key;
  if (udp_hear(p, NULL, d, told) == END_OK) {
    key_of(p, d, told, &key);
    s = udp_table_find(&udp_worker(p)->udp->table, &key);
  }
  if (s) return may_go_on(s, d, told, why);
  *told = (struct udp_told){.client = {.len = 0}}; /* nobody asked who says so */
  d->bytes = whole;
  *why = END_DRAIN;
  return handed_on(p, d, told, why);
}

static struct udp_session *found(struct udp_port *p, struct udp_datagram *d,
                                 struct udp_told *told, enum end *why) {
  const struct snapshot_listener *current = p->serving->current;
  if (p->leaving || !current) return left_behind(p, d, told, why);
  *why = udp_hear(p, current->listener, d, told);
  return *why == END_OK ? session_of(p, d, told, why) : NULL;
}

static void on_client(struct udp *u, struct udp_datagram *d) {
  struct udp_port *p = u->owner;
  struct udp_told told;
  enum end why;
  if (addr_port(&d->from) == 0) { /* nobody can be answered there */
    stat_add(&udp_worker(p)->stats.udp_refused, 1);
    return;
  }
  struct udp_session *s = found(p, d, &told, &why);
  if (s) udp_session_up(s, d, &told);
  else refuse(p, d, &told, why);
}

/* Of a port's own socket nothing is told but what became of one datagram. */
static void on_port_error(struct udp *u, int err) {
  const struct udp_port *p = u->owner;
  (void)err;
  stat_add(&udp_worker(p)->stats.udp_unsent, 1);
}

static const struct udp_events port_events = {.on_datagram = on_client,
                                              .on_error = on_port_error};

/* ---- ports ---- */

/* Each turn takes one out (udp_session_end, whatever its state). */
static void end_all(struct list *sessions) {
  while (!list_empty(sessions))
    udp_session_end(container_of(sessions->next, struct udp_session, link), END_DRAIN_TUNNEL);
}

static void end_sessions(struct udp_port *p) {
  end_all(&p->fresh);
  end_all(&p->steady);
}

/* close_port: its sessions end, if there are any. */
static void close_port(struct udp_port *p) {
  struct serving *sv = p->serving;
  p->session_count++; /* it goes here */
  end_sessions(p);
  check(p->session_count == 1);
  timer_stop(&sv->w->loop->wheel, &p->timer);
  udp_close(p->udp);
  sv->udp = NULL;
  mem_free(p);
}

static void close_and_free(struct udp_port *p) {
  struct serving *sv = p->serving;
  close_port(p);
  serving_free_if_done(sv);
}

static void look_again(struct udp_port *p) {
  struct worker *w = udp_worker(p);
  timer_set(&w->loop->wheel, &p->timer, now_ms(w) + LOOK_MS);
}

/* depart closes a port that takes no new clients and has no sessions left. Where another one has
 * its address nothing may be lost that came here: it hears no more, and is closed when all of that
 * was handed on. */
static void depart(struct udp_port *p) {
  p->retired = successor(p, NULL) && udp_retire(p->udp);
  if (p->retired) look_again(p);
  else close_and_free(p);
}

/* Twice nothing: a datagram may be between the kernel's choice of a socket and its queue. */
static void look(struct udp_port *p) {
  p->quiet_looks = udp_empty(p->udp) ? p->quiet_looks + 1 : 0;
  bool done = p->quiet_looks == QUIET_LOOKS || ++p->looks == LOOKS_MAX;
  if (!done && successor(p, NULL)) look_again(p);
  else close_and_free(p);
}

static void on_timer(struct timer *timer, uint64_t now) {
  (void)now;
  struct udp_port *p = container_of(timer, struct udp_port, timer);
  if (p->retired) {
    look(p);
    return;
  }
  p->session_count++; /* it goes here */
  end_sessions(p);
  p->session_count--;
  depart(p);
}

void udp_port_session_gone(struct udp_port *p) {
  check(p->session_count > 0);
  if (--p->session_count == 0 && p->leaving) depart(p);
}

void front_udp_start(struct serving *sv) {
  struct worker *w = sv->w;
  front_make(w);
  struct udp_port *p = mem_alloc(sizeof *p);
  p->serving = sv;
  p->number = ++w->udp->ports;
  list_init(&p->fresh);
  list_init(&p->steady);
  timer_init(&p->timer, on_timer);
  p->udp = udp_listen(w->loop, sv->fd, &port_events, p);
  check(p->udp != NULL && udp_local_addr(p->udp, &p->own)); /* as with conn_listen */
  sv->udp = p;
  front_udp_install(sv);
}

void front_udp_install(struct serving *sv) {
  struct udp_port *p = sv->udp;
  if (!sv->current) return;
  p->idle_ms = sv->current->listener->timeouts.idle_ms;
  p->settings = sv->current->listener->udp;
  p->proxied = sv->current->listener->proxied;
  /* Else each goes its own way, or has a header of its own. */
  udp_coalesce(p->udp, p->settings.balance == UDP_BY_SESSION && !p->proxied);
}

/* recount counts the clients of sessions in the table of their new listener. Who would not be let
 * in there stays all the same. */
static void recount(struct serving *sv, struct list *sessions) {
  for (struct list *l = sessions->next; l != sessions; l = l->next) {
    struct udp_session *s = container_of(l, struct udp_session, link);
    struct addr client;
    if (s->counted) tally_leave(s->counted);
    s->counted = NULL;
    udp_client(s, &client);
    if (sv->current && gate(sv, &client, &s->counted) != END_OK) s->counted = NULL;
  }
}

void front_udp_renamed(struct serving *sv, struct listener_state *before) {
  struct udp_port *p = sv->udp;
  uint32_t me = sv->w->config.index, count = p->session_count;
  atomic_fetch_sub_explicit(&before->sessions, count, memory_order_relaxed);
  atomic_fetch_sub_explicit(&before->rows[me].conns, count, memory_order_relaxed);
  atomic_fetch_add_explicit(&sv->state->sessions, count, memory_order_relaxed);
  atomic_fetch_add_explicit(&sv->state->rows[me].conns, count, memory_order_relaxed);
  recount(sv, &p->fresh);
  recount(sv, &p->steady);
}

void front_udp_leave(struct serving *sv, uint64_t deadline_ms) {
  struct udp_port *p = sv->udp;
  uint64_t before_ms = p->timer.due_ms; /* WHEEL_NEVER, or of its removal */
  if (p->retired) return;
  p->leaving = true;
  if (deadline_ms < before_ms) timer_set(&sv->w->loop->wheel, &p->timer, deadline_ms);
  p->session_count++;
  udp_port_session_gone(p);
}

void front_udp_end(struct serving *sv) { close_port(sv->udp); }
