/* tls_worker.c: the TLS part of one loop: the slab of TLS states, the one BIO that all its
 * connections share (it reads from the span being received and writes into the conn's wire buffer:
 * one copy each way), and the queue that bounds handshakes to about 1 ms of a turn (DESIGN.md
 * promise 4, THREATS.md 30). One thread. Called by stream_tls.c and, through hooks, by the
 * loop. */
#include <openssl/bio.h>
#include <time.h>

#include "io/tls_conn_priv.h"
#include "weir/base/mem.h"

static struct tls_worker *worker_of(BIO *bio) {
  struct tls_worker *worker = (struct tls_worker *)BIO_get_data(bio);
  check(worker->current != NULL);
  return worker;
}

static int on_bio_read(BIO *bio, char *out, int len) {
  struct tls_worker *worker = worker_of(bio);
  BIO_clear_retry_flags(bio);
  if (len <= 0) return 0;
  struct span part = span_sub(worker->in, 0, (size_t)len);
  if (part.len == 0) {
    BIO_set_retry_read(bio);
    return -1;
  }
  memcpy(out, part.ptr, part.len);
  worker->in = span_from(worker->in, part.len);
  return (int)part.len;
}

/* on_bio_write takes all or fails for good: the room was asked for before (stream_tls.c), so a
 * failure means that the worker's buffers are used up. */
static int on_bio_write(BIO *bio, const char *in, int len) {
  struct tls_worker *worker = worker_of(bio);
  BIO_clear_retry_flags(bio);
  if (len <= 0) return 0;
  struct buf *wire = conn_wire(worker->current->conn, (size_t)len);
  if (!wire) {
    worker->current->starved = true;
    return -1;
  }
  buf_put(wire, span_of(in, (size_t)len));
  check(!wire->full);
  return len;
}

static long on_bio_ctrl(BIO *bio, int cmd, long num, void *ptr) {
  (void)bio, (void)num, (void)ptr;
  return cmd == BIO_CTRL_FLUSH;
}

static void bio_init(struct tls_worker *worker) {
  worker->method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "weir conn");
  check(worker->method && BIO_meth_set_read(worker->method, on_bio_read) &&
        BIO_meth_set_write(worker->method, on_bio_write) &&
        BIO_meth_set_ctrl(worker->method, on_bio_ctrl));
  worker->bio = BIO_new(worker->method);
  check(worker->bio != NULL);
  BIO_set_data(worker->bio, worker);
  BIO_set_init(worker->bio, 1);
}

uint64_t tls_clock_ns(void) {
  struct timespec now;
  check(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int64_t tls_wall_s(void) {
  struct timespec now;
  check(clock_gettime(CLOCK_REALTIME, &now) == 0);
  return (int64_t)now.tv_sec;
}

/* budget_run spends what this turn's completions left of the budget on those that wait, and opens
 * the budget of the next turn (loop->budget_run). While some wait, new bytes of handshakes queue
 * behind them, so the queue gets the whole budget then. A handshake comes back into the queue only
 * with new bytes. */
static bool budget_run(struct loop *loop) {
  struct tls_worker *worker = loop->tls;
  tls_signer_collect(worker);
  while (worker->used_ns < TLS_BUDGET_NS && !list_empty(&worker->waiting)) {
    struct list *link = list_pop_head(&worker->waiting);
    tls_stream_run(container_of(link, struct tls_conn, wait));
  }
  worker->used_ns = 0;
  return !list_empty(&worker->waiting);
}

static void worker_trim(struct loop *loop) {
  tls_mem_trim();
  slab_trim(&loop->tls->conns);
}

static void worker_free(struct loop *loop) {
  struct tls_worker *worker = loop->tls;
  check(worker->conns.live == 0);
  tls_signer_leave(worker);
  BIO_free(worker->bio);
  BIO_meth_free(worker->method);
  slab_fini(&worker->conns);
  mem_free(worker);
  loop->tls = NULL;
  loop->budget_run = NULL;
  loop->tls_free = NULL;
  loop->tls_trim = NULL;
}

struct tls_worker *tls_worker_get(struct loop *loop) {
  if (loop->tls) return loop->tls;
  struct tls_worker *worker = (struct tls_worker *)mem_alloc(sizeof(*worker));
  memset(worker->scratch, 0, sizeof(worker->scratch)); /* its pages come now, not with a record */
  worker->loop = loop;
  list_init(&worker->waiting);
  list_init(&worker->signed_jobs);
  slab_init(&worker->conns, sizeof(struct tls_conn), 64, loop->conns.limit);
  bio_init(worker);
  check(loop->budget_run == NULL);
  loop->tls = worker;
  loop->budget_run = budget_run;
  loop->tls_free = worker_free;
  loop->tls_trim = worker_trim;
  return worker;
}
