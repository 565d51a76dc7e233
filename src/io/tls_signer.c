/* tls_signer.c: the library's private-key method over a queue that all workers share and signers
 * empty, first come first served. A job is made inside the handshake on the worker's thread,
 * signed for on a signer's, and comes back to its worker's list, which the worker looks at once a
 * turn (tls_worker.c); loop_wake ends the wait. A conn that is gone by then is found by its slab
 * handle (it is not), and what nobody waits for any more is not signed for. Jobs are as many as
 * handshakes, at most one each. RFC 8446 section 4.4.3, RFC 5246 section 7.4.3. */
#include "weir/io/tls_signer.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <pthread.h>

#include "io/tls_conn_priv.h"
#include "weir/base/mem.h"

/* What is signed is a hash's input of two randoms and a key share, or of a transcript hash. */
#define SIGN_IN_MAX 512u
#define SIGN_OUT_MAX 1024u /* RSA of 8192 bits */

struct sign_job {
  struct list link; /* pool.queue, then worker.signed_jobs */
  struct tls_worker *worker;
  EVP_PKEY *key;
  uint32_t slot, generation; /* of the tls_conn */
  uint16_t algorithm;
  bool done, good; /* the worker's own, once the job is back */
  _Atomic bool dropped;
  size_t in_len, out_len;
  uint8_t in[SIGN_IN_MAX], out[SIGN_OUT_MAX];
};

static struct {
  pthread_mutex_t lock;
  pthread_cond_t work, home; /* a job was queued; one came back */
  struct list queue;
  bool open, ending;
  _Atomic uint64_t waiting, signed_total, dropped_total;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER,
          .work = PTHREAD_COND_INITIALIZER,
          .home = PTHREAD_COND_INITIALIZER};

void tls_signers_open(void) {
  pthread_mutex_lock(&pool.lock);
  list_init(&pool.queue);
  pool.open = true;
  pool.ending = false;
  pthread_mutex_unlock(&pool.lock);
}

/* ---- the signer's side ---- */

static bool sign(struct sign_job *job) {
  EVP_MD_CTX *ctx = EVP_MD_CTX_new();
  EVP_PKEY_CTX *key = NULL;
  check(ctx != NULL);
  job->out_len = sizeof job->out;
  bool pss = SSL_is_signature_algorithm_rsa_pss(job->algorithm);
  bool ok = EVP_DigestSignInit(ctx, &key, SSL_get_signature_algorithm_digest(job->algorithm), NULL,
                               job->key) &&
            (!pss || (EVP_PKEY_CTX_set_rsa_padding(key, RSA_PKCS1_PSS_PADDING) &&
                      EVP_PKEY_CTX_set_rsa_pss_saltlen(key, -1 /* as long as the hash */))) &&
            EVP_DigestSign(ctx, job->out, &job->out_len, job->in, job->in_len);
  EVP_MD_CTX_free(ctx);
  ERR_clear_error();
  return ok;
}

/* give_back: the worker may free the job, and end, as soon as the lock is released. */
static void give_back(struct sign_job *job) {
  struct tls_worker *worker = job->worker;
  pthread_mutex_lock(&pool.lock);
  bool first = list_empty(&worker->signed_jobs);
  list_push_tail(&worker->signed_jobs, &job->link);
  atomic_store_explicit(&worker->signed_some, true, memory_order_release);
  if (first) loop_wake(worker->loop);
  worker->signing--;
  pthread_cond_broadcast(&pool.home);
  pthread_mutex_unlock(&pool.lock);
}

static struct sign_job *next_job(void) {
  pthread_mutex_lock(&pool.lock);
  while (list_empty(&pool.queue) && !pool.ending) pthread_cond_wait(&pool.work, &pool.lock);
  struct list *link = list_empty(&pool.queue) ? NULL : list_pop_head(&pool.queue);
  pthread_mutex_unlock(&pool.lock);
  return link ? container_of(link, struct sign_job, link) : NULL;
}

void tls_signer_run(void) {
  for (struct sign_job *job = next_job(); job; job = next_job()) {
    bool dropped = atomic_load_explicit(&job->dropped, memory_order_relaxed);
    job->good = !dropped && sign(job);
    atomic_fetch_add_explicit(dropped ? &pool.dropped_total : &pool.signed_total, 1,
                              memory_order_relaxed);
    give_back(job);
  }
}

void tls_signers_close(void) {
  pthread_mutex_lock(&pool.lock);
  pool.open = false;
  pool.ending = true;
  pthread_cond_broadcast(&pool.work);
  pthread_mutex_unlock(&pool.lock);
}

void tls_signer_stats_get(struct tls_signer_stats *out) {
  out->waiting = atomic_load_explicit(&pool.waiting, memory_order_relaxed);
  out->signed_total = atomic_load_explicit(&pool.signed_total, memory_order_relaxed);
  out->dropped_total = atomic_load_explicit(&pool.dropped_total, memory_order_relaxed);
}

