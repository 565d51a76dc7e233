/* compile_client_auth.c: client certificates: what a listener asks of them, for the hook that
 * makes its TLS policy, and what a route does. Called by compile_listener.c and compile_match.c.
 */
#include "compile_priv.h"

/* ---- listeners ---- */

/* joined puts the bytes of all files of a list behind one another. */
static struct span joined(struct arena *arena, const struct conf_list *list,
                          const struct text *bytes) {
  size_t len = 0;
  for (uint32_t i = 0; i < list->count; i++) len += bytes[i].len + 1;
  char *room = arena_bytes(arena, len + 1);
  check(room != NULL);
  struct buf b = buf_of(room, len + 1);
  for (uint32_t i = 0; i < list->count; i++) {
    buf_put(&b, text_span(&bytes[i]));
    buf_char(&b, '\n');
  }
  return buf_span(&b);
}

static struct span labels(struct arena *arena, const struct conf_list *list) {
  struct span all = SPAN_EMPTY;
  for (uint32_t i = 0; i < list->count; i++)
    all = arena_printf(arena, SPAN_FMT "%s" SPAN_FMT, SPAN_ARG(all), i ? ", " : "",
                       SPAN_ARG(list->items[i].text));
  return all;
}

static bool lists_share(const struct conf_list *a, const struct conf_list *b) {
  for (uint32_t i = 0; i < a->count; i++)
    for (uint32_t k = 0; k < b->count; k++)
      if (span_eq(a->items[i].text, b->items[k].text)) return true;
  return false;
}

static bool crl_shared(const struct conf_listener *row, const struct conf_client_auth *client) {
  rows_each(&row->clients, struct conf_client_auth, it)
    if (it != client && lists_share(&it->crl, &client->crl)) return true;
  return false;
}

struct conf_client_policy *clients_of(struct arena *arena, const struct conf_listener *row) {
  struct conf_client_policy *all = arena_get(arena, (row->clients.count + 1) * sizeof *all);
  struct conf_client_policy *to = all;
  rows_each(&row->clients, struct conf_client_auth, it) {
    struct span *names = arena_get(arena, (it->names.count + 1) * sizeof *names);
    for (uint32_t i = 0; i < it->names.count; i++) names[i] = it->names.items[i].text;
    *to++ = (struct conf_client_policy){.names = names,
                                        .name_count = it->names.count,
                                        .required = it->verify == CLIENT_VERIFY_REQUIRED,
                                        .forward = it->forward,
                                        .depth = it->depth,
                                        .ca_pem = joined(arena, &it->ca, it->ca_pem),
                                        .ca_label = labels(arena, &it->ca),
                                        .crl_pem = joined(arena, &it->crl, it->crl_pem),
                                        .crl_label = labels(arena, &it->crl),
                                        .crl_shared = crl_shared(row, it)};
  }
  return all;
}

uint64_t clients_hash(const struct conf_client_policy *clients, uint32_t count) {
  uint64_t hash = count;
  for (uint32_t i = 0; i < count; i++) {
    const struct conf_client_policy *p = &clients[i];
    hash = hash_mix(hash, p->name_count);
    for (uint32_t k = 0; k < p->name_count; k++) hash = text_hash(hash, p->names[k]);
    hash = hash_mix(hash, (uint64_t)p->depth << 8 | (uint64_t)p->forward << 1 | p->required);
    hash = text_hash(text_hash(hash, p->ca_pem), p->crl_pem);
  }
  return hash;
}

struct place client_place(const struct conf_listener *row, uint32_t index) {
  rows_each(&row->clients, struct conf_client_auth, it) if (index-- == 0) return it->row.at;
  return row_place(&row->row, OPTION_LISTENER_CLIENTS);
}

bool client_pem_good(struct compile *c, const struct conf_row *row, enum option_id id,
                     struct span name, const struct text *bytes) {
  char words[512];
  struct buf why = buf_of(words, sizeof words);
  if (!c->hooks || !c->hooks->tls_pem) return true;
  if (c->hooks->tls_pem(text_span(bytes), name, id == OPTION_CLIENT_CRL, &why)) return true;
  fault_add(c->faults, FAULT_TLS_REFUSED, row_place(row, id),
            "listener \"" SPAN_FMT "\": client: " SPAN_FMT, SPAN_ARG(row->parent->name),
            SPAN_ARG(buf_span(&why)));
  return false;
}

static bool list_pem_good(struct compile *c, const struct conf_row *row, enum option_id id,
                          const struct conf_list *list, const struct text *bytes) {
  bool good = true;
  for (uint32_t i = 0; i < list->count; i++)
    good = client_pem_good(c, row, id, list->items[i].text, &bytes[i]) && good;
  return good;
}

bool clients_pem_good(struct compile *c, const struct conf_listener *row) {
  bool good = true;
  rows_each(&row->clients, struct conf_client_auth, it) {
    good = list_pem_good(c, &it->row, OPTION_CLIENT_CA, &it->ca, it->ca_pem) && good;
    good = list_pem_good(c, &it->row, OPTION_CLIENT_CRL, &it->crl, it->crl_pem) && good;
  }
  return good;
}

/* ---- routes ---- */

_Static_assert(CONF_PIN_BYTES == MATCH_DIGEST_BYTES, "both are a SHA-256");
typedef const uint8_t (*digests_ptr)[CONF_PIN_BYTES];

static digests_ptr digests(struct arena *arena, const struct conf_list *list) {
  uint8_t(*all)[CONF_PIN_BYTES] = arena_get(arena, (list->count + 1) * sizeof *all);
  for (uint32_t i = 0; i < list->count; i++) pin_parse(list->items[i].text, all[i]);
  return (digests_ptr)all;
}

static bool says_present(const struct conf_route *row) {
  return row_origin(&row->row, OPTION_ROUTE_CERT_PRESENT)->node != NULL;
}

uint64_t cert_rule_hash(const struct conf_route *row) {
  return says_present(row) ? 1u + row->cert_present : 0;
}

void cert_rule(struct route *route, const struct conf_route *row) {
  struct arena *arena = &route->obj.arena;
  if (!route_asks_cert(row)) return;
  struct match_cert_rule *rule = arena_get(arena, sizeof *rule);
  struct span *sans = arena_get(arena, (row->cert_sans.count + 1) * sizeof *sans);
  for (uint32_t i = 0; i < row->cert_sans.count; i++)
    sans[i] = arena_copy(arena, row->cert_sans.items[i].text, NULL);
  *rule = (struct match_cert_rule){.absent = says_present(row) && !row->cert_present,
                                   .sans = sans,
                                   .san_count = row->cert_sans.count,
                                   .fingerprints = digests(arena, &row->cert_fingerprints),
                                   .fingerprint_count = row->cert_fingerprints.count,
                                   .keys = digests(arena, &row->cert_keys),
                                   .key_count = row->cert_keys.count};
  route->rules.cert = rule;
}
