/* The few io_uring calls that the floor needs. See ring.h; the contract is io_uring_setup(2),
 * io_uring_enter(2) and io_uring_register(2). */
#define _GNU_SOURCE
#include "ring.h"

#include "../common/net.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CQ_FACTOR = 4 };

static void *map(int fd, size_t size, off_t at) {
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, at);
    if (p == MAP_FAILED) {
        bench_die("mmap of the ring");
    }
    return p;
}

static void ring_map(struct ring *ring, int fd, const struct io_uring_params *p) {
    size_t size = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
    size_t sq_size = p->sq_off.array + p->sq_entries * sizeof(uint32_t);
    char *base = map(fd, size > sq_size ? size : sq_size, IORING_OFF_SQ_RING);
    ring->sqes = map(fd, p->sq_entries * sizeof(struct io_uring_sqe), IORING_OFF_SQES);
    ring->sq_head = (uint32_t *)(void *)(base + p->sq_off.head);
    ring->sq_tail = (uint32_t *)(void *)(base + p->sq_off.tail);
    ring->sq_mask = p->sq_entries - 1;
    ring->cq_head = (uint32_t *)(void *)(base + p->cq_off.head);
    ring->cq_tail = (uint32_t *)(void *)(base + p->cq_off.tail);
    ring->cq_mask = p->cq_entries - 1;
    ring->cqes = (struct io_uring_cqe *)(void *)(base + p->cq_off.cqes);
    uint32_t *array = (uint32_t *)(void *)(base + p->sq_off.array);
    for (uint32_t i = 0; i < p->sq_entries; i++) {
        array[i] = i;
    }
}

static void ring_register_self(struct ring *ring, int fd) {
    struct io_uring_rsrc_update update = {.offset = UINT32_MAX, .data = (uint64_t)(uint32_t)fd};
    if (syscall(SYS_io_uring_register, fd, IORING_REGISTER_RING_FDS, &update, 1) != 1) {
        bench_die("IORING_REGISTER_RING_FDS");
    }
    ring->fd = (int)update.offset;
}

void ring_init(struct ring *ring, uint32_t entries) {
    struct io_uring_params p = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                 IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
        .cq_entries = entries * CQ_FACTOR,
    };
    long fd = syscall(SYS_io_uring_setup, entries, &p);
    if (fd < 0) {
        bench_die("io_uring_setup");
    }
    *ring = (struct ring){.setup_fd = (int)fd};
    ring_map(ring, (int)fd, &p);
    ring_register_self(ring, (int)fd);
}

static void ring_enter(struct ring *ring, uint32_t wait) {
    uint32_t count = ring->sq_local - ring->sq_submitted;
    __atomic_store_n(ring->sq_tail, ring->sq_local, __ATOMIC_RELEASE);
    uint32_t flags = IORING_ENTER_REGISTERED_RING | IORING_ENTER_GETEVENTS;
    long rc = syscall(SYS_io_uring_enter, ring->fd, count, wait, flags, NULL, 0);
    if (rc < 0 && errno != EINTR && errno != EAGAIN && errno != EBUSY) {
        bench_die("io_uring_enter");
    }
    ring->sq_submitted = __atomic_load_n(ring->sq_head, __ATOMIC_ACQUIRE);
}

struct io_uring_sqe *ring_sqe(struct ring *ring) {
    while (ring->sq_local - ring->sq_submitted > ring->sq_mask) {
        ring_enter(ring, 0); /* bounded: the kernel consumes what it is given */
    }
    struct io_uring_sqe *sqe = &ring->sqes[ring->sq_local++ & ring->sq_mask];
    memset(sqe, 0, sizeof *sqe);
    return sqe;
}

void ring_submit_wait(struct ring *ring) {
    ring_enter(ring, 1);
}

struct io_uring_cqe *ring_cqe_peek(struct ring *ring) {
    uint32_t head = *ring->cq_head;
    if (head == __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE)) {
        return NULL;
    }
    return &ring->cqes[head & ring->cq_mask];
}

void ring_cqe_done(struct ring *ring) {
    __atomic_store_n(ring->cq_head, *ring->cq_head + 1, __ATOMIC_RELEASE);
}

static void *anonymous(size_t size) {
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
    if (p == MAP_FAILED) {
        bench_die("mmap of buffers");
    }
    return p;
}

void ring_buffers_init(struct ring *ring, struct ring_buffers *b, uint32_t count, uint32_t size) {
    *b = (struct ring_buffers){.count = count, .size = size};
    b->ring = anonymous(count * sizeof(struct io_uring_buf));
    b->bytes = anonymous((size_t)count * size);
    struct io_uring_buf_reg reg = {.ring_addr = (uint64_t)(uintptr_t)b->ring,
                                   .ring_entries = count};
    long rc = syscall(SYS_io_uring_register, ring->setup_fd, IORING_REGISTER_PBUF_RING, &reg, 1);
    if (rc != 0) {
        bench_die("IORING_REGISTER_PBUF_RING");
    }
    for (uint32_t i = 0; i < count; i++) {
        ring_buffer_return(b, (uint16_t)i);
    }
}

void ring_buffer_return(struct ring_buffers *b, uint16_t id) {
    struct io_uring_buf *slot = &b->ring->bufs[b->tail & (b->count - 1)];
    slot->addr = (uint64_t)(uintptr_t)ring_buffer(b, id);
    slot->len = b->size;
    slot->bid = id;
    b->tail++;
    __atomic_store_n(&b->ring->tail, b->tail, __ATOMIC_RELEASE);
}

char *ring_buffer(const struct ring_buffers *b, uint16_t id) {
    return b->bytes + (size_t)id * b->size;
}
