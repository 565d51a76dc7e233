/* tls_warnings.c: what a compiled policy has that cannot do now what it is there for: certificates
 * and CRLs whose time is past or has not come, CRLs of others than the CAs beside them. The policy
 * is taken all the same, for a clock may be wrong and a file may be replaced. OCSP responses have
 * theirs in tls_ocsp.c. Off the data path; called by control/. */
#include "io/tls_chain_priv.h"
#include "io/tls_client_auth_priv.h"

static int64_t seconds_of(const ASN1_TIME *time, int64_t unknown) {
  int64_t s;
  return time && ASN1_TIME_to_posix(time, &s) ? s : unknown;
}

static const char *untimely(int64_t begins, int64_t ends, int64_t now_s) {
  return now_s < begins ? "is not valid yet" : now_s > ends ? "has expired" : NULL;
}

/* cert_warning is about the first of the chain that clients will not take. Of an intermediate one
 * (cross-signed, say) they may know another. */
static bool cert_warning(const struct tls_cert *cert, int64_t now_s, struct buf *why) {
  const char *what = NULL;
  for (uint32_t i = 0; !what && i < cert->chain_count; i++) {
    X509 *one = X509_parse_from_buffer(cert->chain[i]);
    if (!one) continue; /* it could be read when it was compiled */
    what = untimely(seconds_of(X509_get0_notBefore(one), INT64_MIN),
                    seconds_of(X509_get0_notAfter(one), INT64_MAX), now_s);
    X509_free(one);
    if (what)
      buf_printf(why, "%s " SPAN_FMT " %s: %s",
                 i ? "an intermediate certificate in" : "certificate", SPAN_ARG(cert->label), what,
                 i ? "some clients may refuse it" : "clients refuse it");
  }
  return what != NULL;
}

/* crl_warning: a chain needs a CRL of the CA that ends it (when it has another certificate), and
 * with depth 0 none else; but other rows may, of the same file. */
static bool crl_warning(const struct tls_auth *auth, int64_t now_s, struct buf *why) {
  struct tls_crls crls;
  if (!auth->crls) return false;
  tls_roots_crls(auth->roots, &crls);
  const char *what = untimely(crls.begins, crls.ends, now_s);
  if (what)
    buf_printf(why, "a CRL in " SPAN_FMT " %s: clients that need it are refused",
               SPAN_ARG(auth->crl_label), what);
  else if (crls.own == 0)
    buf_printf(why, "no CRL in " SPAN_FMT " is of a CA of its row: all clients are refused",
               SPAN_ARG(auth->crl_label));
  else if (crls.own < crls.count && auth->depth == 0 && !auth->crl_shared)
    buf_printf(why, "a CRL in " SPAN_FMT " is of none of the CAs of its row: nothing needs it",
               SPAN_ARG(auth->crl_label));
  return why->len > 0;
}

bool tls_server_warning(const struct tls_server *server, int64_t now_s, uint32_t *from,
                        uint32_t *bad, struct buf *why) {
  uint32_t rows = server->auths ? server->auths->row_count : 0;
  while (*from < server->cert_count + rows) {
    uint32_t i = (*from)++, row = i - server->cert_count;
    bool cert = i < server->cert_count;
    *bad = cert ? i : TLS_BAD_AUTH + row;
    if (cert ? cert_warning(&server->certs[i], now_s, why)
             : crl_warning(&server->auths->rows[row], now_s, why))
      return true;
  }
  return false;
}
