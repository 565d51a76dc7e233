/* serve.c: listening descriptors: which there are, whose each is now, who is accepted, when nobody
 * is; the end of their connections in a drain or when a listener is removed. One that was let in
 * is down.c's. Called by worker.c, overload.c and the loop. */
#include <sys/socket.h>

#include "proxy_priv.h"
#include "weir/base/mem.h"

/* ---- accept ---- */

void serving_free_if_done(struct serving *sv) {
  if (sv->conn || sv->udp || sv->down_count) return;
  list_remove(&sv->link);
  object_unpin(&sv->state->obj, sv->w->config.index);
  mem_free(sv);
}

void serve_pause(struct worker *w, uint8_t why, bool pause) {
  bool before = w->paused != 0;
  w->paused = (uint8_t)(pause ? w->paused | why : w->paused & ~why);
  if (before == (w->paused != 0)) return;
  for (struct list *l = w->servings.next; l != &w->servings; l = l->next) {
    struct serving *sv = container_of(l, struct serving, link);
    if (!sv->conn) continue;
    if (pause) conn_listen_pause(sv->conn);
    else conn_listen_resume(sv->conn);
  }
}

void serve_count_refused(struct serving *sv) {
  stat_add(&sv->w->stats.downstream_refused, 1);
  stat_add(&sv->state->rows[sv->w->config.index].refused, 1);
}

static void refuse(struct serving *sv, struct conn *c) {
  serve_count_refused(sv);
  conn_close(c);
}

/* takes_left: a client that has reset its connection already may have left something for the
 * endpoint: what it is told, and its TLS here, would need it. */
static bool takes_left(const struct listener *l) { return l->serves != SERVES_HTTP && !l->tls; }

/* peer_get is false for a TCP client that has reset its connection already, and left nothing: the
 * system does not say its address, and nobody may take it for a unix socket's. */
static bool peer_get(const struct serving *sv, struct conn *c, struct addr *out) {
  if (conn_peer(c, out)) return true;
  if (takes_left(sv->current->listener) && conn_peer_left(c, out)) return true;
  *out = (struct addr){.len = sizeof(sa_family_t)};
  out->sa.sa_family = AF_UNIX;
  return c->flags & CONN_UNIX;
}

/* hurry_idle gives connections between requests the last chance of a drain. */
static void hurry_idle(struct serving *sv) {
  for (struct list *l = sv->downs.next; l != &sv->downs; l = l->next) {
    struct down *d = container_of(l, struct down, link);
    if (d->h2) h2_drain(d->h2);
    else if (!d->stream) conn_timer(d->conn, now_ms(sv->w) + DRAIN_IDLE_MS);
  }
}

/* listener_stopped: whoever had been let in is here now. */
static void listener_stopped(struct serving *sv) {
  sv->conn = NULL;
  hurry_idle(sv);
  serving_free_if_done(sv);
}

/* all_full: not even one to be told so is taken. */
static bool all_full(const struct worker *w) {
  return worker_conns(w) >= w->conns_share + OVER_RESERVE;
}

static void on_accept(struct conn *listener, struct conn *c) {
  struct serving *sv = listener->owner;
  struct worker *w = sv->w;
  if (!c) {
    listener_stopped(sv);
    return;
  }
  if (!sv->current) { /* it was removed */
    stat_add(&sv->state->rows[w->config.index].refused, 1);
    conn_close(c);
    return;
  }
  struct addr peer;
  struct guest guest;
  if (!peer_get(sv, c, &peer)) {
    stat_add(&w->stats.ends[END_CLIENT_RESET], 1);
    conn_close(c);
    return;
  }
  enum end end = gate_accept(sv, &peer, &guest);
  if (end != END_OK) {
    const struct access_from from = {.peer = &peer, .rate = rate_name(guest.limited.rate)};
    gate_refuse(sv, c, &from, end);
    return;
  }
  room_make(w);
  struct down *d = all_full(w) ? NULL : down_new(sv, c, &peer);
  if (all_full(w)) room_watch(w);
  if (!d) {
    if (guest.counted) tally_leave(guest.counted);
    refuse(sv, c);
    return;
  }
  down_let_in(d, &guest);
  overload_accepted(w);
  if (sv->current->listener->proxied) proxied_start(d, &peer);
  else if (!down_start(d)) down_close(d, false);
}