/* ---- the worker's side ---- */

static void job_free(struct sign_job *job) {
  atomic_fetch_sub_explicit(&pool.waiting, 1, memory_order_relaxed);
  EVP_PKEY_free(job->key);
  mem_free(job);
}

static void submit(struct sign_job *job) {
  atomic_fetch_add_explicit(&pool.waiting, 1, memory_order_relaxed);
  pthread_mutex_lock(&pool.lock);
  job->worker->signing++;
  list_push_tail(&pool.queue, &job->link);
  pthread_cond_signal(&pool.work);
  pthread_mutex_unlock(&pool.lock);
}

static enum ssl_private_key_result_t on_sign(SSL *ssl, uint8_t *out, size_t *out_len,
                                             size_t max_out, uint16_t algorithm, const uint8_t *in,
                                             size_t in_len) {
  (void)out, (void)out_len, (void)max_out; /* they are on_complete's */
  struct tls_conn *tls = tls_of(ssl);
  const struct tls_cert *cert = tls_cert_of(ssl);
  check(cert && !tls->job);
  if (in_len > SIGN_IN_MAX) return ssl_private_key_failure;
  struct sign_job *job = mem_alloc(sizeof *job);
  job->worker = tls->worker;
  job->slot = tls->head.slot;
  job->generation = tls->head.generation;
  job->key = cert->pkey;
  check(EVP_PKEY_up_ref(cert->pkey) == 1);
  job->algorithm = algorithm;
  job->in_len = in_len;
  memcpy(job->in, in, in_len);
  tls->job = job;
  submit(job);
  return ssl_private_key_retry;
}

/* No suite of ours has the client encrypt to the key. */
static enum ssl_private_key_result_t on_decrypt(SSL *ssl, uint8_t *out, size_t *out_len,
                                                size_t max_out, const uint8_t *in, size_t in_len) {
  (void)ssl, (void)out, (void)out_len, (void)max_out, (void)in, (void)in_len;
  return ssl_private_key_failure;
}

static enum ssl_private_key_result_t on_complete(SSL *ssl, uint8_t *out, size_t *out_len,
                                                 size_t max_out) {
  struct tls_conn *tls = tls_of(ssl);
  struct sign_job *job = tls->job;
  check(job != NULL);
  if (!job->done) return ssl_private_key_retry;
  bool good = job->good && job->out_len <= max_out;
  if (good) {
    memcpy(out, job->out, job->out_len);
    *out_len = job->out_len;
  }
  tls->job = NULL;
  job_free(job);
  return good ? ssl_private_key_success : ssl_private_key_failure;
}

static const SSL_PRIVATE_KEY_METHOD method = {
    .sign = on_sign, .decrypt = on_decrypt, .complete = on_complete};

const SSL_PRIVATE_KEY_METHOD *tls_signer_method(const struct tls_cert *cert) {
  return pool.open && cert->key != TLS_KEY_P256 ? &method : NULL;
}

bool tls_signer_waits(const struct tls_conn *tls) { return tls->job && !tls->job->done; }

/* The job goes on alone: its worker gets it back and frees it. */
void tls_signer_drop(struct tls_conn *tls) {
  struct sign_job *job = tls->job;
  tls->job = NULL;
  if (!job) return;
  if (job->done) job_free(job);
  else atomic_store_explicit(&job->dropped, true, memory_order_relaxed);
}

static void came_back(struct tls_worker *worker, struct sign_job *job) {
  struct tls_conn *tls = slab_find(&worker->conns, job->slot, job->generation);
  if (!tls || tls->job != job) {
    job_free(job);
    return;
  }
  job->done = true;
  tls_stream_signed(tls);
}

void tls_signer_collect(struct tls_worker *worker) {
  struct list back;
  if (!atomic_load_explicit(&worker->signed_some, memory_order_acquire)) return;
  list_init(&back);
  pthread_mutex_lock(&pool.lock);
  atomic_store_explicit(&worker->signed_some, false, memory_order_relaxed);
  for (struct list *l = list_pop_head(&worker->signed_jobs); l;
       l = list_pop_head(&worker->signed_jobs))
    list_push_tail(&back, l);
  pthread_mutex_unlock(&pool.lock);
  for (struct list *l = list_pop_head(&back); l; l = list_pop_head(&back))
    came_back(worker, container_of(l, struct sign_job, link));
}

void tls_signer_leave(struct tls_worker *worker) {
  pthread_mutex_lock(&pool.lock);
  while (worker->signing > 0) pthread_cond_wait(&pool.home, &pool.lock);
  pthread_mutex_unlock(&pool.lock);
  tls_signer_collect(worker);
}
