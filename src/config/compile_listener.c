/* compile_listener.c: a listener and its TLS policy. The policy is compiled by the hook only when
 * its content changed: an unchanged listener keeps its object, its certificates and its tickets.
 * */
#include "compile_priv.h"

#define HTTPS_PORT 443u

/* ---- TLS ---- */

/* protocols_of are the bits of enum listener_protocol; none with TCP, which knows names only. */
static uint32_t protocols_of(const struct conf_listener *row) {
  const char *words = option_get(OPTION_LISTENER_PROTOCOLS)->words;
  uint32_t protocols = 0;
  for (uint32_t i = 0; row->protocol == CONF_HTTP && i < row->protocols.count; i++) {
    int word = word_find(words, row->protocols.items[i].text);
    check(word >= 0);
    protocols |= 1u << word;
  }
  return protocols;
}

/* alpn_of is what ALPN says (RFC 7301 section 3.1); in arena. */
static struct span alpn_of(const struct conf_listener *row, struct arena *arena) {
  const struct conf_list *names = &row->protocols;
  size_t room = 0;
  if (!row->certs.count) return SPAN_EMPTY;
  for (uint32_t i = 0; i < names->count; i++) room += names->items[i].text.len + 1;
  struct buf b = buf_of(arena_get(arena, room + 1), room + 1);
  for (uint32_t i = 0; i < names->count; i++) {
    struct span name = names->items[i].text;
    check(name.len > 0 && name.len <= UINT8_MAX);
    buf_char(&b, (char)name.len);
    buf_put(&b, name);
  }
  return buf_span(&b);
}

/* tls_of describes the policy for the hook; in the run's arena. */
static struct conf_tls tls_of(struct compile *c, const struct conf_listener *row) {
  static const uint16_t versions[] = {0x0303, 0x0304};
  struct conf_cert *certs = arena_get(&c->arena, (row->certs.count + 1) * sizeof *certs);
  uint32_t count = 0;
  uint64_t hash = hash_mix(row->tls_min, row->tls_max);
  rows_each(&row->certs, struct conf_cert_row, it) {
    struct span *names = arena_get(&c->arena, (it->names.count + 1) * sizeof *names);
    for (uint32_t i = 0; i < it->names.count; i++) names[i] = it->names.items[i].text;
    certs[count++] = (struct conf_cert){.names = names,
                                        .name_count = it->names.count,
                                        .cert_pem = text_span(&it->cert_pem),
                                        .key_pem = text_span(&it->key_pem),
                                        .label = it->cert,
                                        .ocsp_der = text_span(&it->ocsp_der),
                                        .ocsp_label = it->ocsp,
                                        .is_default = it->is_default};
    hash = hash_mix(hash, row_hash(&it->row));
    hash = hash_mix(hash, hash_bytes(text_span(&it->cert_pem)));
    hash = hash_mix(hash, hash_bytes(text_span(&it->key_pem)));
    hash = text_hash(hash, text_span(&it->ocsp_der));
  }
  struct span alpn = alpn_of(row, &c->arena);
  hash = hash_mix(hash_mix(hash, hash_bytes(alpn)), row->tls_early);
  hash = hash_mix(hash, hash_bytes(text_span(&row->ech_pem)));
  struct conf_client_policy *clients = clients_of(&c->arena, row);
  bool closed = row->protocol == CONF_TCP; /* no request will say another name than the SNI */
  hash = hash_mix(hash_mix(hash, clients_hash(clients, row->clients.count)), closed);
  struct conf_tls tls = {.certs = certs,
                         .cert_count = count,
                         .clients = clients,
                         .client_count = row->clients.count,
                         .client_closed = closed,
                         .min_version = versions[row->tls_min],
                         .max_version = versions[row->tls_max],
                         .alpn = alpn,
                         .alpn_optional = row->protocol == CONF_TCP,
                         .listener = row->row.name,
                         .early_data = row->tls_early,
                         .ech_pem = text_span(&row->ech_pem),
                         .ech_label = row->tls_ech,
                         .content = hash};
  tls_estate_fill(c, row, &tls);
  return tls;
}

/* CERT_BITS are those beside the index of a certificate. */
#define CERT_BITS \
  (CONF_TLS_BAD_OCSP | CONF_TLS_BAD_NAMES | CONF_TLS_BAD_SUITES | CONF_TLS_BAD_NAMELESS)