void serve_resume(struct worker *w) {
  if (w->paused & PAUSE_FULL && room_left(w)) serve_pause(w, PAUSE_FULL, false);
}

/* ---- listening descriptors ---- */

static struct serving *serving_find(struct worker *w, int fd) {
  for (struct list *l = w->servings.next; l != &w->servings; l = l->next) {
    struct serving *sv = container_of(l, struct serving, link);
    if (sv->fd == fd) return sv;
  }
  return NULL;
}

/* first_ms is in what time from accept on a client has to say something; 0: any. */
static uint32_t first_ms(const struct listener *l) {
  bool shakes = l->tls || l->serves == SERVES_TLS, proxied = l->proxied != PROXIED_NO;
  if (!shakes) return l->timeouts.header_ms;
  uint32_t header_ms = l->timeouts.header_ms, handshake_ms = l->timeouts.handshake_ms;
  return proxied && header_ms && header_ms < handshake_ms ? header_ms : handshake_ms;
}

/* defer_of is for how many seconds clients that have not sent a byte need not be accepted. Not at
 * all with TCP, where nothing of theirs comes first: the server may be the one to speak. Else so
 * that at most half of the time is added in which they have to: the system gives them at its
 * second, third or fourth SYN-ACK, after 1, 3 or 7 seconds. */
static uint32_t defer_of(const struct listener *l) {
  if (l->serves == SERVES_TCP && !l->tls && l->proxied != PROXIED_ALL) return 0;
  uint32_t most_ms = first_ms(l) / 2;
  if (!most_ms || most_ms >= 7000) return LISTEN_DEFER_SECONDS;
  return most_ms >= 3000 ? 3 : most_ms >= 1000 ? 1 : 0;
}

static void set_deferred(struct serving *sv) {
  uint32_t seconds = sv->current ? defer_of(sv->current->listener) : sv->defer_s;
  if (sv->shared || seconds == sv->defer_s) return;
  sv->defer_s = seconds;
  conn_listen_defer(sv->conn, seconds);
}

/* current_of is the listener of sv in the snapshot; NULL: there is none, or it serves by another
 * kind of socket now. */
static const struct snapshot_listener *current_of(const struct serving *sv, bool datagrams) {
  const struct snapshot *snapshot = sv->w->snapshot;
  const struct snapshot_listener *found =
      snapshot ? snapshot_find_listener(snapshot, sv->state->obj.name) : NULL;
  return found && (found->listener->serves == SERVES_UDP) == datagrams ? found : NULL;
}

void serve_start(struct worker *w, const struct worker_msg *msg) {
  struct serving *sv = mem_alloc(sizeof *sv);
  sv->w = w;
  sv->fd = msg->fd;
  sv->shared = msg->shared;
  sv->defer_s = LISTEN_DEFER_SECONDS; /* as it was made */
  sv->state = msg->state;
  object_pin(&sv->state->obj, w->config.index);
  list_init(&sv->downs);
  list_push_tail(&w->servings, &sv->link);
  sv->current = current_of(sv, msg->datagrams);
  if (msg->datagrams) {
    front_udp_start(sv);
    return;
  }
  if (sv->current && sv->current->listener->tls) tls_prepare(w->loop);
  sv->conn = conn_listen(w->loop, sv->fd, on_accept, sv);
  check(sv->conn != NULL); /* the slab has room for listeners beside all connections */
  set_deferred(sv);
}

/* close_idle closes connections between requests of a removed listener, whose requests nobody
 * could route, and lets the others end after theirs. */
static void close_idle(struct serving *sv) {
  for (struct list *l = sv->downs.next, *next; l != &sv->downs; l = next) {
    next = l->next;
    struct down *d = container_of(l, struct down, link);
    if (d->h2) h2_drain(d->h2);
    else if (d->stream || conn_held(d->conn)) d->flags |= DOWN_CLOSE;
    else if (d->requests) down_close(d, true);
    else conn_timer(d->conn, now_ms(sv->w) + DRAIN_IDLE_MS);
  }
}

