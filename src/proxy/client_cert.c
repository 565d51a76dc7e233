/* client_cert.c: what a request knows of its client's certificate: for routes and filters, which
 * do not see the TLS library. A good one or none; where memory is short it has none. Called by
 * route.c. */
#include "proxy_priv.h"
#include "weir/io/tls_client_auth.h"

_Static_assert(MATCH_DIGEST_BYTES == TLS_DIGEST_BYTES, "both are a SHA-256");

/* chain_know: those behind the client's own. */
static void chain_know(struct stream *s) {
  struct filter_ctx *ctx = &s->x->ctx;
  struct span der;
  uint32_t count = 0;
  while (conn_tls_shown(s->down->conn, count + 1, &der)) count++;
  struct span *chain = count ? arena_alloc(&s->arena, count * sizeof *chain) : NULL;
  if (!chain) return;
  for (uint32_t i = 0; i < count; i++)
    if (!conn_tls_shown(s->down->conn, i + 1, &chain[i])) return;
  ctx->cert_chain = chain;
  ctx->cert_chain_count = count;
}

void client_cert_know(struct stream *s) {
  struct filter_ctx *ctx = &s->x->ctx;
  const struct conn *c = s->down->conn;
  if (!(s->down->flags & DOWN_TLS)) return;
  enum tls_forward forward = conn_tls_forward(c);
  ctx->cert_forward = forward != TLS_FORWARD_OFF;
  const struct tls_identity *who = conn_tls_identity(c);
  struct match_cert *cert = who ? arena_alloc(&s->arena, sizeof *cert) : NULL;
  if (!cert) return;
  *cert = (struct match_cert){.fingerprint = who->fingerprint,
                              .key = who->key,
                              .sans = who->sans,
                              .san_count = who->san_count,
                              .subject = who->subject,
                              .issuer = who->issuer,
                              .hash = who->hash};
  ctx->cert = cert;
  if (forward != TLS_FORWARD_OFF && !conn_tls_shown(c, 0, &ctx->cert_der))
    ctx->cert_der = SPAN_EMPTY;
  if (forward == TLS_FORWARD_CHAIN) chain_know(s);
}
