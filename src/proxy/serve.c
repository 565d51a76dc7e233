/* serve.c: listening descriptors and client connections: accept, limits, handshake, the bytes of
 * one request after another, idle times, close. What a request means is the stream's. */
#include <errno.h>
#include <sys/socket.h>

#include "proxy_priv.h"
#include "weir/base/mem.h"
#include "weir/http/h2_frame.h"
#include "weir/io/pressure.h"
#include "weir/io/tls_ech.h"
#include "weir/io/tls_signer.h"

/* OVER_RESERVE: connections beyond the limit that are still accepted, to be told so with a 503. */
#define OVER_RESERVE 16u
/* DEFER_SECONDS: as control/loader_bind.c, which makes the sockets. */
#define DEFER_SECONDS 5u

/* ---- the client's address, kept small ---- */

void peer_keep(struct peer *p, const struct addr *a) {
  *p = (struct peer){.family = (uint8_t)a->sa.sa_family};
  if (a->sa.sa_family == AF_UNIX) return;
  p->port = addr_port(a);
  if (a->sa.sa_family == AF_INET) memcpy(p->ip, &a->in4.sin_addr, 4);
  else memcpy(p->ip, &a->in6.sin6_addr, 16);
}

/* peer_get is false for a TCP client that has reset its connection already: the system does not
 * know its address any more, and nobody may take it for a unix socket's. */
static bool peer_get(const struct conn *c, struct addr *out) {
  if (conn_peer(c, out)) return true;
  *out = (struct addr){.len = sizeof(sa_family_t)};
  out->sa.sa_family = AF_UNIX;
  return c->flags & CONN_UNIX;
}

void peer_addr(const struct peer *p, struct addr *out) {
  *out = (struct addr){0};
  if (p->family == AF_INET) {
    out->len = sizeof out->in4;
    out->in4.sin_family = AF_INET;
    out->in4.sin_port = htons(p->port);
    memcpy(&out->in4.sin_addr, p->ip, 4);
  } else if (p->family == AF_INET6) {
    out->len = sizeof out->in6;
    out->in6.sin6_family = AF_INET6;
    out->in6.sin6_port = htons(p->port);
    memcpy(&out->in6.sin6_addr, p->ip, 16);
  } else {
    out->len = sizeof(sa_family_t);
    out->sa.sa_family = AF_UNIX;
  }
}

void down_peer(const struct down *d, struct addr *out) { peer_addr(&d->client, out); }

void down_socket(const struct down *d, struct addr *out) {
  peer_addr(d->proxied ? &d->proxied->socket : &d->client, out);
}

/* ---- accept ---- */

void serving_free_if_done(struct serving *sv) {
  if (sv->conn || sv->udp || sv->down_count) return;
  list_remove(&sv->link);
  object_unpin(&sv->state->obj, sv->w->config.index);
  mem_free(sv);
}

