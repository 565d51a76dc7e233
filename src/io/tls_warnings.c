/* tls_warnings.c: what a compiled policy has that cannot do now what it is there for: certificates
 * and CRLs whose time is past or has not come, CRLs of others than the CAs beside them, names that
 * certificates lack, certificates that no suite fits or no name leads to. The policy is taken all
 * the same, for a clock may be wrong and a file may be replaced. OCSP responses have theirs in
 * tls_ocsp.c. Off the data path; called by control/. */
#include "weir/io/tls_warnings.h"

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

/* ---- names ---- */

static const struct span wild = SPAN_LIT("*.");

static struct span label_off(struct span name) {
  size_t dot = span_find_char(name, '.', 0);
  return dot == SIZE_MAX ? SPAN_EMPTY : span_from(name, dot);
}

/* fits tells whether a name of a certificate is that of host, by RFC 6125 section 6.4.3; of host
 * "*.x", whether it is below x. */
static bool fits(struct span name, struct span host) {
  if (span_eq(name, host)) return true;
  if (span_starts(host, wild)) return span_ends(name, span_from(host, 1));
  if (!span_starts(name, wild)) return false;
  return span_eq(span_from(name, 1), label_off(host));
}

static bool has_own(const struct tls_cert *cert, struct span host) {
  for (uint32_t i = 0; i < cert->own_count; i++)
    if (fits(cert->own[i], host)) return true;
  return false;
}

static bool misnamed(const struct tls_cert *cert, struct buf *why) {
  for (uint32_t i = 0; cert->names_given && i < cert->name_count; i++) {
    if (has_own(cert, cert->names[i])) continue;
    buf_printf(why,
               "certificate " SPAN_FMT " is given the name \"" SPAN_FMT
               "\", which is not in it: browsers refuse it there",
               SPAN_ARG(cert->label), SPAN_ARG(cert->names[i]));
    return true;
  }
  return false;
}

/* named: a certificate is chosen for host by its name, in it or given. */
static bool named(const struct tls_names *names, struct span host) {
  char text[TLS_NAME_MAX + 3];
  if (!span_starts(host, wild)) {
    const struct tls_choice *choice = tls_names_find(names, host);
    return choice && choice != &names->fallback;
  }
  for (uint32_t i = 0; i < names->row_count; i++) {
    struct buf name = buf_of(text, sizeof(text));
    if (names->rows[i].wildcard) buf_put(&name, wild);
    buf_put(&name, names->rows[i].name);
    if (fits(buf_span(&name), host)) return true;
  }
  return false;
}

/* chosen_lacks: the certificate that is chosen by no name. One for each kind of key may be. */
static bool chosen_lacks(const struct tls_server *server, const struct tls_choice *choice,
                         struct span host, struct buf *why) {
  for (uint32_t key = 0; key < TLS_KEY_COUNT; key++) {
    const struct tls_cert *cert =
        choice->cert[key] ? &server->certs[choice->cert[key] - 1] : NULL;
    if (!cert || has_own(cert, host)) continue;
    buf_printf(why,
               "no certificate has the name " SPAN_FMT ": its clients get " SPAN_FMT
               ", and browsers refuse it",
               SPAN_ARG(host), SPAN_ARG(cert->label));
    return true;
  }
  return false;
}

/* address_of writes host as certificates have it, when it is an address. */
static bool address_of(struct span host, struct buf *out) {
  struct addr ip;
  if (span_starts(host, SPAN_LIT("["))) host = span_sub(host, 1, host.len - 2);
  if (!addr_from_ip(host, 0, &ip)) return false;
  addr_write_ip(&ip, out);
  return true;
}

bool tls_server_lacks(const struct tls_server *server, struct span host, struct buf *why) {
  const struct tls_names *names = &server->names;
  char text[64];
  struct buf ip = buf_of(text, sizeof(text));
  if (address_of(host, &ip)) /* who asks for one sends no name (RFC 6066 section 3) */
    return chosen_lacks(server, tls_names_find(names, SPAN_EMPTY), buf_span(&ip), why);
  if (named(names, host)) return false;
  if (names->has_fallback) return chosen_lacks(server, &names->fallback, host, why);
  buf_printf(why, "no certificate has the name " SPAN_FMT ": its clients are refused",
             SPAN_ARG(host));
  return true;
}

