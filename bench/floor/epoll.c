/* The message forwarder over epoll: readiness, recv, send. See floor.h for the mode.
 * A message that does not fit one send ends its connection, and the run has an error: it would no
 * longer be a floor. Called by main.c. */
#include "floor.h"

#include "../common/net.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS_MAX = 512, ACCEPT_BATCH = 64, NOBODY = -1 };

enum SIDE { SIDE_NONE, SIDE_CLIENT, SIDE_UPSTREAM };

/* Indexed by descriptor. */
static struct {
    enum SIDE side;
    int peer;
} conns[FLOOR_FDS_MAX];

static struct floor_pool pool;
static char buffer[FLOOR_BUFFER];
static int epfd;
static uint16_t upstream_port;

static void conn_add(int fd, enum SIDE side) {
    if (fd < 0 || fd >= FLOOR_FDS_MAX) {
        bench_die("descriptor");
    }
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event) != 0) {
        bench_die("epoll_ctl");
    }
    conns[fd].side = side;
    conns[fd].peer = NOBODY;
}

static int upstream_take(void) {
    int fd = floor_pool_take(&pool);
    if (fd < 0) {
        fd = net_connect(upstream_port, 0, false);
        conn_add(fd, SIDE_UPSTREAM);
    }
    return fd;
}

static void conn_close(int fd) {
    if (conns[fd].side == SIDE_UPSTREAM && conns[fd].peer == NOBODY) {
        floor_pool_drop(&pool, fd);
    }
    conns[fd].side = SIDE_NONE;
    close(fd);
}

/* Ends fd and, in mid-exchange, the peer with it. */
static void conn_end(int fd) {
    int peer = conns[fd].peer;
    conn_close(fd);
    if (peer != NOBODY) {
        conn_close(peer);
    }
}

static void conn_step(int fd) {
    ssize_t n = recv(fd, buffer, sizeof buffer, 0);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN) {
            conn_end(fd);
        }
        return;
    }
    bool from_client = conns[fd].side == SIDE_CLIENT;
    int peer = from_client && conns[fd].peer == NOBODY ? upstream_take() : conns[fd].peer;
    if (peer == NOBODY || send(peer, buffer, (size_t)n, MSG_NOSIGNAL) != n) {
        conn_end(fd);
        return;
    }
    if (from_client) {
        conns[fd].peer = peer;
        conns[peer].peer = fd;
    } else {
        conns[fd].peer = NOBODY;
        conns[peer].peer = NOBODY;
        floor_pool_put(&pool, fd);
    }
}

static void accept_step(int listener) {
    for (int i = 0; i < ACCEPT_BATCH; i++) {
        int fd = net_accept(listener);
        if (fd < 0) {
            return;
        }
        conn_add(fd, SIDE_CLIENT);
        conn_step(fd);
    }
}

_Noreturn void floor_run_epoll(const struct floor_opts *opts) {
    struct net_listen_opts listen_opts = {.port = opts->listen_port, .defer = opts->defer};
    int listener = net_listen(&listen_opts);
    upstream_port = opts->upstream_port;
    epfd = epoll_create1(EPOLL_CLOEXEC);
    conn_add(listener, SIDE_NONE);
    for (;;) {
        struct epoll_event events[EVENTS_MAX];
        int count = epoll_wait(epfd, events, EVENTS_MAX, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                accept_step(fd);
            } else if (conns[fd].side != SIDE_NONE) {
                conn_step(fd);
            }
        }
    }
}