static uint32_t downs_open(const struct worker *w) {
  return atomic_load_explicit(&w->down_count, memory_order_relaxed);
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

static uint64_t after_ms(const struct worker *w, uint32_t delay_ms) {
  return delay_ms ? now_ms(w) + delay_ms : WHEEL_NEVER;
}

bool down_start(struct down *d) {
  if (d->flags & DOWN_TCP) return front_tcp_start(d);
  struct worker *w = d->serving->w;
  const struct listener *l = d->serving->current->listener;
  conn_attach(d->conn, &down_events, d);
  if (!l->tls) {
    d->flags |= DOWN_PLAIN;
    conn_timer(d->conn, after_ms(w, l->timeouts.header_ms));
    conn_read_start(d->conn);
    return true;
  }
  d->flags |= DOWN_TLS;
  conn_timer(d->conn, after_ms(w, l->timeouts.handshake_ms));
  return tls_accept(d->conn, l->tls, w->config.index);
}

static void count_refused(struct serving *sv) {
  stat_add(&sv->w->stats.downstream_refused, 1);
  stat_add(&sv->state->rows[sv->w->config.index].refused, 1);
}

static struct down *down_new(struct serving *sv, struct conn *c, const struct addr *peer) {
  struct worker *w = sv->w;
  struct down *d = slab_new(&w->downs);
  if (!d) return NULL;
  d->conn = c;
  d->serving = sv;
  peer_keep(&d->client, peer);
  if (sv->current->listener->serves != SERVES_HTTP) d->flags |= DOWN_TCP;
  list_push_tail(&sv->downs, &d->link);
  sv->down_count++;
  if (downs_open(w) >= w->conns_share) {
    d->flags |= DOWN_OVER_LIMIT | DOWN_CLOSE;
    count_refused(sv);
  }
  atomic_fetch_add_explicit(&w->down_count, 1, memory_order_relaxed);
  struct listener_row *row = &sv->state->rows[w->config.index];
  atomic_fetch_add_explicit(&row->conns, 1, memory_order_relaxed);
  stat_add(&row->accepted, 1);
  stat_add(&w->stats.downstream_accepted, 1);
  stat_add(&w->stats.downstream_conns, 1);
  stat_add(&w->stats.downstream_idle, 1);
  return d;
}

static void refuse(struct serving *sv, struct conn *c) {
  count_refused(sv);
  conn_close(c);
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

static void on_accept(struct conn *listener, struct conn *c) {
  struct serving *sv = listener->owner;
  struct worker *w = sv->w;
  if (!c) {
    listener_stopped(sv);
    return;
  }
  if (downs_open(w) >= w->conns_share + OVER_RESERVE || !sv->current) {
    refuse(sv, c);
    return;
  }
  struct addr peer;
  _Atomic uint64_t *counted = NULL;
  if (!peer_get(c, &peer)) {
    stat_add(&w->stats.ends[END_CLIENT_RESET], 1);
    conn_close(c);
    return;
  }
  enum end end = gate_accept(sv, &peer, &counted);
  if (end != END_OK) {
    gate_refuse(sv, c, &peer, end);
    return;
  }
  struct down *d = down_new(sv, c, &peer);
  if (!d) {
    if (counted) tally_leave(counted);
    refuse(sv, c);
    return;
  }
  d->counted = counted;
  if (downs_open(w) >= w->conns_share + OVER_RESERVE) serve_pause(w, PAUSE_FULL, true);
  overload_accepted(w);
  if (sv->current->listener->proxied) proxied_start(d, &peer);
  else if (!down_start(d)) down_close(d, false);
}

void serve_resume(struct worker *w) {
  if (w->paused & PAUSE_FULL && downs_open(w) < w->conns_share)
    serve_pause(w, PAUSE_FULL, false);
}

/* ---- listening descriptors ---- */

static struct serving *serving_find(struct worker *w, int fd) {
  for (struct list *l = w->servings.next; l != &w->servings; l = l->next) {
    struct serving *sv = container_of(l, struct serving, link);
    if (sv->fd == fd) return sv;
  }
  return NULL;
}

/* accept_at_once sets whether clients are accepted before they sent a byte: of TCP, where nothing
 * of theirs comes first, for the server may be the one to speak. */
static void accept_at_once(struct serving *sv) {
  const struct listener *l = sv->current ? sv->current->listener : NULL;
  bool at_once = l && l->serves == SERVES_TCP && !l->tls && l->proxied != PROXIED_ALL;
  if (sv->shared || at_once == sv->at_once) return;
  sv->at_once = at_once;
  conn_listen_defer(sv->conn, at_once ? 0 : DEFER_SECONDS);
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
  accept_at_once(sv);
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
                !conn_held(d->conn);
    if (idle && d->conn->timer.due_ms > close_ms) conn_timer(d->conn, close_ms);
  }
  return looked;
}

void down_hurry_idle(struct worker *w, uint32_t most, uint64_t close_ms) {
  for (struct list *l = w->servings.next; l != &w->servings && most; l = l->next)
    most -= hurry_some(container_of(l, struct serving, link), most, close_ms);
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

void serve_install(struct worker *w) {
  for (struct list *l = w->servings.next; l != &w->servings; l = l->next) {
    struct serving *sv = container_of(l, struct serving, link);
    if (sv->fd < 0 || (!sv->conn && !sv->udp)) continue; /* it was stopped */
    const struct listener *before = sv->current ? sv->current->listener : NULL;
    if (sv->udp) {
      install_udp(sv);
      continue;
    }
    sv->current = current_of(sv, false);
    if (sv->current && sv->current->listener->tls) tls_prepare(w->loop);
    accept_at_once(sv);
    if (before && sv->current && sv->current->listener != before) stale_install(sv);
  }
}

void down_drain(struct worker *w) {
  for (struct list *l = w->servings.next, *next; l != &w->servings; l = next) {
    next = l->next;
    struct serving *sv = container_of(l, struct serving, link);
    if (sv->udp) front_udp_leave(sv, w->drain_deadline_ms);
    else if (sv->conn) conn_listen_stop(sv->conn, !sv->shared);
    else hurry_idle(sv);
  }
}

/* ---- the end of a connection ---- */

static void down_forget(struct down *d) {
  struct serving *sv = d->serving;
  struct worker *w = sv->w;
  list_remove(&d->link);
  if (d->counted) tally_leave(d->counted);
  if (d->proxied) slab_free(&w->proxied, d->proxied);
  sv->down_count--;
  atomic_fetch_sub_explicit(&sv->state->rows[w->config.index].conns, 1, memory_order_relaxed);
  stat_sub(&w->stats.downstream_conns, 1);
  stat_sub(&w->stats.downstream_idle, 1);
  slab_free(&w->downs, d);
  atomic_fetch_sub_explicit(&w->down_count, 1, memory_order_relaxed);
  serving_free_if_done(sv);
  serve_resume(w);
}

/* may_linger: closing connections wait for their peers only while they leave half of the slots to
 * those that are served: nobody gets more than the limit by not hanging up. */
static bool may_linger(const struct down *d) {
  const struct worker *w = d->serving->w;
  const struct slab *conns = &w->loop->conns;
  uint32_t busy = downs_open(w) + w->upstream.upconns.live;
  uint32_t lingering = conns->live > busy ? conns->live - busy : 0;
  return lingering < w->conns_share / 2 + OVER_RESERVE;
}

void down_close(struct down *d, bool gently) {
  check(!d->stream && !d->h2);
  /* What is queued is sent in any case; who may not linger is not waited for. */
  uint32_t brief_ms = conn_pending(d->conn) ? LINGER_MS / 8 : 1;
  if (gently) conn_close_gently(d->conn, may_linger(d) ? LINGER_MS : brief_ms);
  else conn_close(d->conn);
  down_forget(d);
}

void first_on_open(struct conn *c, int err) { (void)c, (void)err; }
void first_on_drained(struct conn *c) { (void)c; }
void first_on_error(struct conn *c, int err) {
  (void)err;
  down_close(c->owner, false);
}

void down_abort(struct down *d) {
  check(!d->stream);
  conn_reset(d->conn);
  down_forget(d);
}

/* BLOCKED_LOOKS at which blocked output stood still make up timeouts.send. */
#define BLOCKED_LOOKS 8u

static uint32_t blocked_look_ms(const struct listener_timeouts *t) {
  return (t->send_ms + BLOCKED_LOOKS - 1) / BLOCKED_LOOKS;
}

void down_next(struct down *d) {
  struct worker *w = d->serving->w;
  const struct snapshot_listener *current = d->serving->current;
  bool ended = d->flags & DOWN_EOF && !(d->flags & DOWN_IN_DATA) && !conn_held(d->conn);
  if (!current || d->flags & DOWN_CLOSE || ended) {
    down_close(d, true);
    return;
  }
  const struct listener_timeouts *t = &current->listener->timeouts;
  if (conn_pending(d->conn) > (iobufs_half(&w->loop->iobufs) ? 0 : OUT_HIGH)) {
    d->flags |= DOWN_BLOCKED;
    d->still = 0;
    d->conn->mark = (uint32_t)conn_taken(d->conn);
    conn_timer(d->conn, after_ms(w, blocked_look_ms(t)));
    return;
  }
  uint32_t idle_ms = overload_idle_ms(w, t->idle_ms);
  conn_timer(d->conn, after_ms(w, w->draining ? DRAIN_IDLE_MS : idle_ms));
  conn_read_start(d->conn);
}

/* ---- events ---- */

static void ech_count(struct worker *w, uint8_t result) {
  if (result == TLS_ECH_ACCEPTED) stat_add(&w->stats.ech_accepted, 1);
  if (result == TLS_ECH_REFUSED) stat_add(&w->stats.ech_refused, 1);
}

void down_count_handshake(struct down *d, const struct tls_info *info) {
  struct worker *w = d->serving->w;
  bool v13 = span_eq(info->version, SPAN_LIT("1.3"));
  _Atomic uint64_t *rows[2][2] = {
      {&w->stats.tls_handshakes_12_full, &w->stats.tls_handshakes_12_resumed},
      {&w->stats.tls_handshakes_13_full, &w->stats.tls_handshakes_13_resumed}};
  stat_add(rows[v13][info->resumed], 1);
  if (info->stapled) stat_add(&w->stats.tls_stapled, 1);
  if (info->staple_stale) stat_add(&w->stats.tls_staple_stale, 1);
  if (info->subject.len || info->hash.len) stat_add(&w->stats.tls_client_certs, 1);
  d->tls_ns = info->handshake_ns;
  early_count(w, info->early);
  ech_count(w, info->ech);
}

#define PLAIN_ON_TLS \
  "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n" \
  "Proxy-Status: weir;error=http_request_error;details=\"client.tls.plain_http\"\r\n" \
  "Content-Length: 51\r\n\r\n400 Bad Request\nplain HTTP was sent to a TLS port\n\n"

enum end down_late(const struct down *d) {
  return conn_tls_signing(d->conn) ? END_CLIENT_TLS_SIGNER : END_CLIENT_TLS_TIMEOUT;
}

static void handshake_failed(struct down *d, enum end end) {
  struct worker *w = d->serving->w;
  if (end == END_CLIENT_PLAIN_ON_TLS && !tls_answer_plain(d->conn, SPAN_LIT(PLAIN_ON_TLS)))
    stat_add(&w->stats.ends[END_LIMIT_MEMORY], 1);
  struct tls_info info;
  conn_tls_info(d->conn, &info);
  early_count(w, info.early);
  ech_count(w, info.ech);
  stat_add(&w->stats.tls_handshake_failures, 1);
  access_connection(d, end, end_get(end)->status);
  down_close(d, end != END_CLIENT_TLS_TIMEOUT && end != END_CLIENT_TLS_SIGNER);
}

static void start_h2(struct down *d) {
  if (front_h2_start(d)) return;
  access_connection(d, END_LIMIT_MEMORY, 0);
  down_close(d, false);
}

static void down_on_open(struct conn *c, int err) {
  struct down *d = c->owner;
  struct worker *w = d->serving->w;
  struct tls_info info;
  conn_tls_info(c, &info);
  if (err && info.silent) { /* whoever only knocks is told of no more than without TLS */
    down_close(d, true);
    return;
  }
  if (err) {
    handshake_failed(d, info.end == END_OK ? END_CLIENT_TLS_HANDSHAKE : info.end);
    return;
  }
  down_count_handshake(d, &info);
  if (!d->serving->current) {
    down_close(d, true);
    return;
  }
  stale_check(d); /* a reload may have come while it lasted */
  if (span_eq(info.alpn, SPAN_LIT("h2"))) {
    start_h2(d);
    return;
  }
  conn_timer(c, after_ms(w, d->serving->current->listener->timeouts.header_ms));
  conn_read_start(c);
}

size_t front_take(struct stream *s, struct span bytes) {
  if (s->step == STEP_BUFFER) return held_take(s, bytes);
  struct pump *p = &s->up_body;
  bool sending = s->step == STEP_SEND || s->step == STEP_RELAY;
  if (!sending || p->relaying || p->blocked || held_unsent(s)) return 0;
  if (p->state != PUMP_READY && p->state != PUMP_RUN) return 0;
  size_t used;
  if (!body_data(s, p, bytes, &used)) {
    stream_fail(s, s->end);
    return bytes.len;
  }
  if (p->state == PUMP_DONE) request_body_done(s);
  return used;
}

/* may_be_h2: the first bytes of a connection that may begin HTTP/2 by itself (RFC 9113 3.3). */
static bool may_be_h2(const struct down *d) {
  if (d->requests || d->stream || d->flags & DOWN_TLS || !d->serving->current) return false;
  return d->serving->current->listener->protocols & LISTENER_H2C;
}

/* down_consume gives bytes to the stream, or begins one. 0: nothing can be taken now. */
static size_t down_consume(struct down *d, struct span bytes) {
  if (d->flags & DOWN_BLOCKED) return 0;
  if (!d->stream && !d->serving->current) { /* its listener was removed */
    down_close(d, true);
    return bytes.len;
  }
  if (!d->stream && !stream_new(d, NULL)) {
    access_connection(d, END_LIMIT_MEMORY, 0);
    down_close(d, false);
    return bytes.len;
  }
  struct stream *s = d->stream;
  return s->step == STEP_HEAD ? request_data(s, bytes) : front_take(s, bytes);
}

/* eof_settle acts on the client's FIN once all that came before it was looked at. */
static void eof_settle(struct down *d) {
  struct stream *s = d->stream;
  if (!s) {
    down_close(d, true);
    return;
  }
  bool body_owed = s->up_body.state == PUMP_READY || s->up_body.state == PUMP_RUN;
  if (s->step == STEP_HEAD) {
    stream_fail(s, END_BAD_REQUEST_TRUNCATED);
  } else if (body_owed) {
    stream_client_gone(s, END_CLIENT_CLOSED);
  } else if (s->x && s->x->half_close_ms == WHEEL_NEVER) {
    s->x->half_close_ms = now_ms(s->w) + s->timeouts.half_close_ms;
    stream_timer(s);
  }
}

/* after_data starts the body's relay once what came with the head was taken. */
static void after_data(struct down *d, bool all) {
  d->flags &= (uint16_t)~DOWN_IN_DATA;
  if (d->flags & DOWN_EOF && all && !conn_held(d->conn)) {
    eof_settle(d);
    return;
  }
  struct stream *s = d->stream;
  bool sending = s && (s->step == STEP_SEND || s->step == STEP_RELAY);
  if (!sending || s->up_body.state != PUMP_READY || held_unsent(s)) return;
  body_start(s, &s->up_body);
  stream_timer(s); /* it was set for the response: now it is the body that is waited for */
}

/* is_holding: bytes go to the request's buffer. When that is full the same bytes go on their way.
 */
static bool is_holding(const struct down *d) {
  return d->stream && d->stream->step == STEP_BUFFER;
}

static size_t first_of_h2(struct down *d, struct span bytes) {
  struct conn *c = d->conn;
  start_h2(d);
  return c->flags & CONN_CLOSING ? bytes.len : c->events->on_data(c, bytes);
}

static size_t down_on_data(struct conn *c, struct span bytes) {
  struct down *d = c->owner;
  struct worker *w = d->serving->w;
  uint32_t slot = d->head.slot, generation = d->head.generation;
  size_t used = 0;
  if (may_be_h2(d)) {
    enum http_result preface = h2_preface_match(bytes);
    if (preface == HTTP_MORE) {
      conn_read_start(c); /* the same bytes again, with those behind them */
      return 0;
    }
    if (preface == HTTP_DONE) return first_of_h2(d, bytes);
  }
  d->flags |= DOWN_IN_DATA;
  while (used < bytes.len) {
    bool holding = is_holding(d);
    size_t took = down_consume(d, span_from(bytes, used));
    used += took;
    if (slab_find(&w->downs, slot, generation) != d) return bytes.len;
    if (!took && !(holding && d->stream && !is_holding(d))) break;
  }
  after_data(d, used == bytes.len);
  return used;
}

static void down_on_eof(struct conn *c) {
  struct down *d = c->owner;
  struct stream *s = d->stream;
  d->flags |= DOWN_EOF;
  if (!conn_held(c)) {
    eof_settle(d);
  } else if (s && s->x) {
    s->x->half_close_ms = now_ms(s->w) + s->timeouts.half_close_ms;
    stream_timer(s);
  }
}

static void down_on_error(struct conn *c, int err) {
  struct down *d = c->owner;
  /* -ECONNABORTED: a FIN without close_notify; between requests many clients end like that. */
  if (d->stream && err == -ECONNABORTED && d->stream->step == STEP_HEAD)
    stream_client_gone(d->stream, END_CLIENT_CLOSED);
  else if (d->stream && own_trouble(err)) stream_fail(d->stream, END_LIMIT_MEMORY);
  else if (d->stream) stream_client_gone(d->stream, END_CLIENT_RESET);
  else down_close(d, false);
}

static void down_on_drained(struct conn *c) {
  struct down *d = c->owner;
  if (d->stream) {
    body_drained(d->stream, &d->stream->down_body);
  } else if (d->flags & DOWN_BLOCKED) {
    d->flags &= (uint16_t)~DOWN_BLOCKED;
    down_next(d);
  }
}

/* blocked_timer: earlier responses, logged long ago, wait for their reader. What moves is never
 * cut; what stands still has a line of its own. */
static void blocked_timer(struct down *d) {
  const struct snapshot_listener *current = d->serving->current;
  uint32_t taken = (uint32_t)conn_taken(d->conn);
  d->still = taken == d->conn->mark ? (uint8_t)(d->still + 1) : 0;
  d->conn->mark = taken;
  if (!current) { /* its listener was removed */
    down_close(d, true);
  } else if (d->still < BLOCKED_LOOKS) {
    conn_timer(d->conn, after_ms(d->serving->w, blocked_look_ms(&current->listener->timeouts)));
  } else {
    access_connection(d, END_CLIENT_TIMEOUT_SEND, 0);
    down_close(d, false);
  }
}

/* down_on_timer: no request is in flight: a silent new connection, a handshake, or an idle one.
 * Output that an idle one still has goes out behind our back, as long as it moves. */
static void down_on_timer(struct conn *c) {
  struct down *d = c->owner;
  if (d->stream) return;
  if (d->flags & DOWN_TLS && !(c->flags & CONN_OPEN)) {
    handshake_failed(d, down_late(d));
    return;
  }
  if (d->flags & DOWN_BLOCKED) {
    blocked_timer(d);
    return;
  }
  if (!d->requests) access_connection(d, END_CLIENT_TIMEOUT_HEADER, 0);
  down_close(d, conn_pending(c) > 0);
}

static void down_on_secure(struct conn *c) {
  struct down *d = c->owner;
  if (d->stream) early_secure(d->stream);
}

const struct conn_events down_events = {
    .on_open = down_on_open,
    .on_data = down_on_data,
    .on_eof = down_on_eof,
    .on_error = down_on_error,
    .on_drained = down_on_drained,
    .on_timer = down_on_timer,
    .on_secure = down_on_secure,
};
