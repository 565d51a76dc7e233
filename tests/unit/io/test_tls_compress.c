/* Certificates go compressed to clients that can take them so (tls_compress.c): what comes out is
 * what openssl would send, it was compressed before, and who cannot is not sent it. RFC 8879. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <brotli/decode.h>
#include <cmocka.h>
#include <openssl/pem.h>
#include <openssl/pool.h>
#include <zlib.h>

#include "io/tls_priv.h"
#include "tls_harness.h"

static struct th_cert chain, rsa;
static size_t packed_len, plain_len; /* of the last message that a client unpacked */
static int unpacked;                 /* so many */

static int setup(void **state) {
  (void)state;
  chain = th_chain_make("DNS:a.example", false);
  rsa = th_cert_make(TH_RSA4096, "DNS:b.example", 86400);
  return 0;
}
static int teardown(void **state) {
  (void)state;
  th_cert_free(&chain);
  th_cert_free(&rsa);
  return 0;
}

static int keep(CRYPTO_BUFFER **out, size_t plain, size_t packed) {
  plain_len = plain;
  packed_len = packed;
  unpacked++;
  return *out != NULL;
}

static int from_brotli(SSL *ssl, CRYPTO_BUFFER **out, size_t plain, const uint8_t *in,
                       size_t in_len) {
  (void)ssl;
  uint8_t *data = NULL;
  size_t got = plain;
  *out = CRYPTO_BUFFER_alloc(&data, plain);
  assert_int_equal(BrotliDecoderDecompress(in_len, in, &got, data), BROTLI_DECODER_RESULT_SUCCESS);
  assert_int_equal(got, plain);
  return keep(out, plain, in_len);
}

static int from_zlib(SSL *ssl, CRYPTO_BUFFER **out, size_t plain, const uint8_t *in,
                     size_t in_len) {
  (void)ssl;
  uint8_t *data = NULL;
  uLongf got = (uLongf)plain;
  *out = CRYPTO_BUFFER_alloc(&data, plain);
  assert_int_equal(uncompress(data, &got, in, (uLong)in_len), Z_OK);
  assert_int_equal(got, plain);
  return keep(out, plain, in_len);
}

enum { NONE = 0, ZLIB = 1, BROTLI = 2 };

/* visit shakes hands with a client that knows these ways; gives the leaf that it was shown, which
 * the caller frees. */
static X509 *visit(struct tls_server *server, const char *name, int ways, bool staple,
                   uint16_t max) {
  struct th_loop *t = th_loop_new();
  struct th_client_conf conf = {.max = max, .sni = name};
  SSL *client = th_client_new(&conf);
  SSL_CTX *ctx = SSL_get_SSL_CTX(client);
  if (ways & ZLIB) assert_true(SSL_CTX_add_cert_compression_alg(ctx, ZLIB, NULL, from_zlib));
  if (ways & BROTLI) assert_true(SSL_CTX_add_cert_compression_alg(ctx, BROTLI, NULL, from_brotli));
  if (staple) SSL_enable_ocsp_stapling(client);
  struct th_pair *p = th_pair_new(t, server, 0, client);
  unpacked = 0;
  th_run(p);
  assert_int_equal(p->opened, 1);
  assert_int_equal(p->open_err, 0);
  X509 *leaf = SSL_get_peer_certificate(client);
  th_pair_free(p);
  th_loop_free(t);
  return leaf;
}

static bool is_first(const struct th_cert *cert, X509 *leaf) {
  BIO *bio = BIO_new_mem_buf(cert->cert, -1);
  X509 *want = PEM_read_bio_X509(bio, NULL, NULL, NULL);
  bool same = X509_cmp(want, leaf) == 0;
  X509_free(want);
  X509_free(leaf);
  BIO_free(bio);
  return same;
}

static void each_way(void **state) {
  (void)state;
  struct th_served served[] = {{&chain, NULL, false}, {&rsa, NULL, false}};
  struct tls_server *server = th_server(served, 2, SPAN_EMPTY, SPAN_LIT("p"));
  static const struct {
    int ways;
    uint16_t max;
    int unpacked;
  } rows[] = {{NONE, 0, 0},
              {ZLIB, 0, 1},
              {BROTLI, 0, 1},
              {ZLIB | BROTLI, 0, 1},
              {ZLIB | BROTLI, TLS1_2_VERSION, 0}};
  for (size_t i = 0; i < array_count(rows); i++) {
    assert_true(is_first(&chain, visit(server, "a.example", rows[i].ways, false, rows[i].max)));
    assert_int_equal(unpacked, rows[i].unpacked);
    if (unpacked) assert_true(packed_len <= plain_len - plain_len / 20);
    if (unpacked) print_message("ways %d: %zu to %zu\n", rows[i].ways, plain_len, packed_len);
    /* One RSA certificate is hardly more than random numbers: that does not pay. (Of one with a
     * key of 2048 bits a tenth of all keys can be packed enough.) */
    assert_true(is_first(&rsa, visit(server, "b.example", rows[i].ways, false, rows[i].max)));
    assert_int_equal(unpacked, 0);
  }
  assert_int_equal(tls_compress_anew(), 0); /* all of it was made before */
  tls_server_unref(server);
}

/* What is in a policy and its certificates is what counts: a thousand handshakes compress nothing.
 */
static void once(void **state) {
  (void)state;
  struct th_served served = {&chain, NULL, false};
  struct tls_server *server = th_server(&served, 1, SPAN_EMPTY, SPAN_LIT("p"));
  for (int i = 0; i < 200; i++) {
    X509_free(visit(server, "a.example", i % 2 ? ZLIB : BROTLI, false, 0));
    assert_int_equal(unpacked, 1);
  }
  assert_int_equal(tls_compress_anew(), 0);
  tls_server_unref(server);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(each_way), cmocka_unit_test(once)};
  return cmocka_run_group_tests(tests, setup, teardown);
}
