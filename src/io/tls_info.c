/* tls_info.c: what is asked of a conn about its TLS: how far it is, what was agreed on, who is at
 * the other end. Changes nothing. What became of it as a whole (conn_tls_end) is known to
 * stream_tls.c. Called by other layers. */
#include <errno.h>

#include "io/io_priv.h"
#include "io/tls_client_auth_priv.h"
#include "io/tls_client_priv.h"
#include "weir/io/tls_signer.h"

static const struct tls_conn *client_of(const struct conn *c) {
  const struct tls_conn *tls = tls_conn_of(c);
  return tls && tls->is_client ? tls : NULL;
}

bool conn_tls_shaking(const struct conn *c) {
  const struct tls_conn *tls = client_of(c);
  return tls && tls->state == TLS_HANDSHAKE && tls->clock_ns;
}

bool conn_tls_h2(const struct conn *c) {
  const struct tls_conn *tls = client_of(c);
  const uint8_t *name = NULL;
  unsigned len = 0;
  if (!tls || !tls->ssl) return false;
  SSL_get0_alpn_selected(tls->ssl, &name, &len);
  return span_eq(span_of((const char *)name, len), SPAN_LIT("h2"));
}

bool conn_tls_signing(const struct conn *c) {
  const struct tls_conn *tls = tls_conn_of(c);
  return tls && tls_signer_waits(tls);
}

bool conn_tls_partial(const struct conn *c) {
  const struct tls_conn *tls = tls_conn_of(c);
  return tls && tls->ssl && SSL_has_pending(tls->ssl);
}

bool conn_early(const struct conn *c) {
  const struct tls_conn *tls = tls_conn_of(c);
  return tls && tls->zero_rtt_on;
}

uint32_t conn_early_bytes(const struct conn *c) {
  const struct tls_conn *tls = tls_conn_of(c);
  return tls ? tls->zero_rtt_bytes : 0;
}

struct span tls_conn_sni(const struct tls_conn *tls) {
  if (!tls->sni_known) return SPAN_EMPTY;
  return span_str(tls->sni ? tls->sni : SSL_get_servername(tls->ssl, TLSEXT_NAMETYPE_host_name));
}

/* group_of: who resumes in TLS 1.2 exchanges no keys. */
static struct span group_of(const SSL *ssl) {
  bool none = SSL_session_reused(ssl) && SSL_version(ssl) < TLS1_3_VERSION;
  uint16_t id = none ? 0 : SSL_get_curve_id(ssl);
  return id ? span_str(SSL_get_curve_name(id)) : SPAN_EMPTY;
}

/* why_of is why there was no handshake: where the socket failed, the library knows of nothing. */
static struct span why_of(const struct conn *c, const struct tls_conn *tls) {
  bool cut = tls->state == TLS_HANDSHAKE && conn_any(c, CONN_FAILED);
  if (tls->why || !cut || tls->is_client) return span_str(tls->why);
  if (c->send_err == -ENOBUFS) return SPAN_LIT("no buffer was left");
  if (c->send_err == -ETIMEDOUT) return SPAN_LIT("CONNECTION_TIMED_OUT");
  return SPAN_LIT("CONNECTION_RESET");
}

void conn_tls_info(const struct conn *c, struct tls_info *out) {
  const struct tls_conn *tls = tls_conn_of(c);
  *out = (struct tls_info){.end = END_OK};
  if (!tls) return;
  out->end = conn_tls_end(c);
  out->why = why_of(c, tls);
  out->silent = tls->sniffing && tls->sniff_len == 0;
  out->handshake_ns = tls->state == TLS_HANDSHAKE ? 0 : tls->clock_ns;
  if (tls->identity) {
    out->subject = tls->identity->subject;
    out->issuer = tls->identity->issuer;
    out->hash = tls->identity->hash;
  }
  if (!tls->ssl) return;
  out->sni = tls_conn_sni(tls);
  out->early = tls->zero_rtt;
  out->ech = (uint8_t)tls_ech_of(tls);
  const SSL_CIPHER *cipher = SSL_get_current_cipher(tls->ssl);
  if (!cipher) return;
  out->cipher = span_str(SSL_CIPHER_standard_name(cipher));
  out->version = span_from(span_str(SSL_get_version(tls->ssl)), sizeof("TLSv") - 1);
  const uint8_t *alpn = NULL;
  unsigned alpn_len = 0;
  SSL_get0_alpn_selected(tls->ssl, &alpn, &alpn_len);
  out->alpn = span_of((const char *)alpn, alpn_len);
  out->resumed = SSL_session_reused(tls->ssl) == 1;
  out->group = group_of(tls->ssl);
  out->stapled = tls->stapled && !out->resumed; /* who resumes is shown no certificate */
  out->staple_stale = tls->staple_stale && !out->resumed;
}
