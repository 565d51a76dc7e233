/* tls_client_priv.h: what the files of TLS to endpoints share: the compiled policy, the peer, and
 * what stream_tls.c asks of them. Only src/io/tls_*.c and stream_tls.c include it. */
#ifndef WEIR_IO_TLS_CLIENT_PRIV_H
#define WEIR_IO_TLS_CLIENT_PRIV_H

#include <openssl/sha.h>
#include <openssl/x509.h>

#include "io/tls_conn_priv.h"
#include "weir/io/tls_client.h"

/* tls_client is the compiled policy of one pool. ctx and roots are one per worker: a store has a
 * lock, which is then nobody else's. */
struct tls_client {
  _Atomic uint32_t refs;
  uint32_t workers;
  bool verify, has_cert, h2_only;
  struct span alpn; /* wire form */
  char *sni;        /* NULL: the endpoint's name */
  char **names;     /* one of which the certificate must have; none: sni, or the endpoint's */
  uint32_t name_count;
  uint8_t (*pins)[SHA256_DIGEST_LENGTH];
  uint32_t pin_count;
  struct tls_cert cert;
  CRYPTO_BUFFER_POOL *pool;
  SSL_CTX **ctx;
  struct tls_roots *roots; /* where verify */
  struct arena arena;
  struct tls_client *next_dead;
};

/* TLS_SESSIONS_MAX are kept for an endpoint by each worker: a TLS 1.3 ticket serves once. */
#define TLS_SESSIONS_MAX 8u

struct tls_peer {
  uint32_t refs; /* of its worker alone */
  uint32_t worker;
  struct tls_client *client; /* a ref */
  const char *sni;           /* NULL: none is sent */
  char *host;                /* the endpoint's name, canonical; NULL: an address */
  uint8_t ip[16];
  uint8_t ip_len; /* 0: a unix socket */
  uint8_t spoken; /* enum tls_spoken */
  uint64_t spoken_ms;
  struct tls_counts counts;
  SSL_SESSION *sessions[TLS_SESSIONS_MAX]; /* newest last */
  uint32_t session_count;
};

/* tls_verify is the library's callback for the server's certificate. */
enum ssl_verify_result_t tls_verify(SSL *ssl, uint8_t *alert);
/* tls_session_keep is the library's callback for a new session; tls_session_use gives the newest
 * one that may be used to ssl. */
int tls_session_keep(SSL *ssl, SSL_SESSION *session);
void tls_session_use(struct tls_peer *peer, SSL *ssl);
void tls_sessions_drop(struct tls_peer *peer);
/* tls_client_of finds the state whose library call a client's callback comes from. */
static inline struct tls_conn *tls_client_of(const SSL *ssl) {
  return (struct tls_conn *)SSL_get_app_data(ssl);
}
/* tls_client_ssl makes the library's state of a client's conn. */
SSL *tls_client_ssl(struct tls_conn *tls);
/* tls_client_chosen: the handshake is done: END_OK, or why it does not fit; *h2: what was chosen.
 */
enum end tls_client_chosen(struct tls_conn *tls, bool *h2);
/* tls_client_fault is the cause that the library's error has (0: none) for a client's conn. */
enum end tls_client_fault(const struct tls_conn *tls, uint32_t code);
/* tls_client_late is the same of one whose handshake is done: in TLS 1.3 a server looks at weir's
 * certificate after that (RFC 8446 section 4.4.2.4). */
enum end tls_client_late(const struct tls_conn *tls, uint32_t code);

#endif