/* The connections of a listener are looked at in turn: those that were stand last. */
static uint32_t hurry_some(struct serving *sv, uint32_t most, uint64_t close_ms) {
  uint32_t looked = 0;
  for (; looked < most && looked < sv->down_count; looked++) {
    struct down *d = container_of(sv->downs.next, struct down, link);
    list_remove(&d->link);
    list_push_tail(&sv->downs, &d->link);
    bool idle = !d->stream && !(d->flags & (DOWN_BUSY | DOWN_BLOCKED)) && d->requests &&
                !down_has_rest(d) && !conn_held(d->conn);
    if (idle && d->conn->timer.due_ms > close_ms) conn_timer(d->conn, close_ms);
  }
  return looked;
}

void serve_hurry_idle(struct worker *w, uint32_t most, uint64_t close_ms) {
  for (struct list *l = w->servings.next; l != &w->servings && most; l = l->next)
    most -= hurry_some(container_of(l, struct serving, link), most, close_ms);
}

/* sessions_end says when sessions of a removed listener end that are no tunnels yet (tunnels hear
 * it of tunnel.c): they, too, have no more than one drain time, however long they wait. */
static void sessions_end(struct serving *sv) {
  struct worker *w = sv->w;
  if (sv->end_ms) return;
  sv->end_ms = now_ms(w) + (w->snapshot ? w->snapshot->drain_ms : 0);
  for (struct list *l = sv->downs.next; l != &sv->downs; l = l->next) {
    struct stream *s = container_of(l, struct down, link)->stream;
    if (!s || !(s->flags & STREAM_TCP) || s->step == STEP_TUNNEL) continue;
    s->deadline_ms = sv->end_ms;
    stream_timer(s);
  }
}

void serve_stop(struct worker *w, struct listener_state *state, int fd) {
  (void)state;
  struct serving *sv = serving_find(w, fd);
  if (!sv) return;
  if (!sv->udp) {
    conn_listen_drain(sv->conn);
    conn_close(sv->conn);
  }
  sv->conn = NULL;
  sv->fd = -1;
  sv->current = NULL;
  if (sv->udp) {
    front_udp_leave(sv, now_ms(w) + (w->snapshot ? w->snapshot->drain_ms : 0));
    return;
  }
  sessions_end(sv);
  if (w->snapshot) tunnel_check_routes(w); /* its own, where only its address went */
  sv->down_count++; /* held, so that close_idle may close the last one */
  close_idle(sv);
  sv->down_count--;
  serving_free_if_done(sv);
}

void serve_rename(struct worker *w, const struct worker_msg *msg) {
  struct serving *sv = serving_find(w, msg->fd);
  if (sv) sv->heir = msg->state;
}

static void install_udp(struct serving *sv) {
  struct listener_state *before = sv->state;
  uint32_t me = sv->w->config.index;
  if (sv->heir) sv->state = sv->heir;
  sv->heir = NULL;
  sv->current = current_of(sv, true);
  if (sv->state != before) {
    object_pin(&sv->state->obj, me);
    front_udp_renamed(sv, before);
    object_unpin(&before->obj, me);
  }
  front_udp_install(sv);
}

/* install gives sv its listener of the snapshot. Where there is none any more, whom the system had
 * accepted for it is let in before it goes: sessions of TCP begin, and end with the others. */
static void install(struct serving *sv) {
  const struct snapshot_listener *now = current_of(sv, false);
  if (sv->current && !now) conn_listen_drain(sv->conn);
  sv->current = now;
  if (now) sv->end_ms = 0;
  else sessions_end(sv);
}

void serve_install(struct worker *w) {
  for (struct list *l = w->servings.next; l != &w->servings; l = l->next) {
    struct serving *sv = container_of(l, struct serving, link);
    if (sv->fd < 0 || (!sv->conn && !sv->udp)) continue; /* it was stopped */
    const struct listener *before = sv->current ? sv->current->listener : NULL;
    if (sv->udp) {
      install_udp(sv);
      continue;
    }
    install(sv);
    if (sv->current && sv->current->listener->tls) tls_prepare(w->loop);
    set_deferred(sv);
    if (before && sv->current && sv->current->listener != before) stale_install(sv);
  }
}

void serve_drain(struct worker *w) {
  for (struct list *l = w->servings.next, *next; l != &w->servings; l = next) {
    next = l->next;
    struct serving *sv = container_of(l, struct serving, link);
    if (sv->udp) front_udp_leave(sv, w->drain_deadline_ms);
    else if (sv->conn) conn_listen_stop(sv->conn, !sv->shared);
    else hurry_idle(sv);
  }
}
