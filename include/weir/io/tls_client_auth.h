/* tls_client_auth.h: mutual TLS: what a tls_server asks of clients, by the server name that they
 * ask for, and who a client turned out to be. What is asked for one name is never met by what was
 * shown for another: sessions are bound to it (RFC 5246 section 7.4.1.2, RFC 8446 section 4.2.11),
 * and a connection serves only hosts of which the same is asked (RFC 9110 section 15.5.20). */
#ifndef WEIR_IO_TLS_CLIENT_AUTH_H
#define WEIR_IO_TLS_CLIENT_AUTH_H

#include "weir/io/tls.h"

/* tls_forward: which of a client's certificates go on in fields (RFC 9440). */
enum tls_forward { TLS_FORWARD_OFF, TLS_FORWARD_CERT, TLS_FORWARD_CHAIN };

/* tls_auth_conf is what is asked of clients. A name is exact, or "*.x" for all names below x; of
 * those that fit the exact one counts, then the longest; without names it is for all others and
 * for clients that name none. Where no row fits, clients are asked for nothing, or refused
 * (tls_server_conf.auth_closed): nothing behind the handshake would tell them apart. */
struct tls_auth_conf {
  const struct span *names;
  uint32_t name_count;
  bool required;                  /* else a client may have no certificate, but no bad one */
  struct span ca_pem, ca_label;   /* certificates that are trusted */
  struct span crl_pem, crl_label; /* CRLs; empty: nothing is looked up */
  uint32_t depth;                 /* certificates between a client's and the trusted one */
  uint8_t forward;                /* enum tls_forward */
  bool crl_shared;                /* other rows have a file of CRLs of this one too */
};
/* TLS_BAD_AUTH + i in *bad_cert of tls_server_new: row i of the auths is at fault. */
#define TLS_BAD_AUTH 0x80000000u
/* tls_server_crl gives label and nextUpdate (seconds since the epoch) of the CRL of row i that
 * runs out first; false at the end. INT64_MAX: it has none. */
bool tls_server_crl(const struct tls_server *server, uint32_t i, struct span *label,
                    int64_t *next_update);

/* tls_pem_check tells whether one file has certificates, or CRLs (crl), in PEM; false: a sentence
 * that begins with label. Files of one list are checked each by itself: what reads them together
 * passes over whatever stands between PEM blocks, a whole file in DER too. */
MUST_USE bool tls_pem_check(struct span pem, struct span label, bool crl, struct buf *why);

#define TLS_DIGEST_BYTES 32u
/* tls_identity is the certificate that a client showed, and that was found good. */
struct tls_identity {
  uint8_t fingerprint[TLS_DIGEST_BYTES]; /* SHA-256 of the certificate */
  uint8_t key[TLS_DIGEST_BYTES];         /* SHA-256 of its public key (SPKI) */
  struct span hash;                      /* fingerprint in upper case hex */
  struct span subject, issuer;           /* in the form of RFC 2253 */
  struct span name;                      /* common name; empty: none, or a longer one */
  /* sans are its subject alternative names: "dns:a.example" (lower case), "uri:", "email:", "ip:";
   * at most TLS_SANS_MAX, in 4 KiB. */
  const struct span *sans;
  uint32_t san_count;
};
#define TLS_SANS_MAX 64u
#define TLS_COMMON_NAME_MAX 255u /* bytes: what a PROXY header takes (proxy_tlv.def) */
/* conn_tls_identity: NULL without a certificate. Lives until conn_close. */
const struct tls_identity *conn_tls_identity(const struct conn *c);
/* conn_tls_shown gives certificate i in DER as the client sent it, its own first; false at the
 * end. Lives as long. */
MUST_USE bool conn_tls_shown(const struct conn *c, uint32_t i, struct span *der);
/* conn_tls_forward is what the policy says of fields. */
enum tls_forward conn_tls_forward(const struct conn *c);

/* conn_tls_covers tells whether requests for host (canonical) may come by this connection: now
 * (the listener's server as it is; NULL: none) asks of that host what was asked here, or c is
 * stale and what was shown on it is enough for what is asked now: then the chain is looked at
 * anew, and where nothing is asked now nothing may have been shown. One without TLS may where no
 * certificate is required and no name is refused. */
bool conn_tls_covers(const struct conn *c, const struct tls_server *now, struct span host);
/* conn_tls_stale tells whether now asks for something else than what was asked for on c. */
bool conn_tls_stale(const struct conn *c, const struct tls_server *now);

#endif