static struct place bad_place(const struct conf_listener *row, uint32_t index) {
  if (index == CONF_TLS_BAD_ECH) return row_place(&row->row, OPTION_LISTENER_TLS_ECH);
  if (index == CONF_TLS_BAD_GROUPS) return row_place(&row->row, OPTION_LISTENER_TLS_GROUPS);
  if (index == CONF_TLS_BAD_CIPHERS) return row_place(&row->row, OPTION_LISTENER_TLS_CIPHERS);
  if (index == CONF_TLS_BAD_TICKETS) return row_place(&row->row, OPTION_LISTENER_TICKET_KEYS);
  if (index != UINT32_MAX && index >= CONF_BAD_CLIENT)
    return client_place(row, index - CONF_BAD_CLIENT);
  bool bits = index != UINT32_MAX;
  enum option_id id = bits && index & CONF_TLS_BAD_OCSP    ? OPTION_CERT_OCSP
                      : bits && index & CONF_TLS_BAD_NAMES ? OPTION_CERT_NAMES
                                                           : OPTION_CERT_CERT;
  if (bits) index &= ~CERT_BITS;
  rows_each(&row->certs, struct conf_cert_row, it)
    if (index-- == 0) return row_place(&it->row, id);
  return row_place(&row->row, OPTION_LISTENER_CERTS);
}

/* note_key tells beside a certificate that is refused which key was read with it. */
static void note_key(struct compile *c, const struct conf_listener *row, uint32_t index) {
  rows_each(&row->certs, struct conf_cert_row, it)
    if (index-- == 0) fault_note(c->faults, "with the key " SPAN_FMT, SPAN_ARG(it->key));
}

static enum fault_id warning_of(uint32_t bad) {
  if (bad >= CONF_BAD_CLIENT) return FAULT_CRL_STALE;
  if (bad & CONF_TLS_BAD_NAMES) return FAULT_CERT_MISNAMED;
  if (bad & CONF_TLS_BAD_SUITES) return FAULT_CIPHERS_MISFIT;
  return bad & CONF_TLS_BAD_NAMELESS ? FAULT_CERT_NAMELESS : FAULT_CERT_STALE;
}

static void tls_warn(struct compile *c, const struct conf_listener *row,
                     const struct tls_server *server) {
  uint32_t from = 0, bad = 0;
  char words[512];
  struct buf why = buf_of(words, sizeof words);
  while (c->hooks->tls_warning && c->hooks->tls_warning(server, &from, &bad, &why)) {
    enum fault_id fault = warning_of(bad);
    fault_add(c->faults, fault, bad_place(row, bad),
              "listener \"" SPAN_FMT "\": " SPAN_FMT, SPAN_ARG(row->row.name),
              SPAN_ARG(buf_span(&why)));
    if (fault == FAULT_CERT_NAMELESS)
      fault_note(c->faults, "names = \"www.example.com\" beside it, or default = true");
    if (fault == FAULT_CIPHERS_MISFIT)
      fault_other(c->faults, "ciphers", row_place(&row->row, OPTION_LISTENER_TLS_CIPHERS));
    why = buf_of(words, sizeof words);
  }
}

static struct tls_server *tls_make(struct compile *c, const struct conf_listener *row,
                                   const struct conf_tls *tls, uint32_t *bad) {
  char words[512];
  struct buf why = buf_of(words, sizeof words);
  *bad = UINT32_MAX;
  check(c->hooks->tls && c->hooks->tls_unref); /* never plaintext in place of TLS */
  struct tls_server *server = c->hooks->tls(c->hooks->ctx, tls, bad, &why);
  if (server && why.len)
    fault_add(c->faults, FAULT_OCSP_STALE, bad_place(row, *bad),
              "listener \"" SPAN_FMT "\": " SPAN_FMT, SPAN_ARG(row->row.name),
              SPAN_ARG(buf_span(&why)));
  if (server) tls_warn(c, row, server);
  if (server) return server;
  fault_add(c->faults, FAULT_TLS_REFUSED, bad_place(row, *bad),
            "listener \"" SPAN_FMT "\": " SPAN_FMT, SPAN_ARG(row->row.name),
            SPAN_ARG(buf_span(&why)));
  note_key(c, row, *bad);
  return NULL;
}

bool listener_tls_try(struct compile *c, const struct conf_listener *row, uint32_t *bad) {
  struct conf_tls tls = tls_of(c, row);
  struct tls_server *server = tls_make(c, row, &tls, bad);
  if (server) c->hooks->tls_unref(server);
  return server != NULL;
}

bool listener_stapled(struct compile *c, const struct conf_listener *row, uint32_t i) {
  struct conf_tls tls = tls_of(c, row);
  struct faults_mark mark;
  uint32_t bad;
  faults_mark(c->faults, &mark);
  struct tls_server *server = tls_make(c, row, &tls, &bad);
  bool stapled = server && c->hooks->tls_stapled(server, i);
  if (server) c->hooks->tls_unref(server);
  faults_rewind(c->faults, &mark);
  return stapled;
}

/* check_hosts warns of hosts of a listener's routes that its certificates lack, of each once. */
static void check_hosts(struct compile *c, const struct conf_listener *row,
                        const struct tls_server *server) {
  struct names seen = {.arena = &c->arena};
  if (!server || !c->hooks->tls_lacks || row->protocol != CONF_HTTP) return;
  rows_each(&c->conf->root.routes, struct conf_route, route) {
    for (uint32_t i = 0; i < route->hosts.count && route_on(route, row); i++) {
      struct conf_item *host = &route->hosts.items[i];
      char words[512];
      struct buf why = buf_of(words, sizeof words);
      if (names_put(&seen, host->text, host)) continue;
      if (!c->hooks->tls_lacks(server, host->text, &why)) continue;
      fault_add(c->faults, FAULT_CERT_LACKS, host->at, "listener \"" SPAN_FMT "\": " SPAN_FMT,
                SPAN_ARG(row->row.name), SPAN_ARG(buf_span(&why)));
      fault_other(c->faults, "certificates", row_place(&row->row, OPTION_LISTENER_CERTS));
    }
  }
}

