/* tls.h: TLS termination over a conn, behind one seam: no other layer sees the library. A
 * tls_server is the compiled TLS policy of one listener: certificates by SNI and by signature
 * algorithm, ALPN, versions, ticket handling; immutable, made off the data path, with one SSL_CTX
 * per worker. RFC 8446, RFC 5246, RFC 6066 (SNI), RFC 7301 (ALPN), RFC 5077 (tickets), RFC 9325
 * (policy). */
#ifndef WEIR_IO_TLS_H
#define WEIR_IO_TLS_H

#include "weir/base/end.h"
#include "weir/io/conn.h"
#include "weir/io/tls_stats.h"

struct tls_auth_conf; /* tls_client_auth.h */
struct tls_server;

/* tls_cert_conf is one certificate chain and its key, as bytes that were read by the caller. */
struct tls_cert_conf {
  const struct span *names; /* server names, exact or "*.x"; none: those of the certificate */
  uint32_t name_count;
  struct span cert_pem, key_pem;
  struct span label; /* for messages: the file that cert came from */
  bool is_default;   /* serves unknown and absent SNI */
  struct span ocsp_der, ocsp_label; /* what is stapled; empty: nothing */
};

struct tls_server_conf {
  const struct tls_cert_conf *certs;
  uint32_t cert_count;
  uint16_t min_version, max_version; /* 0x0303, 0x0304 */
  /* alpn: wire form, length-prefixed names in our order; empty: ALPN is ignored. A client without
   * speaks "http/1.1" (RFC 9113, 3.2): it is refused where only others are, and not optional. */
  struct span alpn;
  struct span groups;  /* names, best first, with ':' between; empty: as built (TLS_GROUPS) */
  struct span ciphers; /* suites of TLS 1.2 alike; empty: all that weir has */
  bool tickets_off;    /* every handshake is a full one */
  /* ticket_keys: bytes of shared keys (tls_ticket_keys.c), the first encrypts; none: the table of
   * the process. */
  const struct span *ticket_keys;
  uint32_t ticket_key_count;
  struct span policy_id; /* binds sessions: all that clients are asked for and promised */
  const struct tls_auth_conf *auths; /* what clients are asked for; sessions are bound to it too */
  uint32_t auth_count, workers;
  bool auth_closed; /* with auths: a name that no row fits is refused, else nothing is asked */
  bool early_data, alpn_optional; /* taken (tls_early.h); may be left out by clients */
  struct span ech_pem, ech_label; /* keys of ECH and their file (tls_ech.h); empty: none */
};

/* What *bad_cert says beside the index of a certificate. */
#define TLS_BAD_OCSP 0x40000000u /* a bit: of the certificate, its OCSP response */
#define TLS_BAD_GROUPS (UINT32_MAX - 1u)
#define TLS_BAD_CIPHERS (UINT32_MAX - 2u)
#define TLS_BAD_TICKETS (UINT32_MAX - 3u)

/* tls_server_new compiles, with one reference; NULL with a sentence in why and the index of the
 * faulty certificate in *bad_cert, or another TLS_BAD. Checks: parse, key matches, chain order;
 * expiry is only noted (tls_server_cert). Not on the data path. */
MUST_USE struct tls_server *tls_server_new(const struct tls_server_conf *conf, uint32_t *bad_cert,
                                           struct buf *why);
void tls_server_ref(struct tls_server *server);   /* any thread, atomic */
void tls_server_unref(struct tls_server *server); /* not on the data path: it may free */
/* tls_servers_reap frees those whose last reference was a connection's. Not on the data path. */
void tls_servers_reap(void);
/* tls_server_cert gives label (with server) and expiry of certificate i; false at the end. */
bool tls_server_cert(const struct tls_server *server, uint32_t i, struct span *label,
                     int64_t *not_after);
/* tls_server_ocsp gives the label of the OCSP response of certificate i and when it ends; false:
 * there is none. tls_server_stapled: it ends after now_s. tls_server_stale writes a sentence on
 * the first one that is not, and its TLS_BAD_OCSP to *bad; false: there is none. */
bool tls_server_ocsp(const struct tls_server *server, uint32_t i, struct span *label,
                     int64_t *next_update);
bool tls_server_stale(const struct tls_server *server, int64_t now_s, uint32_t *bad,
                      struct buf *why);
bool tls_server_stapled(const struct tls_server *server, uint32_t i, int64_t now_s);
/* tls_server_serves tells whether a client that asks for host gets a certificate (its own or the
 * default one) or, for an unknown or malformed name, the unrecognized_name alert. */
