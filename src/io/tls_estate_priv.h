/* tls_estate_priv.h: what a TLS policy has beside certificates and versions: OCSP responses,
 * compressed chains, ticket keys from files, groups and suites, the key log. Only src/io/tls_*.c
 * and stream_tls.c include it. */
#ifndef WEIR_IO_TLS_ESTATE_PRIV_H
#define WEIR_IO_TLS_ESTATE_PRIV_H

#include <openssl/ssl.h>

#include "weir/base/arena.h"
#include "weir/io/tls.h"

struct tls_cert;

/* tls_ocsp is what is stapled to a certificate: spans are in the server's arena. */
struct tls_ocsp {
  struct span der, label;           /* empty: nothing */
  int64_t this_update, next_update; /* seconds since the epoch: valid from, and before */
};

/* tls_packed is a compressed Certificate message of TLS 1.3 (RFC 8879), in the server's arena;
 * empty where it does not pay. What it was is known by length and hash: there is only our own. */
struct tls_packed {
  uint64_t plain_hash;
  size_t plain_len;
  struct span packed;
};
/* By brotli and zlib, each without and with the staple. */
#define TLS_PACKED_COUNT 4

/* tls_ocsp_load checks an OCSP response (RFC 6960) and that it is about cert, which was parsed;
 * false with a sentence. That it is valid now is for tls_ocsp_valid, its signature for clients. */
MUST_USE bool tls_ocsp_load(struct tls_cert *cert, struct span der, struct span label,
                            struct arena *arena, struct buf *why);
bool tls_ocsp_valid(const struct tls_ocsp *ocsp, int64_t now_s);

/* tls_compress_fill compresses what clients are shown of cert, once, and lets ctx, which holds
 * cert, say so to those that can. */
void tls_compress_fill(struct tls_cert *cert, SSL_CTX *ctx, struct arena *arena);
/* tls_compress_anew counts messages that were compressed in a handshake, being another one than
 * was foreseen: none is known. */
uint64_t tls_compress_anew(void);
/* tls_keylog_set makes ctx write secrets where tls_keylog_use was called. */
void tls_keylog_set(SSL_CTX *ctx);
/* tls_params_set puts groups and suites of TLS 1.2 (NULL: as they are) into ctx; false with a
 * sentence, and a TLS_BAD in *bad, where the library knows one not. */
MUST_USE bool tls_params_set(SSL_CTX *ctx, const char *groups, const char *ciphers, uint32_t *bad,
                             struct buf *why);
/* tls_ticket_keys_new reads keys (the first encrypts); NULL with a sentence. _free wipes them. */
MUST_USE struct tls_ticket_keys *tls_ticket_keys_new(const struct span *keys, uint32_t count,
                                                     struct buf *why);
void tls_ticket_keys_free(struct tls_ticket_keys *keys);
/* tls_ticket_keys_key is tls_tickets_key for a server that has its own. */
int tls_ticket_keys_key(SSL *ssl, uint8_t *name, uint8_t *iv, EVP_CIPHER_CTX *cipher,
                        HMAC_CTX *hmac, int encrypt);

#endif
