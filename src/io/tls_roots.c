/* tls_roots.c: bundles of trusted certificates, with the CRLs that go with them, parsed once
 * however many policies have them: the system's has some hundred, half a megabyte of objects.
 * Found by their bytes, one store for each worker. Made and freed off the data path. Called by
 * tls_client.c and tls_client_auth.c. */
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <pthread.h>

#include "io/tls_chain_priv.h"
#include "weir/base/mem.h"

/* ROOTS_MAX_BYTES bounds a bundle; those of systems have about 250 KiB. */
#define ROOTS_MAX_BYTES (8u << 20)

/* bad gives a sentence. */
static bool bad(struct buf *why, struct span label, const char *sentence) {
  buf_printf(why, SPAN_FMT ": %s", SPAN_ARG(label), sentence);
  ERR_clear_error();
  return false;
}

static BIO *open_pem(struct span pem) {
  BIO *bio = BIO_new_mem_buf(pem.len ? pem.ptr : "", (int)pem.len);
  check(bio != NULL);
  ERR_clear_error();
  return bio;
}

/* at_end tells whether reading ended with the text, not at a damaged block. */
static bool at_end(BIO *bio) {
  bool end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  ERR_clear_error();
  BIO_free(bio);
  return end;
}

static bool parse(struct span pem, struct span label, STACK_OF(X509) *out, struct buf *why) {
  if (pem.len > ROOTS_MAX_BYTES) return bad(why, label, "it is larger than 8 MiB");
  BIO *bio = open_pem(pem);
  for (X509 *one; (one = PEM_read_bio_X509(bio, NULL, NULL, NULL));) /* ends with the text */
    check(sk_X509_push(out, one) > 0);
  if (!at_end(bio))
    return bad(why, label,
                     "a certificate in it is damaged (not base64, cut off, or no X.509)");
  return sk_X509_num(out) > 0 ||
         bad(why, label,
                   "no certificate in it; it must hold BEGIN CERTIFICATE blocks in PEM");
}

static bool parse_crls(struct span pem, struct span label, STACK_OF(X509_CRL) *out,
                       struct buf *why) {
  if (pem.len > ROOTS_MAX_BYTES) return bad(why, label, "it is larger than 8 MiB");
  BIO *bio = open_pem(pem);
  for (X509_CRL *one; (one = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL));) /* as above */
    check(sk_X509_CRL_push(out, one) > 0);
  if (!at_end(bio))
    return bad(why, label, "a CRL in it is damaged (not base64, cut off, or none)");
  return sk_X509_CRL_num(out) > 0 ||
         bad(why, label, "no CRL in it; it must hold BEGIN X509 CRL blocks in PEM");
}

struct tls_roots {
  struct tls_roots *next;
  uint32_t refs, workers;
  uint8_t digest[SHA256_DIGEST_LENGTH]; /* of the bundle */
  struct tls_crls crls;
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

/* parsed is what a bundle holds. */
struct parsed {
  STACK_OF(X509) *certs;
  STACK_OF(X509_CRL) *crls;
};

/* crl_sort: else the first lookup would, inside a handshake. */
static X509_CRL *crl_sort(X509_CRL *crl) {
  sk_X509_REVOKED_sort(X509_CRL_get_REVOKED(crl));
  return crl;
}

static X509_STORE *store_make(const struct parsed *p) {
  X509_STORE *store = X509_STORE_new();
  check(store != NULL);
  for (size_t i = 0; i < sk_X509_num(p->certs); i++)
    check(X509_STORE_add_cert(store, sk_X509_value(p->certs, i)) == 1); /* twice is once */
  for (size_t i = 0; i < sk_X509_CRL_num(p->crls); i++)
    check(X509_STORE_add_crl(store, crl_sort(sk_X509_CRL_value(p->crls, i))) == 1);
  return store;
}

static bool has_issuer(const struct parsed *p, const X509_CRL *crl) {
  for (size_t i = 0; i < sk_X509_num(p->certs); i++) {
    const X509_NAME *subject = X509_get_subject_name(sk_X509_value(p->certs, i));
    if (X509_NAME_cmp(subject, X509_CRL_get_issuer(crl)) == 0) return true;
  }
  return false;
}

/* crls_of: a CRL that does not say when its next one comes counts for ever. */
static struct tls_crls crls_of(const struct parsed *p) {
  struct tls_crls found = {.begins = INT64_MIN, .ends = INT64_MAX};
  int64_t time;
  for (; found.count < sk_X509_CRL_num(p->crls); found.count++) {
    const X509_CRL *crl = sk_X509_CRL_value(p->crls, found.count);
    const ASN1_TIME *next = X509_CRL_get0_nextUpdate(crl);
    const ASN1_TIME *last = X509_CRL_get0_lastUpdate(crl);
    if (next && ASN1_TIME_to_posix(next, &time) && time < found.ends) found.ends = time;
    if (last && ASN1_TIME_to_posix(last, &time) && time > found.begins) found.begins = time;
    found.own += has_issuer(p, crl);
  }
  return found;
}

static struct tls_roots *make(const uint8_t *digest, uint32_t workers, const struct parsed *p) {
  struct tls_roots *r = (struct tls_roots *)mem_alloc(sizeof *r + workers * sizeof r->stores[0]);
  r->refs = 1;
  r->workers = workers;
  memcpy(r->digest, digest, sizeof r->digest);
  r->crls = crls_of(p);
  for (uint32_t w = 0; w < workers; w++) r->stores[w] = store_make(p);
  return r;
}

static void digest_of(const struct tls_bundle *b, uint8_t out[SHA256_DIGEST_LENGTH]) {
  uint8_t parts[2][SHA256_DIGEST_LENGTH];
  SHA256((const uint8_t *)b->pem.ptr, b->pem.len, parts[0]);
  SHA256((const uint8_t *)b->crl_pem.ptr, b->crl_pem.len, parts[1]);
  SHA256(parts[0], sizeof parts, out);
}

static bool read_all(const struct tls_bundle *b, struct parsed *p, struct buf *why) {
  bool crls = b->crl_pem.len > 0;
  return parse(b->pem, b->label, p->certs, why) &&
         (!crls || parse_crls(b->crl_pem, b->crl_label, p->crls, why));
}

struct tls_roots *tls_roots_get(const struct tls_bundle *bundle, uint32_t workers,
                                struct buf *why) {
  uint8_t digest[SHA256_DIGEST_LENGTH];
  digest_of(bundle, digest);
  struct tls_roots *r = take(digest, workers, NULL);
  if (r) return r;
  struct parsed p = {.certs = sk_X509_new_null(), .crls = sk_X509_CRL_new_null()};
  check(p.certs != NULL && p.crls != NULL);
  struct tls_roots *fresh = read_all(bundle, &p, why) ? make(digest, workers, &p) : NULL;
  sk_X509_pop_free(p.certs, X509_free);
  sk_X509_CRL_pop_free(p.crls, X509_CRL_free);
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

int64_t tls_roots_crl_ends(const struct tls_roots *r) { return r->crls.ends; }

void tls_roots_crls(const struct tls_roots *r, struct tls_crls *out) { *out = r->crls; }
