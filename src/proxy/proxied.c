/* proxied.c: connections that begin with a PROXY header (http/proxy_header.h): it is read before
 * TLS and HTTP see a byte, tells whose connection it is, and then the connection goes on as any
 * other. Only who is in trusted_proxies may send one (THREATS.md row 28). Called by serve.c. */
#include "proxy_priv.h"

static bool is_trusted(const struct down *d) { return d->flags & DOWN_TRUSTED; }

struct span proxied_id_of(const struct down *d) {
  const struct proxied_id *id = d->proxied ? d->proxied->id : NULL;
  return id ? span_of(id->bytes, id->len) : SPAN_EMPTY;
}

void proxied_free(struct down *d) {
  struct worker *w = d->serving->w;
  if (!d->proxied) return;
  if (d->proxied->id) slab_free(&w->proxied_ids, d->proxied->id);
  slab_free(&w->proxied, d->proxied);
  d->proxied = NULL;
}

static struct proxied_id *keep_id(struct worker *w, struct span id) {
  if (!id.len) return NULL;
  struct proxied_id *kept = slab_new(&w->proxied_ids);
  check(kept != NULL && id.len <= sizeof kept->bytes); /* there are as many as connections */
  kept->len = (uint8_t)id.len;
  memcpy(kept->bytes, id.ptr, id.len);
  return kept;
}

/* settle_client: from here on the connection is its client's. False: that one may not connect. */
static bool settle_client(struct down *d, const struct proxy_header *h) {
  struct worker *w = d->serving->w;
  struct addr peer;
  struct guest guest;
  if (h && !h->local) {
    d->proxied = slab_new(&w->proxied);
    check(d->proxied != NULL); /* there are as many as connections */
    d->proxied->id = keep_id(w, h->unique_id);
    d->proxied->socket = d->client;
    peer_keep(&d->proxied->to, &h->dst);
    peer_keep(&d->client, &h->src);
  }
  if (!is_trusted(d)) return true; /* it came through the gate at accept */
  down_peer(d, &peer);
  enum end end = gate_enter(d->serving, &peer, &guest);
  down_let_in(d, &guest);
  if (end == END_OK) return true;
  gate_drop(d, end, SPAN_EMPTY);
  return false;
}

/* go_on gives the connection to those who serve it, with the bytes behind the header: how many of
 * those they took. h is NULL where there is none. */
static size_t go_on(struct down *d, const struct proxy_header *h, struct span rest) {
  struct conn *c = d->conn;
  if (!d->serving->current) { /* its listener was removed */
    down_close(d, true);
    return rest.len;
  }
  if (!settle_client(d, h)) return rest.len;
  d->flags &= (uint16_t)~(DOWN_TRUSTED | DOWN_UNSURE);
  bool tls = d->serving->current->listener->tls;
  if (tls) conn_read_stop(c); /* until its handshake is done */
  if (!down_start(d)) {
    down_close(d, false);
    return rest.len;
  }
  if (c->flags & CONN_CLOSING) return rest.len; /* a session that found no endpoint */
  if (tls) return conn_pass(c, rest);
  return rest.len ? c->events->on_data(c, rest) : 0;
}

static void refuse(struct down *d, enum proxy_fault why) {
  if (is_trusted(d)) gate_drop(d, proxy_fault_end(why), proxy_fault_text(why));
  else gate_drop(d, END_PROXY_UNTRUSTED, SPAN_EMPTY);
}

static size_t on_data(struct conn *c, struct span bytes) {
  struct down *d = c->owner;
  struct proxy_header h;
  enum proxy_fault why;
  size_t len;
  switch (proxy_header_parse(bytes, &h, &len, &why)) {
    case HTTP_MORE:
      if (proxy_header_begun(bytes)) d->flags &= (uint16_t)~DOWN_UNSURE;
      conn_read_start(c); /* the same bytes again, with those behind them */
      return 0;
    case HTTP_BAD:
      if (why == PROXY_FAULT_SIGNATURE && d->flags & DOWN_UNSURE) return go_on(d, NULL, bytes);
      refuse(d, why);
      return bytes.len;
    case HTTP_DONE: break;
  }
  if (!is_trusted(d)) {
    gate_drop(d, END_PROXY_UNTRUSTED, SPAN_EMPTY);
    return bytes.len;
  }
  return len + go_on(d, &h, span_from(bytes, len));
}

/* server_first: a client of TCP may wait for the server to speak. */
static bool server_first(const struct down *d) {
  const struct snapshot_listener *current = d->serving->current;
  return current && current->listener->serves == SERVES_TCP && !current->listener->tls;
}

/* may_wait: such a client that has said no more than a header may begin with. It owes nothing
 * (room.c), and sends none when it says nothing further, or not in the time of one. */
static bool may_wait(const struct down *d) { return d->flags & DOWN_UNSURE && server_first(d); }

static void drop_cut(struct down *d) {
  gate_drop(d, END_PROXY_TRUNCATED, SPAN_LIT("the connection ends inside the header"));
}

/* on_eof: who looks whether the port is open sends nothing, and is told nothing. */
static void on_eof(struct conn *c) {
  struct down *d = c->owner;
  if (!conn_held(c)) down_close(d, true);
  else if (may_wait(d)) (void)go_on(d, NULL, SPAN_EMPTY); /* what is held waits for the relay */
  else drop_cut(d);
}

static void on_error(struct conn *c, int err) {
  if (conn_held(c) && !own_trouble(err)) drop_cut(c->owner);
  else first_on_error(c, err);
}

static void on_timer(struct conn *c) {
  struct down *d = c->owner;
  if (may_wait(d)) {
    (void)go_on(d, NULL, SPAN_EMPTY);
    return;
  }
  bool none = d->flags & DOWN_UNSURE;
  access_connection(d, none ? END_CLIENT_TIMEOUT_HEADER : END_PROXY_TIMEOUT, 0);
  down_close(d, false);
}

static const struct conn_events header_events = {
    .on_open = first_on_open,
    .on_data = on_data,
    .on_eof = on_eof,
    .on_error = on_error,
    .on_drained = first_on_drained,
    .on_timer = on_timer,
};

void proxied_start(struct down *d, const struct addr *peer) {
  const struct listener *l = d->serving->current->listener;
  if (gate_trusts(l, peer)) d->flags |= DOWN_TRUSTED;
  if (l->proxied == PROXIED_SOME) d->flags |= DOWN_UNSURE;
  if (may_wait(d)) room_leave(d);
  conn_attach(d->conn, &header_events, d);
  conn_timer(d->conn, now_ms(d->serving->w) + l->timeouts.header_ms);
  conn_read_start(d->conn);
}
