/* tls_compress.c: certificates go compressed to clients that can take them so (RFC 8879, TLS 1.3
 * alone): by brotli or zlib, once for each certificate when its policy is made, not in handshakes.
 * The library asks for a whole Certificate message to be compressed; which ones there are is known
 * before: the chain, without and with its OCSP response. Where that saves next to nothing, it is
 * not offered. Called by tls_server.c, and by the library on workers. */
#include <openssl/bytestring.h>
#include <openssl/mem.h>
#include <openssl/pool.h>
#include <stdatomic.h>
#ifdef WEIR_ZLIB
#include <zlib.h>
#endif
#ifdef WEIR_BROTLI
#include <brotli/encode.h>
#endif

#include "io/tls_priv.h"
#include "weir/base/hash.h"

#define ZLIB_ID 1u
#define BROTLI_ID 2u
/* Below this saving it does not pay to be another kind of message. */
#define SAVED_PERCENT_MIN 5u

static _Atomic uint64_t anew;

uint64_t tls_compress_anew(void) { return atomic_load_explicit(&anew, memory_order_relaxed); }

/* ---- the two ways: compress into out, which has room for *len; false: it does not fit ---- */

#ifdef WEIR_BROTLI
static bool by_brotli(const uint8_t *in, size_t in_len, uint8_t *out, size_t *len) {
  return BrotliEncoderCompress(BROTLI_MAX_QUALITY, BROTLI_MIN_WINDOW_BITS + 6, BROTLI_MODE_GENERIC,
                               in_len, in, len, out) == BROTLI_TRUE;
}
#endif

#ifdef WEIR_ZLIB
static bool by_zlib(const uint8_t *in, size_t in_len, uint8_t *out, size_t *len) {
  uLongf room = (uLongf)*len;
  if (compress2(out, &room, in, (uLong)in_len, Z_BEST_COMPRESSION) != Z_OK) return false;
  *len = room;
  return true;
}
#endif

typedef bool (*way_fn)(const uint8_t *in, size_t in_len, uint8_t *out, size_t *len);

/* ---- the messages ---- */

/* staple_add: the extensions of the leaf (RFC 8446 section 4.4.2.1). A CBB points to the last that
 * was begun in it until it is flushed. */
static bool staple_add(CBB *extensions, const struct tls_ocsp *ocsp) {
  CBB contents, response;
  return CBB_add_u16(extensions, TLSEXT_TYPE_status_request) &&
         CBB_add_u16_length_prefixed(extensions, &contents) &&
         CBB_add_u8(&contents, TLSEXT_STATUSTYPE_ocsp) &&
         CBB_add_u24_length_prefixed(&contents, &response) &&
         CBB_add_bytes(&response, (const uint8_t *)ocsp->der.ptr, ocsp->der.len) &&
         CBB_flush(extensions);
}

static bool message_add(CBB *out, const struct tls_cert *cert, bool stapled) {
  CBB list, der, extensions;
  if (!CBB_add_u8(out, 0) || !CBB_add_u24_length_prefixed(out, &list)) return false;
  for (uint32_t i = 0; i < cert->chain_count; i++) {
    const CRYPTO_BUFFER *one = cert->chain[i];
    if (!CBB_add_u24_length_prefixed(&list, &der) ||
        !CBB_add_bytes(&der, CRYPTO_BUFFER_data(one), CRYPTO_BUFFER_len(one)) ||
        !CBB_add_u16_length_prefixed(&list, &extensions) ||
        (i == 0 && stapled && !staple_add(&extensions, &cert->ocsp)))
      return false;
  }
  return CBB_flush(out) == 1;
}

/* pack_into puts plain, compressed, into row if that pays. */
static void pack_into(struct tls_packed *row, struct span plain, way_fn way, struct arena *arena) {
  size_t len = plain.len - plain.len * SAVED_PERCENT_MIN / 100;
  uint8_t *room = (uint8_t *)OPENSSL_malloc(len);
  if (room && way((const uint8_t *)plain.ptr, plain.len, room, &len))
    *row = (struct tls_packed){hash_bytes(plain), plain.len,
                               arena_copy(arena, span_of((const char *)room, len), NULL)};
  OPENSSL_free(room);
}