/* ---- redirect_https ---- */

static bool first_port(const struct conf_listener *row, uint16_t *port) {
  for (uint32_t i = 0; i < row->binds.count; i++) {
    struct addr addr;
    if (!addr_parse(row->binds.items[i].text, &addr) || !addr_port(&addr)) continue;
    *port = addr_port(&addr);
    return true;
  }
  return false;
}

/* https_port is 443 if a TLS listener has it, else that of the first one, else 443. */
static uint16_t https_port(const struct conf_root *root) {
  uint16_t first = HTTPS_PORT;
  bool found = false;
  rows_each(&root->listeners, struct conf_listener, row) {
    uint16_t port = 0;
    if (!row->certs.count || row->protocol != CONF_HTTP || !first_port(row, &port)) continue;
    if (port == HTTPS_PORT) return port;
    if (!found) first = port;
    found = true;
  }
  return first;
}

/* ---- the listener ---- */

static void listener_fill(struct compile *c, struct listener *listener,
                          const struct conf_listener *row) {
  struct arena *arena = &listener->obj.arena;
  listener->state = listener_state_get(c->registry, row->row.name);
  listener->binds = arena_get(arena, (row->binds.count + 1) * sizeof *listener->binds);
  for (uint32_t i = 0; i < row->binds.count; i++)
    listener->binds[listener->bind_count++] = arena_copy(arena, row->binds.items[i].text, NULL);
  listener->trusted = arena_get(arena, (row->trusted.count + 1) * sizeof *listener->trusted);
  for (uint32_t i = 0; i < row->trusted.count; i++)
    check(addr_net_parse(row->trusted.items[i].text, &listener->trusted[i]));
  listener->trusted_count = row->trusted.count;
  listener->trust_unix = row->trusted.count > 0;
  listener->proxied = row->proxy_protocol;
  listener->peers = netset_of(arena, &row->allow, &row->deny);
  listener_policies(c, listener, row);
  listener->client_max = row->client_max;
  listener->client_prefix4 = row->client_prefix4;
  listener->client_prefix6 = row->client_prefix6;
  listener->redirect_https = row->redirect_https;
  listener->redirect_port = https_port(&c->conf->root);
  listener->timeouts = row->timeouts;
  listener->limits = row->limits;
  listener->protocols = protocols_of(row);
  listener->alpn = alpn_of(row, arena);
  listener->h2 = row->h2;
  listener->udp = row->udp;
  listener->paths = row->paths;
}

static struct listener *listener_get(struct compile *c, const struct conf_listener *row) {
  bool has_tls = row->certs.count > 0;
  struct conf_tls tls = has_tls ? tls_of(c, row) : (struct conf_tls){0};
  uint64_t content = hash_mix(row_hash(&row->row), tls.content);
  if (row->redirect_https) content = hash_mix(content, https_port(&c->conf->root));
  content = hash_mix(content, sni_content(row));
  struct pool *pool = row->pool.len ? names_find(&c->pools, row->pool) : NULL;
  bool needs = row->protocol == CONF_TCP || row->protocol == CONF_UDP;
  check(pool || !needs); /* check_tcp.c saw to it */
  struct listener *old = names_find(&c->old_listeners, row->row.name);
  if (old && old->obj.content == content && old->pool == pool && sni_same(c, old, row) &&
      listener_policies_same(c, old, row)) {
    object_ref(c->registry, &old->obj);
    return old;
  }
  uint32_t bad;
  if (has_tls && !clients_pem_good(c, row)) return NULL;
  struct tls_server *server = has_tls ? tls_make(c, row, &tls, &bad) : NULL;
  if (has_tls && !server) return NULL;
  struct listener *listener = listener_new(c->registry, row->row.name);
  listener->obj.content = content;
  listener->tls = server;
  listener->serves = row->protocol;
  listener->pool = pool;
  sni_fill(c, listener, row);
  if (pool) object_ref(c->registry, &pool->obj);
  listener->tls_unref = has_tls ? c->hooks->tls_unref : NULL;
  listener->tls_policy = has_tls ? hash_bytes(tls.policy) : 0;
  listener->tls_clients = has_tls ? clients_hash(tls.clients, tls.client_count) : 0;
  listener_fill(c, listener, row);
  return listener;
}

struct listener *compile_listener(struct compile *c, const struct conf_listener *row) {
  struct listener *listener = listener_get(c, row);
  if (listener) check_hosts(c, row, listener->tls);
  return listener;
}