/* ---- what is of no use ---- */

/* shown_first: the certificate that clients of a choice get when none of its keys fits them. */
static uint32_t shown_first(const struct tls_choice *choice) {
  uint32_t key = 0;
  while (key < TLS_KEY_COUNT && !choice->cert[key]) key++;
  return key < TLS_KEY_COUNT ? choice->cert[key] : 0;
}

static bool suited(const struct tls_server *server, const struct tls_choice *choice) {
  for (uint32_t key = 0; key < TLS_KEY_COUNT; key++)
    if (choice->cert[key] && tls_select_fits(server->suites, (enum tls_key)key)) return true;
  return false;
}

/* unsuited: clients of TLS 1.2 that get certificate i find no suite, nor another certificate. */
static bool unsuited(const struct tls_server *server, uint32_t i, struct buf *why) {
  const struct tls_names *names = &server->names;
  const struct tls_choice *rest = names->has_fallback ? &names->fallback : &names->first;
  bool found = shown_first(rest) == i + 1 && !suited(server, rest);
  for (uint32_t row = 0; !found && row < names->row_count; row++) {
    const struct tls_choice *choice = &names->rows[row].choice;
    found = shown_first(choice) == i + 1 && !suited(server, choice);
  }
  if (!server->ciphers || !found) return false;
  const struct tls_cert *cert = &server->certs[i];
  buf_printf(why,
             "certificate " SPAN_FMT " has a key of %s, which no suite of ciphers (%s) fits: %s",
             SPAN_ARG(cert->label), cert->key == TLS_KEY_RSA ? "RSA" : "ECDSA", server->ciphers,
             server->max_version > TLS1_2_VERSION ? "its clients of TLS 1.2 are refused"
                                                  : "all its clients are refused");
  return true;
}

/* nameless: a certificate that only clients without SNI get, or nobody. One for an address is for
 * those. */
static bool nameless(const struct tls_server *server, uint32_t i, struct buf *why) {
  const struct tls_cert *cert = &server->certs[i];
  const struct tls_names *names = &server->names;
  bool without = !names->has_fallback && names->first.cert[cert->key] == i + 1;
  if (cert->name_count || cert->is_default || (without && cert->own_count)) return false;
  buf_printf(why, "certificate " SPAN_FMT " has no DNS name and is given none: %s gets it",
             SPAN_ARG(cert->label), without ? "no client that names a server" : "no client");
  return true;
}

/* ---- all of it ---- */

/* what_of: what there is to be told of each certificate, as bits of *bad. */
static const uint32_t what_of[] = {0, TLS_BAD_NAMES, TLS_BAD_SUITES, TLS_BAD_NAMELESS};

static bool of_cert(const struct tls_server *server, uint32_t i, uint32_t what, int64_t now_s,
                    struct buf *why) {
  switch (what) {
    case TLS_BAD_NAMES: return misnamed(&server->certs[i], why);
    case TLS_BAD_SUITES: return unsuited(server, i, why);
    case TLS_BAD_NAMELESS: return nameless(server, i, why);
    default: return cert_warning(&server->certs[i], now_s, why);
  }
}

bool tls_server_warning(const struct tls_server *server, int64_t now_s, uint32_t *from,
                        uint32_t *bad, struct buf *why) {
  const uint32_t kinds = array_count(what_of);
  uint32_t rows = server->auths ? server->auths->row_count : 0, certs = server->cert_count;
  while (*from < kinds * certs + rows) {
    uint32_t i = (*from)++, cert = i / kinds, row = i - kinds * certs;
    bool of_row = i >= kinds * certs;
    uint32_t what = what_of[i % kinds];
    *bad = of_row ? TLS_BAD_AUTH + row : cert | what;
    if (of_row ? crl_warning(&server->auths->rows[row], now_s, why)
               : of_cert(server, cert, what, now_s, why))
      return true;
  }
  return false;
}
