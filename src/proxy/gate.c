/* gate.c: who may connect: the networks of a listener and of its policies, how many connections
 * one client may have, and how often they may come (limit.c). By the address of the connection
 * itself, at accept, before TLS and before a byte is read; where a proxy in front tells whose
 * connection it is (proxied.c), by that, once it has. Who is refused is closed at once. Called by
 * serve.c, proxied.c and front_udp.c. Tables: base/netset.c, tally.c. */
#include "proxy_priv.h"

/* LINES_PER_SECOND of refused connections are logged by a worker; all are counted. */
#define LINES_PER_SECOND 10u

static bool is_proxy(const struct listener *l, const struct addr *peer) {
  for (uint32_t i = 0; i < l->trusted_count; i++)
    if (addr_net_has(&l->trusted[i], peer)) return true;
  return false;
}

bool gate_trusts(const struct listener *l, const struct addr *peer) {
  return peer->sa.sa_family == AF_UNIX ? l->trust_unix : is_proxy(l, peer);
}

/* A trusted proxy stands for many clients, and its connections are its own affair. */
static bool too_many(struct serving *sv, const struct listener *l, const struct addr *peer,
                     _Atomic uint64_t **counted) {
  struct tally *clients = atomic_load_explicit(&sv->state->clients, memory_order_acquire);
  _Atomic uint64_t *at;
  uint64_t key;
  bool shared;
  check(clients != NULL); /* compile_listener.c gave it before the listener was published */
  if (!client_key(peer, l->client_prefix4, l->client_prefix6, &key) || is_proxy(l, peer))
    return false;
  if (!tally_join(clients, key, l->client_max, &at, &shared)) return true;
  *counted = at;
  return false;
}

enum end gate(struct serving *sv, const struct addr *peer, _Atomic uint64_t **counted) {
  const struct listener *l = sv->current->listener;
  bool ip = peer->len && peer->sa.sa_family != AF_UNIX;
  if (l->peers && ip && !netset_allows(l->peers, peer)) return END_DENIED_PEER;
  if (!policies_allow(l->policies, l->policy_count, peer)) return END_DENIED_CLIENT;
  if (l->client_max && too_many(sv, l, peer, counted)) return END_LIMIT_CLIENT_CONNECTIONS;
  return END_OK;
}

/* Rates come last: they count what nothing else refused. */
enum end gate_enter(struct serving *sv, const struct addr *peer, struct guest *out) {
  *out = (struct guest){.counted = NULL};
  enum end end = gate(sv, peer, &out->counted);
  if (end == END_OK) end = limit_connection(sv, peer, &out->limited);
  if (end == END_OK || !out->counted) return end;
  tally_leave(out->counted);
  out->counted = NULL;
  return end;
}

enum end gate_accept(struct serving *sv, const struct addr *peer, struct guest *out) {
  const struct listener *l = sv->current->listener;
  *out = (struct guest){.counted = NULL};
  if (l->proxied && gate_trusts(l, peer)) return END_OK;
  return l->proxied == PROXIED_ALL ? END_PROXY_UNTRUSTED : gate_enter(sv, peer, out);
}

/* gate_may_log: a flood of refused connections must not push all else out of the log. */
bool gate_may_log(struct worker *w) {
  uint64_t second = now_ms(w) / 1000;
  if (w->refused_second != second) w->refused_lines = 0;
  w->refused_second = second;
  return w->refused_lines++ < LINES_PER_SECOND;
}

void gate_turn_away(struct serving *sv, const struct access_from *from, enum end end) {
  struct worker *w = sv->w;
  stat_add(&w->stats.ends[end], 1);
  stat_add(&sv->state->rows[w->config.index].refused, 1);
  if (gate_may_log(w)) access_peer(sv, from, end);
}

void gate_refuse(struct serving *sv, struct conn *c, const struct access_from *from,
                 enum end end) {
  gate_turn_away(sv, from, end);
  conn_close(c);
}

void gate_drop(struct down *d, enum end end, struct span reason) {
  struct serving *sv = d->serving;
  stat_add(&sv->state->rows[sv->w->config.index].refused, 1);
  if (gate_may_log(sv->w)) access_refused(d, end, &(struct access_words){.reason = reason});
  else stat_add(&sv->w->stats.ends[end], 1);
  down_close(d, false);
}
