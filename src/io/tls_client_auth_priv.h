/* tls_client_auth_priv.h: the compiled client policies of a tls_server. Only src/io/tls_*.c and
 * stream_tls.c include it. */
#ifndef WEIR_IO_TLS_CLIENT_AUTH_PRIV_H
#define WEIR_IO_TLS_CLIENT_AUTH_PRIV_H

#include <openssl/sha.h>

#include "io/tls_conn_priv.h"
#include "weir/io/tls_client_auth.h"

struct tls_auth {
  bool required, crls, crl_shared;
  uint8_t forward;
  uint32_t depth;
  struct tls_roots *roots;
  STACK_OF(CRYPTO_BUFFER) * ca_names; /* what clients are told that is trusted */
  int64_t crl_ends;                   /* seconds since the epoch; INT64_MAX: never */
  struct span crl_label;
  uint8_t digest[SHA256_DIGEST_LENGTH]; /* of all that is asked: equal ones are one policy */
};

/* auth_name is a name of row `row`; of a wildcard what stands behind "*.". */
struct auth_name {
  struct span name;
  bool wildcard;
  uint32_t row;
};

struct tls_auths {
  struct tls_auth *rows;
  uint32_t row_count;
  struct auth_name *names; /* sorted */
  uint32_t name_count;
  uint32_t fallback; /* row + 1; 0: nothing is asked, or closed */
  bool closed;       /* a name that no row fits is refused */
};

/* tls_auths_new compiles; NULL with a sentence and the row's index in *bad. In server's arena. */
MUST_USE struct tls_auths *tls_auths_new(struct tls_server *server,
                                         const struct tls_server_conf *conf, uint32_t *bad,
                                         struct buf *why);
void tls_auths_free(struct tls_auths *auths);
/* tls_auth_refuses: do clients that ask for name (canonical; empty: none) get nothing? */
bool tls_auth_refuses(const struct tls_server *server, struct span name);
/* tls_auth_ask makes ssl ask for what the policy of name (as above) says. False: no memory. */
MUST_USE bool tls_auth_ask(struct tls_conn *tls, SSL *ssl, struct span name);
/* tls_auth_bind adds what is asked to what a session is bound to. */
void tls_auth_bind(const struct tls_conn *tls, SHA256_CTX *sha);
/* tls_auth_of is what is asked on this conn; NULL: nothing. */
const struct tls_auth *tls_auth_of(const struct tls_conn *tls);
/* tls_auth_blame sets the cause that the library's error has, if it is one of ours. */
void tls_auth_blame(struct tls_conn *tls, uint32_t code);
/* tls_client_cert_verify is the library's callback for the client's certificate. */
enum ssl_verify_result_t tls_client_cert_verify(SSL *ssl, uint8_t *alert);
/* tls_client_cert_coming is the library's callback for messages, looked at for what follows from
 * their length; tls_client_cert_verify comes after it. */
void tls_client_cert_coming(int is_write, int version, int type, const void *bytes, size_t len,
                            SSL *ssl, void *arg);
/* tls_client_cert_good tells whether auth would let in a client that shows, or does not show, what
 * the one of this conn did. The chain is looked at once; the verdict stands until auth asks for
 * something else: such a connection lasts for a drain. */
MUST_USE bool tls_client_cert_good(const struct tls_conn *tls, const struct tls_auth *auth);
/* tls_client_cert_recall notes who the client of a resumed session is. */
void tls_client_cert_recall(struct tls_conn *tls);

#endif