bool tls_server_serves(const struct tls_server *server, struct span host);

/* Without ticket_keys they are one table for the process: drawn at start, rotated by
 * tls_tickets_rotate (the new one encrypts, the two before still decrypt and their sessions get a
 * new ticket), shared by all workers and servers. Either way sessions are bound to policy_id and
 * SNI, not to a certificate. Any thread; tls_tickets_init may be called again and then does
 * nothing. */
void tls_tickets_init(void);
void tls_tickets_rotate(void);

/* tls_prepare makes what a loop needs for TLS before the first client comes. */
void tls_prepare(struct loop *loop);
/* tls_accept stacks TLS on an accepted and attached conn (takes a ref on server) for `worker`, and
 * arms its receive; the handshake starts with the first bytes, on_open tells its end. False: no
 * slot is left, c is untouched. The library's state is made at the first byte, not before. */
MUST_USE bool tls_accept(struct conn *c, struct tls_server *server, uint32_t worker);
/* tls_answer_plain queues bytes in the clear on a conn whose handshake failed with
 * END_CLIENT_PLAIN_ON_TLS: a plain 400, then conn_close_gently. False: no buffer. */
MUST_USE bool tls_answer_plain(struct conn *c, struct span bytes);
/* After a failed handshake the alert is in the output buffer: conn_close_gently delivers it,
 * conn_close does not. */

/* TLS_WIRE_BYTES bounds what len bytes of plaintext (and a close_notify) take on the wire: records
 * are no smaller than TLS_RECORD_MIN but for the last, each adds at most 64 bytes. */
#define TLS_RECORD_MIN 1300u
#define TLS_WIRE_BYTES(len) ((len) + ((len) / TLS_RECORD_MIN + 3u) * 64u)

/* Handshakes run for at most about TLS_BUDGET_NS per turn of a loop; those beyond it wait in the
 * order of their arrival and go on in the next turns (loop->budget_run, set by tls_accept). Data
 * of finished handshakes never waits for them. */
#define TLS_BUDGET_NS 1000000u

/* tls_info describes a finished or failed handshake. Spans live until conn_close. */
struct tls_info {
  struct span version; /* "1.3"; empty: none was negotiated */
  struct span cipher;  /* IANA name */
  struct span group;   /* of the key exchange, as in tls_server_conf; empty: there was none */
  struct span sni;     /* canonical lower case, no trailing dot; empty: none */
  struct span alpn;    /* what was chosen: "http/1.1", "h2"; empty: nothing, so HTTP/1.1 */
  struct span why;     /* the library's word for a failure: "NO_SHARED_CIPHER"; empty: none */
  /* Of the client's certificate, good or not (tls_client_auth.h says which is good); empty: none.
   * The names have the form of RFC 2253, hash is its SHA-256 in upper case hex. */
  struct span subject, issuer, hash;
  bool resumed;
  uint8_t early;         /* enum tls_early (tls_early.h) */
  uint8_t ech;           /* enum tls_ech (tls_ech.h) */
  bool stapled;      /* the certificate came with its OCSP response */
  bool staple_stale; /* the client asked for it, but it is not valid now */
  bool silent;       /* no byte has come */
  uint64_t handshake_ns; /* from first byte to the end, in loop time; 0 while it lasts */
  enum end end;          /* END_OK, or why it failed */
};
/* conn_tls_info fills out; all empty and END_OK on a conn without TLS. */
void conn_tls_info(const struct conn *c, struct tls_info *out);
/* conn_tls_end is conn_tls_info's end alone. */
enum end conn_tls_end(const struct conn *c);
/* conn_tls_partial: bytes came of a record that is not whole yet. */
bool conn_tls_partial(const struct conn *c);

/* tls_self_signed makes an ECDSA P-256 certificate for names (DNS names or addresses; PEM,
 * appended), valid for days. False when a buf is too small or names is empty. For `weir demo`. */
MUST_USE bool tls_self_signed(const struct span *names, uint32_t name_count, uint32_t days,
                              struct buf *cert_pem, struct buf *key_pem);
/* tls_keylog_use writes the secrets of all connections whose policy is made from now on to fd,
 * which stays open. For debugging; before the first policy. */
void tls_keylog_use(int fd);
/* tls_library names library and version for `weir version`. */
const char *tls_library(void);
/* tls_random fills with the library's randomness (seeds, ids). */
void tls_random(void *out, size_t len);

#endif
