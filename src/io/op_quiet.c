/* op_quiet.c: sends of a ring that post no completion when all goes at once (CQE_SKIP_SUCCESS) and
 * are told to their conns at the end of the wait that follows. One never waits itself: either all
 * is taken when the kernel has its entry, or it completes as others do (MSG_DONTWAIT makes the
 * ring complete what does not go at once, MSG_WAITALL makes a part of it a failure, which is not
 * left out). Which sends may be quiet is known to those that ask for them (SEND_QUIET). Called by
 * loop_uring.c. */
#include "io/io_priv.h"
#include "io/op_priv.h"

void quiet_put(struct ring_quiet *q, struct io_uring_sqe *sqe) {
  sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
  q->sends[q->count++] = (struct quiet_send){sqe->user_data, (int32_t)sqe->len};
}

bool quiet_may_wait(const struct ring_quiet *q, const struct loop *loop) {
  for (unsigned i = 0; i < q->count; i++) {
    uint64_t name = q->sends[i].name;
    const struct conn *c = slab_find(&loop->conns, ring_slot(name), ring_generation(name));
    if (c == NULL || !tx_unwatched(c)) return false;
  }
  return true;
}

/* forget_told forgets those that complete by themselves: they failed, or went in part. */
static void forget_told(struct ring_quiet *q, const struct io_uring *ring) {
  const struct io_uring_cq *cq = &ring->cq;
  unsigned count = io_uring_cq_ready(ring), first = *cq->khead;
  for (unsigned i = 0; i < count; i++) {
    uint64_t name = cq->cqes[(first + i) & cq->ring_mask].user_data;
    for (unsigned k = 0; k < q->count; k++)
      if (q->sends[k].name == name) q->sends[k].name = 0;
  }
}

/* The others are told of when the kernel has taken all entries, and no completion waits where it
 * cannot be seen. They went before all that has come: at the time of the last turn. */
void quiet_settle(struct ring_quiet *q, struct loop *loop) {
  const struct io_uring *ring = ring_of(loop);
  forget_told(q, ring);
  if (io_uring_sq_ready(ring) || io_uring_cq_has_overflow(ring)) return;
  for (unsigned i = 0; i < q->count; i++) {
    uint64_t name = q->sends[i].name;
    struct completion done = {.res = q->sends[i].bytes};
    if (name) conn_complete(loop, ring_slot(name), ring_generation(name), OP_SEND, &done);
  }
  q->count = 0;
}
