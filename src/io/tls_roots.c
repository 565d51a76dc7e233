/* tls_roots.c: bundles of trusted certificates, parsed once however many policies have them: the
 * system's has some hundred, half a megabyte of objects. Found by their bytes, one store for each
 * worker. Made and freed off the data path. Called by tls_client.c. */
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <pthread.h>

#include "io/tls_client_priv.h"
#include "weir/base/mem.h"

/* ROOTS_MAX_BYTES bounds a bundle; those of systems have about 250 KiB. */
#define ROOTS_MAX_BYTES (8u << 20)

/* bad gives a sentence. */
static bool bad(struct buf *why, struct span label, const char *sentence) {
  buf_printf(why, SPAN_FMT ": %s", SPAN_ARG(label), sentence);
  ERR_clear_error();
  return false;
}

static bool parse(struct span pem, struct span label, STACK_OF(X509) *out, struct buf *why) {
  if (pem.len > ROOTS_MAX_BYTES) return bad(why, label, "it is larger than 8 MiB");
  BIO *bio = BIO_new_mem_buf(pem.len ? pem.ptr : "", (int)pem.len);
  check(bio != NULL);
  ERR_clear_error();
  for (X509 *one; (one = PEM_read_bio_X509(bio, NULL, NULL, NULL));) /* ends with the text */
    check(sk_X509_push(out, one) > 0);
  bool end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  ERR_clear_error();
  BIO_free(bio);
  if (!end)
    return bad(why, label,
                     "a certificate in it is damaged (not base64, cut off, or no X.509)");
  return sk_X509_num(out) > 0 ||
         bad(why, label,
                   "no certificate in it; it must hold BEGIN CERTIFICATE blocks in PEM");
}

struct tls_roots {
  struct tls_roots *next;
  uint32_t refs, workers;
  uint8_t digest[SHA256_DIGEST_LENGTH]; /* of the PEM */
  X509_STORE *stores[];
};

static struct tls_roots *all; /* under lock, refs too */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct tls_roots *find(const uint8_t *digest, uint32_t workers) {
  for (struct tls_roots *r = all; r; r = r->next)
    if (r->workers == workers && memcmp(r->digest, digest, sizeof r->digest) == 0) return r;
  return NULL;
}

/* take gives a ref on the one that is there; else keeps fresh, NULL: there is none. */
static struct tls_roots *take(const uint8_t *digest, uint32_t workers, struct tls_roots *fresh) {
  pthread_mutex_lock(&lock);
  struct tls_roots *r = find(digest, workers);
  if (r) {
    r->refs++;
  } else if (fresh) {
    fresh->next = all;
    all = r = fresh;
  }
  pthread_mutex_unlock(&lock);
  return r;
}

static void roots_free(struct tls_roots *r) {
  for (uint32_t w = 0; w < r->workers; w++) X509_STORE_free(r->stores[w]);
  mem_free(r);
}

static X509_STORE *store_make(STACK_OF(X509) *certs) {
  X509_STORE *store = X509_STORE_new();
  check(store != NULL);
  for (size_t i = 0; i < sk_X509_num(certs); i++)
    check(X509_STORE_add_cert(store, sk_X509_value(certs, i)) == 1); /* twice is once */
  return store;
}

static struct tls_roots *make(const uint8_t *digest, uint32_t workers, STACK_OF(X509) *certs) {
  struct tls_roots *r = (struct tls_roots *)mem_alloc(sizeof *r + workers * sizeof r->stores[0]);
  r->refs = 1;
  r->workers = workers;
  memcpy(r->digest, digest, sizeof r->digest);
  for (uint32_t w = 0; w < workers; w++) r->stores[w] = store_make(certs);
  return r;
}

struct tls_roots *tls_roots_get(struct span pem, struct span label, uint32_t workers,
                                struct buf *why) {
  uint8_t digest[SHA256_DIGEST_LENGTH];
  SHA256((const uint8_t *)pem.ptr, pem.len, digest);
  struct tls_roots *r = take(digest, workers, NULL);
  if (r) return r;
  STACK_OF(X509) *certs = sk_X509_new_null();
  check(certs != NULL);
  struct tls_roots *fresh = parse(pem, label, certs, why) ? make(digest, workers, certs) : NULL;
  sk_X509_pop_free(certs, X509_free);
  if (!fresh) return NULL;
  r = take(digest, workers, fresh); /* another thread may have been quicker */
  if (r != fresh) roots_free(fresh);
  return r;
}

void tls_roots_put(struct tls_roots *r) {
  struct tls_roots **at = &all;
  pthread_mutex_lock(&lock);
  bool last = --r->refs == 0;
  while (last && *at != r) at = &(*at)->next;
  if (last) *at = r->next;
  pthread_mutex_unlock(&lock);
  if (last) roots_free(r);
}

X509_STORE *tls_roots_store(const struct tls_roots *r, uint32_t worker) {
  check(worker < r->workers);
  return r->stores[worker];
}