/* message_pack does that with the message as the library writes it. */
static void message_pack(const struct tls_cert *cert, bool stapled, struct tls_packed *row,
                         way_fn way, struct arena *arena) {
  CBB cbb;
  check(CBB_init(&cbb, 4096) == 1);
  if (message_add(&cbb, cert, stapled))
    pack_into(row, span_of((const char *)CBB_data(&cbb), CBB_len(&cbb)), way, arena);
  CBB_cleanup(&cbb);
}

/* ---- in the handshake ---- */

/* pack_now: a message that nobody foresaw. */
static bool pack_now(CBB *out, const uint8_t *in, size_t in_len, way_fn way) {
  size_t len = in_len + in_len / 8 + 1024;
  uint8_t *room = (uint8_t *)OPENSSL_malloc(len);
  atomic_fetch_add_explicit(&anew, 1, memory_order_relaxed);
  bool ok = room && way(in, in_len, room, &len) && CBB_add_bytes(out, room, len);
  OPENSSL_free(room);
  return ok;
}

static int give(SSL *ssl, CBB *out, struct span in, uint32_t first, way_fn way) {
  const struct tls_cert *cert = tls_cert_of(ssl);
  for (uint32_t i = first; i < first + 2; i++) {
    const struct tls_packed *row = &cert->packed[i];
    if (row->packed.len && row->plain_len == in.len && row->plain_hash == hash_bytes(in))
      return CBB_add_bytes(out, (const uint8_t *)row->packed.ptr, row->packed.len);
  }
  return pack_now(out, (const uint8_t *)in.ptr, in.len, way);
}

#ifdef WEIR_BROTLI
static int give_brotli(SSL *ssl, CBB *out, const uint8_t *in, size_t in_len) {
  return give(ssl, out, span_of((const char *)in, in_len), 0, by_brotli);
}
#endif
#ifdef WEIR_ZLIB
static int give_zlib(SSL *ssl, CBB *out, const uint8_t *in, size_t in_len) {
  return give(ssl, out, span_of((const char *)in, in_len), 2, by_zlib);
}
#endif

/* ---- when the policy is made ---- */

/* way is one that this build has; rows is where its messages stand in tls_cert.packed. */
struct way {
  uint16_t id;
  uint32_t rows;
  way_fn pack;
  ssl_cert_compression_func_t give;
};
static const struct way ways[] = {
#ifdef WEIR_BROTLI
    {BROTLI_ID, 0, by_brotli, give_brotli},
#endif
#ifdef WEIR_ZLIB
    {ZLIB_ID, 2, by_zlib, give_zlib},
#endif
    {0, 0, NULL, NULL}};
#define WAY_COUNT (array_count(ways) - 1)

static void cert_pack(struct tls_cert *cert, const struct way *way, struct arena *arena) {
  struct tls_packed *rows = &cert->packed[way->rows];
  message_pack(cert, false, &rows[0], way->pack, arena);
  if (rows[0].packed.len && cert->ocsp.der.len)
    message_pack(cert, true, &rows[1], way->pack, arena);
}

/* best is the way with the smallest message of those that are not `done`; NULL: none pays. */
static const struct way *best(const struct tls_cert *cert, uint32_t done) {
  const struct way *found = NULL;
  for (size_t i = 0; i < WAY_COUNT; i++) {
    size_t len = cert->packed[ways[i].rows].packed.len;
    if (!len || (done & 1u << i)) continue;
    if (!found || len < cert->packed[found->rows].packed.len) found = &ways[i];
  }
  return found;
}

void tls_compress_fill(struct tls_cert *cert, SSL_CTX *ctx, struct arena *arena) {
  for (size_t i = 0; i < WAY_COUNT; i++) cert_pack(cert, &ways[i], arena);
  uint32_t done = 0;
  for (const struct way *way; (way = best(cert, done)); done |= 1u << (way - ways))
    check(SSL_CTX_add_cert_compression_alg(ctx, way->id, way->give, NULL) == 1);
}
