/* The bare forwarder that gives the floor: what the kernel charges for moving the bytes, with
 * nothing parsed. Shared by the files of bench/floor.
 *
 * Message mode (epoll and uring): what one recv brought is a message; a client's goes to an idle
 * upstream connection taken from a last-in-first-out pool (a new one when it is empty), what
 * comes back ends the exchange and frees the upstream. True only for messages that fit one
 * buffer: the rows of small responses.
 * Bulk mode (splice): one upstream connection per client connection, bodies through pipes. */
#ifndef WEIR_BENCH_FLOOR_H
#define WEIR_BENCH_FLOOR_H

#include <stdbool.h>
#include <stdint.h>

enum { FLOOR_FDS_MAX = 20000, FLOOR_BUFFER = 4096 };

struct floor_opts {
    uint16_t listen_port;
    uint16_t upstream_port;
    bool defer;       /* TCP_DEFER_ACCEPT on the listener */
    bool splice_up; /* splice client to upstream (POST rows), copy the other way; else reversed */
};

/* Upstream connections that no client uses, last in first out. Zeroed is empty. */
struct floor_pool {
    int fds[FLOOR_FDS_MAX];
    uint32_t count;
};

/* floor_pool_put() keeps an idle upstream; floor_pool_take() returns one or -1 when empty;
 * floor_pool_drop() removes one that was closed by its peer. */
void floor_pool_put(struct floor_pool *pool, int fd);
int floor_pool_take(struct floor_pool *pool);
void floor_pool_drop(struct floor_pool *pool, int fd);

/* The three forwarders; they run until the process is killed. */
_Noreturn void floor_run_epoll(const struct floor_opts *opts);
_Noreturn void floor_run_uring(const struct floor_opts *opts);
_Noreturn void floor_run_splice(const struct floor_opts *opts);

#endif
