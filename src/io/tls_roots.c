/* tls_roots.c: bundles of trusted certificates, with the CRLs that go with them, parsed once
 * however many policies have them: the system's has some hundred, half a megabyte of objects.
 * Found by their bytes, one store for each worker. Made and freed off the data path. Called by
 * tls_client.c and tls_client_auth.c. */
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdlib.h>

#include "io/tls_chain_priv.h"
#include "weir/base/mem.h"
#include "weir/io/tls_client_auth.h"

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

/* scope_fault: a list of some reasons, or of others' certificates, is no complete one either. */
static const char *scope_fault(const X509_CRL *crl) {
  int critical = -1;
  const char *fault = NULL;
  ISSUING_DIST_POINT *scope = (ISSUING_DIST_POINT *)X509_CRL_get_ext_d2i(
      crl, NID_issuing_distribution_point, &critical, NULL);
  if (!scope && critical != -1)
    fault = "a CRL in it has an issuing distribution point that cannot be read, or two";
  else if (scope && scope->indirectCRL)
    fault = "a CRL in it is an indirect CRL; have each CA make its own complete CRL";
  else if (scope && scope->onlysomereasons)
    fault = "a CRL in it is for some reasons only; name one that is for all";
  else if (scope && scope->onlyattr)
    fault = "a CRL in it is for attribute certificates only; name one that is for clients'";
  ISSUING_DIST_POINT_free(scope);
  ERR_clear_error();
  return fault;
}

/* crl_fault: what a CRL must not be to be judged by alone; NULL: it is fine. One that tells only
 * of changes, or of another CA's certificates, would pass for the issuer's list, and what is
 * critical may not be passed over (RFC 5280 section 5.2). */
static const char *crl_fault(const X509_CRL *crl) {
  int at = -1;
  if (X509_CRL_get_ext_by_NID(crl, NID_delta_crl, -1) >= 0)
    return "a CRL in it is a delta CRL, which tells only of changes; name the complete CRL";
  while ((at = X509_CRL_get_ext_by_critical(crl, 1, at)) >= 0) {
    int nid = OBJ_obj2nid(X509_EXTENSION_get_object(X509_CRL_get_ext(crl, at)));
    if (nid != NID_issuing_distribution_point && nid != NID_authority_key_identifier)
      return "a CRL in it has a critical extension that is not known here; have one made without";
  }
  return scope_fault(crl);
}

static const char *entry_fault(X509_CRL *crl) {
  const STACK_OF(X509_REVOKED) *all = X509_CRL_get_REVOKED(crl);
  for (size_t i = 0; i < sk_X509_REVOKED_num(all); i++)
    if (X509_REVOKED_get_ext_by_critical(sk_X509_REVOKED_value(all, i), 1, -1) >= 0)
      return "a CRL in it has an entry with a critical extension (of an indirect CRL, say); have "
             "each CA make its own complete CRL";
  return NULL;
}

static bool crls_usable(const STACK_OF(X509_CRL) * crls, struct span label, struct buf *why) {
  for (size_t i = 0; i < sk_X509_CRL_num(crls); i++) {
    X509_CRL *crl = sk_X509_CRL_value(crls, i);
    const char *fault = crl_fault(crl);
    if (!fault) fault = entry_fault(crl);
    if (fault) return bad(why, label, fault);
  }
  return true;
}

static bool parse_crls(struct span pem, struct span label, STACK_OF(X509_CRL) *out,
                       struct buf *why) {
  if (pem.len > ROOTS_MAX_BYTES) return bad(why, label, "it is larger than 8 MiB");
  BIO *bio = open_pem(pem);
  for (X509_CRL *one; (one = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL));) /* as above */
    check(sk_X509_CRL_push(out, one) > 0);
  if (!at_end(bio))
    return bad(why, label, "a CRL in it is damaged (not base64, cut off, or none)");
  if (!sk_X509_CRL_num(out))
    return bad(why, label, "no CRL in it; it must hold BEGIN X509 CRL blocks in PEM");
  return crls_usable(out, label, why);
}

