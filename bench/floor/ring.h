/* The few io_uring calls that the floor needs, on the raw system calls: the bench builds without
 * liburing and so before weir's own dependencies. Setup as FLOOR.md found best: SINGLE_ISSUER,
 * DEFER_TASKRUN, SUBMIT_ALL, completion queue 4 times the submission queue, registered ring
 * descriptor, one provided-buffer ring. Called by uring.c alone. */
#ifndef WEIR_BENCH_RING_H
#define WEIR_BENCH_RING_H

#include <linux/io_uring.h>
#include <stddef.h>
#include <stdint.h>

struct ring {
    int setup_fd;              /* the descriptor itself, for registrations */
    int fd;                    /* its registered index, for every turn */
    uint32_t *sq_tail;
    uint32_t *sq_head;
    uint32_t sq_local;         /* entries filled, not yet told to the kernel */
    uint32_t sq_submitted;
    uint32_t sq_mask;
    struct io_uring_sqe *sqes;
    uint32_t *cq_head;
    uint32_t *cq_tail;
    uint32_t cq_mask;
    struct io_uring_cqe *cqes;
};

struct ring_buffers {
    struct io_uring_buf_ring *ring;
    char *bytes;
    uint32_t count;            /* power of two */
    uint32_t size;
    uint16_t tail;
};

/* ring_init() sets up `entries` submission entries or leaves the program. */
void ring_init(struct ring *ring, uint32_t entries);

/* ring_sqe() is the next submission entry, zeroed; submits first when the queue is full. */
struct io_uring_sqe *ring_sqe(struct ring *ring);

/* ring_submit_wait() submits everything and waits for one completion. */
void ring_submit_wait(struct ring *ring);

/* ring_cqe_peek() is the oldest completion or NULL; ring_cqe_done() gives it back. */
struct io_uring_cqe *ring_cqe_peek(struct ring *ring);
void ring_cqe_done(struct ring *ring);

/* ring_buffers_init() provides `count` buffers of `size` bytes as buffer group 0. */
void ring_buffers_init(struct ring *ring, struct ring_buffers *b, uint32_t count, uint32_t size);

/* ring_buffer_return() gives buffer `id` back to the kernel; ring_buffer() is its bytes. */
void ring_buffer_return(struct ring_buffers *b, uint16_t id);
char *ring_buffer(const struct ring_buffers *b, uint16_t id);

#endif
