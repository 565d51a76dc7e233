/* The message forwarder over io_uring: multishot accept, multishot recv into one provided-buffer
 * ring, send straight from the received buffer. See floor.h for the mode, FLOOR.md for why so.
 * A connection is closed when its receive has ended and none of its sends is in flight; a receive
 * that ended for want of buffers is parked and armed again when buffers have come back.
 * Called by main.c. */
#define _GNU_SOURCE
#include "floor.h"

#include "../common/net.h"
#include "ring.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ENTRIES = 1024, BUFFERS = 1024, NOBODY = -1 };

enum OP { OP_ACCEPT, OP_RECV, OP_SEND };

enum SIDE { SIDE_NONE, SIDE_CLIENT, SIDE_UPSTREAM };

/* Indexed by descriptor. */
static struct {
    int peer;
    uint16_t sends;      /* in flight towards this descriptor */
    uint8_t side;
    bool ended;          /* the receive is over, nothing more comes */
} conns[FLOOR_FDS_MAX];

static struct ring ring;
static struct ring_buffers buffers;
static struct floor_pool pool;
static struct {
    int fds[FLOOR_FDS_MAX];
    uint32_t count;
} parked;
static uint32_t buffers_out;
static uint16_t upstream_port;

static uint64_t tag(enum OP op, uint16_t buffer, int fd) {
    return (uint64_t)op << 56 | (uint64_t)buffer << 32 | (uint32_t)fd;
}

static void arm_accept(int listener) {
    struct io_uring_sqe *sqe = ring_sqe(&ring);
    sqe->opcode = IORING_OP_ACCEPT;
    sqe->fd = listener;
    sqe->ioprio = IORING_ACCEPT_MULTISHOT;
    sqe->accept_flags = SOCK_CLOEXEC;
    sqe->user_data = tag(OP_ACCEPT, 0, listener);
}

static void arm_recv(int fd) {
    struct io_uring_sqe *sqe = ring_sqe(&ring);
    sqe->opcode = IORING_OP_RECV;
    sqe->fd = fd;
    sqe->ioprio = IORING_RECV_MULTISHOT;
    sqe->flags = IOSQE_BUFFER_SELECT;
    sqe->user_data = tag(OP_RECV, 0, fd);
}

static void send_buffer(int fd, uint16_t buffer, uint32_t len) {
    struct io_uring_sqe *sqe = ring_sqe(&ring);
    sqe->opcode = IORING_OP_SEND;
    sqe->fd = fd;
    sqe->addr = (uint64_t)(uintptr_t)ring_buffer(&buffers, buffer);
    sqe->len = len;
    sqe->msg_flags = MSG_WAITALL | MSG_NOSIGNAL;
    sqe->user_data = tag(OP_SEND, buffer, fd);
    conns[fd].sends++;
}

static void buffer_release(uint16_t buffer) {
    ring_buffer_return(&buffers, buffer);
    buffers_out--;
}

static void conn_add(int fd, enum SIDE side) {
    if (fd < 0 || fd >= FLOOR_FDS_MAX) {
        bench_die("descriptor");
    }
    conns[fd].peer = NOBODY;
    conns[fd].sends = 0;
    conns[fd].side = (uint8_t)side;
    conns[fd].ended = false;
    arm_recv(fd);
}

static int upstream_take(void) {
    int fd = floor_pool_take(&pool);
    if (fd < 0) {
        fd = net_connect(upstream_port, 0, false);
        conn_add(fd, SIDE_UPSTREAM);
    }
    return fd;
}

static void conn_reap(int fd) {
    if (conns[fd].ended && conns[fd].sends == 0) {
        conns[fd].side = SIDE_NONE;
        close(fd);
    }
}

/* The receive of fd is over. A peer in mid-exchange is shut down: its own receive then ends. */
static void conn_end(int fd) {
    int peer = conns[fd].peer;
    if (peer != NOBODY) {
        conns[peer].peer = NOBODY;
        conns[fd].peer = NOBODY;
        shutdown(peer, SHUT_RDWR);
    } else if (conns[fd].side == SIDE_UPSTREAM) {
        floor_pool_drop(&pool, fd);
    }
    conns[fd].ended = true;
    conn_reap(fd);
}

static void forward(int fd, uint16_t buffer, uint32_t len) {
    int peer = conns[fd].peer;
    if (conns[fd].side == SIDE_CLIENT) {
        if (peer == NOBODY) {
            peer = upstream_take();
            conns[fd].peer = peer;
            conns[peer].peer = fd;
        }
        send_buffer(peer, buffer, len);
        return;
    }
    if (peer == NOBODY) { /* bytes nobody asked for, or after the client left */
        buffer_release(buffer);
        return;
    }
    conns[fd].peer = NOBODY;
    conns[peer].peer = NOBODY;
    floor_pool_put(&pool, fd);
    send_buffer(peer, buffer, len);
}

static void on_recv(int fd, int32_t result, uint32_t flags) {
    bool more = (flags & IORING_CQE_F_MORE) != 0;
    if (result > 0) {
        buffers_out++;
        forward(fd, (uint16_t)(flags >> IORING_CQE_BUFFER_SHIFT), (uint32_t)result);
        if (!more) {
            arm_recv(fd);
        }
    } else if (result == -ENOBUFS) {
        parked.fds[parked.count++] = fd;
    } else {
        conn_end(fd);
    }
}

static void on_accept(int listener, int32_t result, uint32_t flags) {
    if (result >= 0) {
        conn_add(result, SIDE_CLIENT);
    }
    if ((flags & IORING_CQE_F_MORE) == 0) {
        arm_accept(listener);
    }
}

static void on_send(int fd, uint16_t buffer, int32_t result) {
    buffer_release(buffer);
    conns[fd].sends--;
    if (result < 0 && !conns[fd].ended) {
        shutdown(fd, SHUT_RDWR);
    }
    conn_reap(fd);
}

static void dispatch(const struct io_uring_cqe *cqe) {
    int fd = (int)(cqe->user_data & UINT32_MAX);
    switch ((enum OP)(cqe->user_data >> 56)) {
    case OP_ACCEPT:
        on_accept(fd, cqe->res, cqe->flags);
        break;
    case OP_RECV:
        on_recv(fd, cqe->res, cqe->flags);
        break;
    case OP_SEND:
        on_send(fd, (uint16_t)(cqe->user_data >> 32), cqe->res);
        break;
    }
}

/* Arms as many parked receives as there are buffers for them; the rest wait for the next turn. */
static void unpark(void) {
    uint32_t room = BUFFERS - buffers_out;
    while (parked.count > 0 && room > 0) {
        arm_recv(parked.fds[--parked.count]);
        room--;
    }
}

_Noreturn void floor_run_uring(const struct floor_opts *opts) {
    struct net_listen_opts listen_opts = {.port = opts->listen_port, .defer = opts->defer};
    int listener = net_listen(&listen_opts);
    upstream_port = opts->upstream_port;
    ring_init(&ring, ENTRIES);
    ring_buffers_init(&ring, &buffers, BUFFERS, FLOOR_BUFFER);
    arm_accept(listener);
    for (;;) {
        ring_submit_wait(&ring);
        struct io_uring_cqe *cqe;
        while ((cqe = ring_cqe_peek(&ring)) != NULL) {
            struct io_uring_cqe copy = *cqe;
            ring_cqe_done(&ring);
            dispatch(&copy);
        }
        unpark();
    }
}