/* parsed is what a bundle holds. */
struct parsed {
  STACK_OF(X509) *certs;
  STACK_OF(X509_CRL) *crls;
};

static struct parsed parsed_new(void) {
  struct parsed p = {.certs = sk_X509_new_null(), .crls = sk_X509_CRL_new_null()};
  check(p.certs != NULL && p.crls != NULL);
  return p;
}

static void parsed_free(struct parsed *p) {
  sk_X509_pop_free(p->certs, X509_free);
  sk_X509_CRL_pop_free(p->crls, X509_CRL_free);
}

bool tls_pem_check(struct span pem, struct span label, bool crl, struct buf *why) {
  struct parsed p = parsed_new();
  bool ok = crl ? parse_crls(pem, label, p.crls, why) : parse(pem, label, p.certs, why);
  parsed_free(&p);
  return ok;
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

/* crl_time is one CRL: whose it is, and its times. */
struct crl_time {
  const X509_NAME *issuer;
  const ASN1_OCTET_STRING *key; /* its authority key identifier, as encoded; NULL: it has none */
  int64_t begins, ends;
};

static struct crl_time crl_time_of(const X509_CRL *crl) {
  struct crl_time t = {.issuer = X509_CRL_get_issuer(crl), .ends = INT64_MAX};
  const ASN1_TIME *next = X509_CRL_get0_nextUpdate(crl);
  const ASN1_TIME *last = X509_CRL_get0_lastUpdate(crl);
  int at = X509_CRL_get_ext_by_NID(crl, NID_authority_key_identifier, -1);
  if (at >= 0) t.key = X509_EXTENSION_get_data(X509_CRL_get_ext(crl, at));
  if (!next || !ASN1_TIME_to_posix(next, &t.ends)) t.ends = INT64_MAX; /* it counts for ever */
  if (!last || !ASN1_TIME_to_posix(last, &t.begins)) t.begins = INT64_MIN;
  return t;
}

static int by_issuer(const void *left, const void *right) {
  const struct crl_time *a = (const struct crl_time *)left;
  const struct crl_time *b = (const struct crl_time *)right;
  int order = X509_NAME_cmp(a->issuer, b->issuer);
  if (order || (!a->key && !b->key)) return order;
  if (!a->key || !b->key) return a->key ? 1 : -1;
  return ASN1_OCTET_STRING_cmp(a->key, b->key);
}

/* issuer_add is for all CRLs of one issuer: one that is valid is enough, an old one beside it does
 * no harm. They begin with the first of them and end with the last. */
static void issuer_add(struct tls_crls *found, const struct crl_time *times, size_t count) {
  int64_t begins = times[0].begins, ends = times[0].ends;
  for (size_t i = 1; i < count; i++) {
    if (times[i].begins < begins) begins = times[i].begins;
    if (times[i].ends > ends) ends = times[i].ends;
  }
  if (begins > found->begins) found->begins = begins;
  if (ends < found->ends) found->ends = ends;
}

static struct tls_crls crls_of(const struct parsed *p) {
  struct tls_crls found = {.begins = INT64_MIN, .ends = INT64_MAX};
  size_t count = sk_X509_CRL_num(p->crls);
  struct crl_time *times = (struct crl_time *)mem_array(count, sizeof *times);
  for (; found.count < count; found.count++) {
    const X509_CRL *crl = sk_X509_CRL_value(p->crls, found.count);
    times[found.count] = crl_time_of(crl);
    found.own += has_issuer(p, crl);
  }
  if (count) qsort(times, count, sizeof *times, by_issuer);
  for (size_t i = 0, next; i < count; i = next) {
    for (next = i + 1; next < count && by_issuer(&times[i], &times[next]) == 0;) next++;
    issuer_add(&found, &times[i], next - i);
  }
  mem_free(times);
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
  struct parsed p = parsed_new();
  struct tls_roots *fresh = read_all(bundle, &p, why) ? make(digest, workers, &p) : NULL;
  parsed_free(&p);
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
