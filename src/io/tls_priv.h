/* tls_priv.h: what the TLS files share about the compiled policy: certificates, their names, the
 * server and its library callbacks. Only src/io/tls_*.c and stream_tls.c include it. */
#ifndef WEIR_IO_TLS_PRIV_H
#define WEIR_IO_TLS_PRIV_H

#include <openssl/ssl.h>
#include <stdatomic.h>

#include "io/tls_estate_priv.h"
#include "weir/base/arena.h"
#include "weir/io/tls.h"

/* tls_key is a kind of certificate key that we serve, best first: a name may have one of each. */
enum tls_key { TLS_KEY_P256, TLS_KEY_P384, TLS_KEY_RSA, TLS_KEY_COUNT };

/* TLS_CHAIN_MAX is the most certificates in one chain. */
#define TLS_CHAIN_MAX 10

/* tls_cert is one chain with its key. tls_cert_parse fills it, tls_cert_fini drops the references;
 * spans are in the server's arena. */
struct tls_cert {
  struct span label;
  int64_t not_after; /* seconds since the epoch, of the leaf */
  enum tls_key key;
  bool is_default;
  bool names_given;   /* names are the configuration's, not the certificate's */
  struct span *names; /* canonical, wildcards as "*.x" */
  uint32_t name_count;
  struct span *own; /* those in the certificate alike, and then IP addresses as "10.0.0.1" */
  uint32_t own_count;
  struct tls_ocsp ocsp;
  struct tls_packed packed[TLS_PACKED_COUNT];
  CRYPTO_BUFFER *chain[TLS_CHAIN_MAX]; /* leaf first */
  uint32_t chain_count;
  EVP_PKEY *pkey;
};

/* tls_cert_parse reads chain, key and names; false with a sentence in why (naming the label).
 * pool shares equal certificates between chains. cert is zeroed before and needs tls_cert_fini
 * either way. */
MUST_USE bool tls_cert_parse(struct tls_cert *cert, const struct tls_cert_conf *conf,
                             CRYPTO_BUFFER_POOL *pool, struct arena *arena, struct buf *why);
void tls_cert_fini(struct tls_cert *cert);

/* tls_choice is the certificates of one name by kind of key: index + 1, 0: none. */
struct tls_choice {
  uint32_t cert[TLS_KEY_COUNT];
};

struct tls_name {
  struct span name; /* canonical; of a wildcard what stands behind "*." */
  bool wildcard;
  struct tls_choice choice;
};

/* tls_names is the SNI table: sorted by wildcard, then name. */
struct tls_names {
  struct tls_name *rows;
  uint32_t row_count;
  struct tls_choice fallback; /* certificates with default = true */
  bool has_fallback;
  struct tls_choice first; /* for clients without SNI when there is no default */
};

/* TLS_NAME_MAX is the longest host name in bytes (RFC 1035 section 2.3.4, without the last
 * dot). */
#define TLS_NAME_MAX 253
/* tls_name_canon writes the canonical form of a host name (lower case, no trailing dot) to
 * out[TLS_NAME_MAX] and its length to *len; false when it is none. Wildcards ("*.x") only where
 * pattern is set. */
MUST_USE bool tls_name_canon(struct span in, bool pattern, char *out, size_t *len);
/* tls_names_build makes the table of certs; false with a sentence in why and the index of the
 * certificate in *bad_cert when two certificates claim one name with one kind of key. */
MUST_USE bool tls_names_build(struct tls_names *names, const struct tls_cert *certs,
                              uint32_t cert_count, struct arena *arena, uint32_t *bad_cert,
                              struct buf *why);
/* tls_names_find gives what serves host (canonical; empty: no SNI), or NULL. */
const struct tls_choice *tls_names_find(const struct tls_names *names, struct span host);

struct tls_server {
  _Atomic uint32_t refs;
  uint32_t workers;
  uint32_t cert_count;
  struct tls_cert *certs;
  struct tls_names names;
  struct span alpn;
  bool alpn_needed; /* a client without ALPN is refused */
  uint16_t max_version;
  bool ech;        /* there are keys for it (tls_ech.c) */
  bool early_data; /* taken, as far as tls_early.c lets it */
  char *groups, *ciphers; /* NULL: as built */
  uint32_t suites;        /* tls_select_suites */
  bool tickets_off;
  struct tls_ticket_keys *tickets; /* NULL: the table of the process */
  uint8_t policy_digest[32]; /* SHA-256 of policy_id */
  struct tls_auths *auths;   /* NULL: clients are asked for nothing */
  CRYPTO_BUFFER_POOL *pool;
  SSL_CTX **ctx;      /* one per worker: no reference count is written by two of them */
  SSL_CTX **cert_ctx; /* one per certificate, its app data: swapped in for its chain and key */
  struct arena arena;
  struct tls_server *next_dead;
};

/* tls_cert_of is the certificate that was chosen for ssl. */
static inline const struct tls_cert *tls_cert_of(const SSL *ssl) {
  return (const struct tls_cert *)SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
}
/* tls_server_leave drops a conn's reference: the last one is for tls_servers_reap to free. */
void tls_server_leave(struct tls_server *server);
/* tls_ctx_base sets what all policies have in common: suites, groups, no early data (a server's
 * conns may take it: tls_early.c). */
void tls_ctx_base(SSL_CTX *ctx, uint16_t min_version, uint16_t max_version);
/* tls_ctx_new makes an SSL_CTX with the policy of server (versions, ciphers, groups,
 * callbacks). */
MUST_USE SSL_CTX *tls_ctx_new(const struct tls_server *server, uint16_t min_version);
/* tls_select_suites is the set of our suites of TLS 1.2 that ctx allows, for tls_select. */
uint32_t tls_select_suites(const SSL_CTX *ctx);
/* tls_select_fits: does one of that set fit a key? */
bool tls_select_fits(uint32_t suites, enum tls_key key);
/* tls_select is the library's early callback: reads the ClientHello, sets certificate and session
 * context. */
enum ssl_select_cert_result_t tls_select(const SSL_CLIENT_HELLO *hello);
/* tls_select_name is the library's callback for names: the alerts for what tls_select refused. */
int tls_select_name(SSL *ssl, int *alert, void *arg);
/* tls_select_alpn is its callback for clients with ALPN. */
int tls_select_alpn(SSL *ssl, const uint8_t **out, uint8_t *out_len, const uint8_t *in,
                    unsigned in_len, void *arg);
/* tls_tickets_key is SSL_CTX_set_tlsext_ticket_key_cb's callback. */
int tls_tickets_key(SSL *ssl, uint8_t *name, uint8_t *iv, EVP_CIPHER_CTX *cipher, HMAC_CTX *hmac,
                    int encrypt);
/* tls_ech_fill reads the keys of ECH in a file for server, whose names are made; false with a
 * sentence in why. */
MUST_USE bool tls_ech_fill(const struct tls_server *server, struct span pem, struct span label,
                           struct buf *why);
/* tls_mem_use links tls_mem.c in: the library finds its functions only by weak symbols. */
void tls_mem_use(void);

#endif
