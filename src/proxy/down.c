/* down.c: client connections, whatever they speak: whose they are, how they begin and end, what is
 * counted of them. Who reads them are the fronts (front_*.c). Called by serve.c and proxied.c (one
 * begins) and by whoever ends one. */
#include <sys/socket.h>

#include "proxy_priv.h"
#include "weir/io/tls_ech.h"
#include "weir/io/tls_signer.h"

/* ---- the client's address, kept small ---- */

void peer_keep(struct peer *p, const struct addr *a) {
  *p = (struct peer){.family = (uint8_t)a->sa.sa_family};
  if (a->sa.sa_family == AF_UNIX) return;
  p->port = addr_port(a);
  if (a->sa.sa_family == AF_INET) memcpy(p->ip, &a->in4.sin_addr, 4);
  else memcpy(p->ip, &a->in6.sin6_addr, 16);
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

/* ---- its beginning ---- */

struct down *down_new(struct serving *sv, struct conn *c, const struct addr *peer) {
  struct worker *w = sv->w;
  struct down *d = slab_new(&w->downs);
  if (!d) return NULL;
  d->conn = c;
  d->serving = sv;
  peer_keep(&d->client, peer);
  if (sv->current->listener->serves != SERVES_HTTP) d->flags |= DOWN_TCP;
  room_owes(d);
  list_push_tail(&sv->downs, &d->link);
  sv->down_count++;
  if (!room_left(w)) {
    d->flags |= DOWN_OVER_LIMIT | DOWN_CLOSE;
    w->down_over++;
    serve_count_refused(sv);
  }
  worker_count(&w->down_count, 1);
  struct listener_row *row = &sv->state->rows[w->config.index];
  atomic_fetch_add_explicit(&row->conns, 1, memory_order_relaxed);
  stat_add(&row->accepted, 1);
  stat_add(&w->stats.downstream_accepted, 1);
  stat_add(&w->stats.downstream_conns, 1);
  stat_add(&w->stats.downstream_idle, 1);
  return d;
}

void down_let_in(struct down *d, const struct guest *guest) {
  struct rate_state *rate = guest->limited.rate;
  d->counted = guest->counted;
  if (!rate || !(d->flags & DOWN_TCP)) return; /* else it came when its listener served HTTP */
  check(!d->watched);
  d->watched = rate;
  object_pin(&rate->obj, d->serving->w->config.index);
}

struct rate_state *down_rate(const struct down *d) {
  return d->flags & DOWN_TCP ? d->watched : NULL;
}

bool down_start(struct down *d) {
  return d->flags & DOWN_TCP ? front_tcp_start(d) : front_h1_start(d);
}

uint32_t down_patience_ms(const struct down *d, uint32_t ms) {
  bool soon = d->serving->w->draining || d->flags & DOWN_STALE;
  return soon && (!ms || ms > DRAIN_IDLE_MS) ? DRAIN_IDLE_MS : ms;
}

static void ech_count(struct worker *w, uint8_t result) {
  if (result == TLS_ECH_ACCEPTED) stat_add(&w->stats.ech_accepted, 1);
  if (result == TLS_ECH_REFUSED) stat_add(&w->stats.ech_refused, 1);
}

/* count_tls: what became of early data and of ECH, done or not. */
static void count_tls(struct worker *w, const struct tls_info *info) {
  early_count(w, info->early);
  ech_count(w, info->ech);
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
  uint64_t us = info->handshake_ns / 1000u + 1;
  d->tls_us = us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
  count_tls(w, info);
}

void down_count_unshaken(const struct down *d) {
  struct tls_info info;
  conn_tls_info(d->conn, &info);
  count_tls(d->serving->w, &info);
  stat_add(&d->serving->w->stats.tls_handshake_failures, 1);
}

void down_unshaken(struct down *d, enum end end, uint16_t status) {
  down_count_unshaken(d);
  access_connection(d, end, status);
  down_close(d, end != END_CLIENT_TLS_TIMEOUT && end != END_CLIENT_TLS_SIGNER);
}

enum end down_late(const struct down *d) {
  return conn_tls_signing(d->conn) ? END_CLIENT_TLS_SIGNER : END_CLIENT_TLS_TIMEOUT;
}

/* ---- the end of a connection ---- */

enum end down_lost(const struct down *d, enum end otherwise) {
  enum end end = conn_tls_end(d->conn);
  return end == END_OK ? otherwise : end;
}

/* has_alert: a fault of the client's TLS after the handshake, of which it is told. */
static bool has_alert(const struct down *d) {
  return d->conn->flags & CONN_OPEN && conn_tls_end(d->conn) != END_OK;
}

static void down_forget(struct down *d) {
  struct serving *sv = d->serving;
  struct worker *w = sv->w;
  bool over = d->flags & DOWN_OVER_LIMIT;
  list_remove(&d->link);
  room_leave(d);
  if (d->counted) tally_leave(d->counted);
  if (down_rate(d)) object_unpin(&d->watched->obj, w->config.index);
  proxied_free(d);
  rest_free(d);
  sv->down_count--;
  atomic_fetch_sub_explicit(&sv->state->rows[w->config.index].conns, 1, memory_order_relaxed);
  stat_sub(&w->stats.downstream_conns, 1);
  stat_sub(&w->stats.downstream_idle, 1);
  slab_free(&w->downs, d);
  worker_count(&w->down_count, -1);
  if (over) w->down_over--;
  serving_free_if_done(sv);
  serve_resume(w);
}

/* may_linger: closing connections wait for their peers only while they leave half of the slots to
 * those that are served: nobody gets more than the limit by not hanging up. */
static bool may_linger(const struct down *d) {
  const struct worker *w = d->serving->w;
  return w->loop->lingering < w->conns_share / 2 + OVER_RESERVE;
}

void down_close(struct down *d, bool gently) {
  check(!d->stream && !d->h2);
  /* What is queued is sent in any case; who may not linger is not waited for. */
  uint32_t brief_ms = conn_pending(d->conn) ? LINGER_MS / 8 : 1;
  if (gently || has_alert(d)) conn_close_gently(d->conn, may_linger(d) ? LINGER_MS : brief_ms);
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
  /* An alert shows the truncation: no close_notify follows. It is not waited for long. */
  if (has_alert(d)) conn_close_gently(d->conn, LINGER_MS / 8);
  else conn_reset(d->conn);
  down_forget(d);
}
