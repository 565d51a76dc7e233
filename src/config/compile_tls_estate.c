/* compile_tls_estate.c: what a listener's TLS policy has beside certificates, versions and ALPN:
 * groups, suites, tickets; and the policy as a text, which sessions are bound to. Called by
 * compile_listener.c. */
#include "compile_priv.h"

struct span names_joined(struct compile *c, const struct conf_list *list) {
  size_t len = 0;
  for (uint32_t i = 0; i < list->count; i++) len += list->items[i].text.len + 1;
  struct buf b = buf_of(arena_get(&c->arena, len + 1), len + 1);
  for (uint32_t i = 0; i < list->count; i++) {
    if (i) buf_char(&b, ':');
    buf_put(&b, list->items[i].text);
  }
  return buf_span(&b);
}

static void tickets_of(struct compile *c, const struct conf_listener *row, struct conf_tls *tls) {
  struct span *keys = arena_get(&c->arena, (row->ticket_keys.count + 1) * sizeof *keys);
  for (uint32_t i = 0; i < row->ticket_keys.count; i++) keys[i] = text_span(&row->ticket_bytes[i]);
  tls->tickets = row->tls_tickets;
  tls->ticket_keys = keys;
  tls->ticket_key_count = row->ticket_keys.count;
}

/* policy_of: whatever a client had to bring or was promised stands here: a session that it got
 * under another text is worth nothing (THREATS.md 16). Not the listener's name, nor certificates:
 * machines that share ticket keys may differ in those, and a renewed certificate ends no session.
 * Not ALPN, which is chosen anew in each handshake. */
static struct span policy_of(struct compile *c, const struct conf_listener *row,
                             const struct conf_tls *tls) {
  return arena_printf(&c->arena, "weir 1 %s %04x-%04x groups=" SPAN_FMT " ciphers=" SPAN_FMT,
                      row->protocol == CONF_HTTP ? "http" : "tcp", (unsigned)tls->min_version,
                      (unsigned)tls->max_version, SPAN_ARG(tls->groups), SPAN_ARG(tls->ciphers));
}

void tls_estate_fill(struct compile *c, const struct conf_listener *row, struct conf_tls *tls) {
  tls->groups = names_joined(c, &row->tls_groups);
  tls->ciphers = names_joined(c, &row->tls_ciphers);
  tickets_of(c, row, tls);
  tls->policy = policy_of(c, row, tls);
  tls->content = hash_mix(tls->content, tls->tickets);
  tls->content = text_hash(tls->content, tls->policy);
  for (uint32_t i = 0; i < tls->ticket_key_count; i++)
    tls->content = text_hash(tls->content, tls->ticket_keys[i]);
}
