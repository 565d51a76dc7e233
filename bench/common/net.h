/* Loopback sockets for the bench programs: listening, connecting, leaving on a fault.
 * Deliberately nothing but 127.0.0.0/8, and no error recovery: a bench that cannot open its
 * sockets has no result. Called by bench/load and bench/floor. */
#ifndef WEIR_BENCH_NET_H
#define WEIR_BENCH_NET_H

#include <stdbool.h>
#include <stdint.h>

struct net_listen_opts {
    uint16_t port;
    bool defer; /* TCP_DEFER_ACCEPT: accept only once the client has sent something */
};

/* bench_die() prints "program: message: errno text" and exits 1. */
_Noreturn void bench_die(const char *what);

/* bench_now_ns() is CLOCK_MONOTONIC in nanoseconds. */
uint64_t bench_now_ns(void);

/* bench_number() reads a decimal of at most `max`; leaves with exit code 2 when it is not one. */
uint64_t bench_number(const char *name, const char *text, uint64_t max);

/* bench_pin() pins the calling thread to one core; a negative core leaves it as it is. */
void bench_pin(int core);

/* net_listen() is a non-blocking listener on 127.0.0.1; leaves the program when it cannot be. */
int net_listen(const struct net_listen_opts *opts);

/* net_connect() starts a connection to 127.0.0.1:port. `source` is the last octet of the
 * local address 127.0.1.x, 0 for the kernel's choice; spreading sources keeps TIME_WAIT from
 * using up the ports. Returns the descriptor or -errno. */
int net_connect(uint16_t port, uint8_t source, bool nonblock);

/* net_accept() is the next waiting connection (non-blocking, TCP_NODELAY) or -errno. */
int net_accept(int listener);

#endif
